//! The requests of `object_store`, sent by the crate's own HTTP client, so that there is one client with one set of bounds. An answer
//! is held in memory: the body of one that is larger than an image may be is not read.

use crate::net;
use bytes::Bytes;
use http_body::Body;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpService,
};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Request, Response};

/// Size of the largest image file that is read, in bytes, and so of the largest answer.
pub(crate) const IMAGE_FILE_LIMIT: u64 = 1 << 28;

/// Time for a request about the credentials of this machine, which is not in a cloud if nobody answers.
const CREDENTIALS: Duration = Duration::from_secs(2);

/// Makes the client of a bucket, and the one that asks for credentials.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Addresses of the machine itself, which answer with its credentials, are asked with these options.
        let own = ClientOptions::new().with_allow_http(true).with_connect_timeout(Duration::from_secs(1));
        let is_own = [ClientConfigKey::AllowHttp, ClientConfigKey::ConnectTimeout]
            .iter()
            .all(|key| options.get_config_value(key) == own.get_config_value(key));
        Ok(HttpClient::new(Transport(net::agent(is_own.then_some(CREDENTIALS)))))
    }
}

#[derive(Debug)]
struct Transport(Agent);

/// What `object_store` declares with `async_trait`, written out.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Transport {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        // Each thread waits for one request at a time, and for nothing else meanwhile.
        Box::pin(async move { self.send(request) })
    }
}

impl Transport {
    fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let takes_body = !["GET", "HEAD", "DELETE"].contains(&parts.method.as_str());
        let answer = if takes_body {
            self.run(Request::from_parts(parts, content(body)?))
        } else {
            self.run(Request::from_parts(parts, ()))
        };
        let (parts, mut body) = answer.map_err(failure)?.into_parts();
        // The headers suffice to say that an object is too large.
        let bytes = if body.content_length().is_some_and(|length| length > IMAGE_FILE_LIMIT) {
            Vec::new()
        } else {
            body.with_config().limit(IMAGE_FILE_LIMIT).read_to_vec().map_err(failure)?
        };
        Ok(Response::from_parts(parts, bytes.into()))
    }

    fn run(&self, request: Request<impl ureq::AsSendBody>) -> Result<Response<ureq::Body>, ureq::Error> {
        // A signature is for one server.
        let request = self.0.configure_request(request).max_redirects(0).max_redirects_will_error(false).build();
        self.0.run(request)
    }
}

/// The content of a request, which is in memory already.
fn content(mut body: HttpRequestBody) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::with_capacity(body.content_length());
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
        bytes.extend_from_slice(&frame?.into_data().unwrap_or_else(|_| Bytes::new()));
    }
    Ok(bytes)
}

fn failure(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => HttpErrorKind::Connect,
        ureq::Error::Io(_) | ureq::Error::Protocol(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
