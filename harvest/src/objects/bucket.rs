//! Requests to a bucket: what is there, a range of an object, an object that is put whole, in parts, or only if there is none. Repeats
//! what failed for a while, and says why it gave up, without repeating credentials.

use super::transport::Connector;
use super::url::{ObjectUrl, Scheme};
use super::{number_from_env, object_error};
use crate::{Error, Result};
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, GetOptions, GetRange, ObjectMeta, ObjectStore, PutMode, PutPayload, RetryConfig};
use sae_core::error::Hint;
use sae_core::store::brief;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that are read or sent at once.
pub(super) const PART: u64 = 8 << 20;

/// Parts of an object that is sent in parts: services allow 10,000.
const PARTS: u64 = 9_000;

/// How often a waiting request looks whether it should stop.
const TICK: Duration = Duration::from_millis(200);

/// A signature is not valid for longer than some minutes, so that a request is repeated for this long, and then signed again.
const SIGNED: Duration = Duration::from_secs(120);

/// The first pause before a request is repeated, and the longest one. Pauses double, with some chance.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(15)];

/// What services answer if there is no bucket. Where there is only no object, they answer something else.
const NO_BUCKET: [&str; 2] = ["<Code>NoSuchBucket</Code>", "<Code>ContainerNotFound</Code>"];

/// For how long requests that fail are repeated, in seconds, unless this variable says otherwise.
const RETRY_SECONDS: (&str, u64) = ("SAE_OBJECT_RETRY_SECONDS", 900);

/// Called again and again while a request waits; an error ends it.
pub(super) type Waiting<'a> = &'a mut dyn FnMut() -> Result<()>;

/// What every service can do.
trait Service: ObjectStore + PaginatedListStore + MultipartStore {}
impl<T: ObjectStore + PaginatedListStore + MultipartStore> Service for T {}

/// A bucket.
pub(super) struct Bucket {
    root: ObjectUrl,
    service: Arc<dyn Service>,
    patience: Duration,
}

/// An object as a bucket describes it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub key: String,
    pub bytes: u64,
    /// What changes with the content: the ETag or, of a service without one, the time of the last change.
    pub tag: String,
    e_tag: Option<String>,
}

impl Object {
    /// The tag as part of a file's name.
    pub fn tag_name(&self) -> String {
        self.tag.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
    }
}

impl From<ObjectMeta> for Object {
    fn from(meta: ObjectMeta) -> Self {
        let tag = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
        Self { key: meta.location.to_string(), bytes: meta.size, tag, e_tag: meta.e_tag }
    }
}

/// How a request that was understood ended.
#[must_use]
enum Answer<T> {
    Done(T),
    /// There is no such object.
    Missing,
    /// There is an object already, or it is not the one that was expected.
    Differs,
    /// The object is the one that is known.
    Unchanged,
}

/// An object that was asked for by somebody who may know it.
pub(super) enum Known {
    Unchanged,
    Missing,
    New(Object, Bytes),
    /// It has this many bytes, more than the limit, and was not read.
    TooLarge(u64),
}

impl Bucket {
    /// The bucket of an address, with the credentials of the environment. Sends no request.
    ///
    /// # Errors
    /// The environment lacks something, contradicts itself, or has an invalid value.
    pub fn open(url: &ObjectUrl) -> Result<Self> {
        let patience = Duration::from_secs(number_from_env(RETRY_SECONDS, "seconds")?);
        let backoff = BackoffConfig { init_backoff: PAUSES[0], max_backoff: PAUSES[1], base: 2.0 };
        let retry = RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: patience.min(SIGNED) };
        let service: object_store::Result<Arc<dyn Service>> = match url.scheme {
            Scheme::S3 => {
                let s3 = AmazonS3Builder::from_env().with_bucket_name(url.bucket()).with_retry(retry);
                s3.with_http_connector(Connector).build().map(|s3| Arc::new(s3) as _)
            }
            Scheme::Gs => {
                let gs = GoogleCloudStorageBuilder::from_env().with_bucket_name(url.bucket()).with_retry(retry);
                gs.with_http_connector(Connector).build().map(|gs| Arc::new(gs) as _)
            }
            Scheme::Az => {
                let az = MicrosoftAzureBuilder::from_env().with_container_name(url.bucket()).with_retry(retry);
                az.with_http_connector(Connector).build().map(|az| Arc::new(az) as _)
            }
        };
        let root = ObjectUrl::new(url.scheme, url.bucket(), "");
        let service =
            service.map_err(|error| object_error(&root, error.to_string()).with_hint(credentials(url.scheme)))?;
        Ok(Self { root, service, patience })
    }

    /// The address of a key.
    pub fn url(&self, key: &str) -> ObjectUrl {
        self.root.join(key)
    }

    /// Describes an object, if there is one.
    pub fn head(&self, key: &str, wait: Waiting) -> Result<Option<Object>> {
        let path = self.path(key)?;
        let ask = |head: bool| {
            let range = (!head).then_some(GetRange::Bounded(0..1));
            let options = GetOptions { head, range, ..GetOptions::default() };
            self.service.get_opts(&path, options)
        };
        let begun = Instant::now();
        match self.request(key, wait, || ask(true)) {
            Ok(Answer::Done(found)) => Ok(Some(found.meta.into())),
            Ok(_) => Ok(None),
            // The answer has no body, so that it does not say why. The one to the same question about the content does.
            Err(error @ (Error::Objects { .. } | Error::Hinted { .. })) if begun.elapsed() < self.patience => {
                self.request(key, wait, || ask(false)).and(Err(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Calls `each` with every object below a folder, in the order of the service, until it returns `false`. A service answers with
    /// up to a thousand at once.
    pub fn list(&self, folder: &str, wait: Waiting, each: &mut dyn FnMut(Object) -> Result<bool>) -> Result<()> {
        let prefix = if folder.is_empty() { None } else { Some(format!("{folder}/")) };
        let mut page_token = None;
        loop {
            let answer = self.request(folder, wait, || async {
                let options =
                    PaginatedListOptions { page_token: page_token.clone(), ..PaginatedListOptions::default() };
                self.service.list_paginated(prefix.as_deref(), options).await
            })?;
            let Answer::Done(page) = answer else { return Err(self.error(folder, "there is no such bucket")) };
            for meta in page.result.objects {
                // Some programs store an empty object in the place of a folder.
                if meta.size == 0 && meta.location.as_ref() == folder {
                    continue;
                }
                if !each(meta.into())? {
                    return Ok(());
                }
            }
            page_token = page.page_token;
            if page_token.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads a range of an object.
    ///
    /// # Errors
    /// The object is no longer the one that is described.
    pub fn read(&self, object: &Object, range: Range<u64>, wait: Waiting) -> Result<Bytes> {
        let path = self.path(&object.key)?;
        let length = range.end - range.start;
        let answer = self.request(&object.key, wait, || async {
            let range = Some(GetRange::Bounded(range.clone()));
            let options = GetOptions { if_match: object.e_tag.clone(), range, ..GetOptions::default() };
            self.service.get_opts(&path, options).await?.bytes().await
        })?;
        match answer {
            Answer::Done(bytes) if bytes.len() as u64 == length => Ok(bytes),
            Answer::Done(bytes) => {
                Err(self.error(&object.key, format!("expected {length} bytes, the storage sent {}", bytes.len())))
            }
            Answer::Missing => Err(self.error(&object.key, "the object was removed while it was read")),
            _ => Err(self
                .error(&object.key, "the object was replaced while it was read")
                .with_hint(Hint::from("run the command again when nobody writes to the object"))),
        }
    }

    /// Reads an object as a whole, unless it is the one with this ETag.
    pub fn get(&self, key: &str, known: Option<&str>, limit: u64, wait: Waiting) -> Result<Known> {
        let path = self.path(key)?;
        let answer = self.request(key, wait, || async {
            let options = GetOptions { if_none_match: known.map(str::to_owned), ..GetOptions::default() };
            let found = self.service.get_opts(&path, options).await?;
            let object = Object::from(found.meta.clone());
            let bytes = if object.bytes > limit { None } else { Some(found.bytes().await?) };
            Ok((object, bytes))
        })?;
        match answer {
            Answer::Done((object, Some(bytes))) => Ok(Known::New(object, bytes)),
            Answer::Done((object, None)) => Ok(Known::TooLarge(object.bytes)),
            Answer::Missing => Ok(Known::Missing),
            Answer::Unchanged | Answer::Differs => Ok(Known::Unchanged),
        }
    }

    /// Writes an object if there is none of this key. Returns whether it did. A request whose answer was lost is repeated and then
    /// finds its own object, so that `false` does not mean that somebody else wrote it.
    pub fn put_new(&self, key: &str, content: &[u8], wait: Waiting) -> Result<bool> {
        let (path, payload) = (self.path(key)?, PutPayload::from(content.to_vec()));
        let answer = self.request(key, wait, || async {
            self.service.put_opts(&path, payload.clone(), PutMode::Create.into()).await
        })?;
        Ok(matches!(answer, Answer::Done(_)))
    }

    /// Writes an object of `bytes` bytes with this hash, in parts if it is large. `sent` is called with the number of bytes that are
    /// there.
    ///
    /// # Errors
    /// The content has another size or hash, and is not there then; the storage refuses it; an error of `sent`.
    pub fn put(
        &self,
        key: &str,
        content: &mut dyn Read,
        bytes: u64,
        blake3: &str,
        sent: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(key)?;
        let mut done = 0;
        if bytes <= PART {
            let payload = self.next(key, content, bytes)?;
            self.check(key, blake3, blake3::hash(&payload))?;
            let payload = PutPayload::from(payload);
            let answer = self.request(key, &mut || sent(0), || {
                self.service.put_opts(&path, payload.clone(), PutMode::Overwrite.into())
            })?;
            return match answer {
                Answer::Done(_) => sent(bytes),
                _ => Err(self
                    .error(key, "the storage rejected the object because of a conflicting request")
                    .with_hint(Hint::from("run the same command again, which continues"))),
            };
        }
        let part = PART.max(bytes.div_ceil(PARTS));
        let Answer::Done(upload) = self.request(key, &mut || sent(0), || self.service.create_multipart(&path))? else {
            return Err(self.error(key, "there is no such bucket"));
        };
        let (mut parts, mut hasher): (Vec<PartId>, _) = (Vec::new(), blake3::Hasher::new());
        let uploaded = (|| {
            while done < bytes {
                let payload = self.next(key, content, part.min(bytes - done))?;
                hasher.update(&payload);
                let payload = PutPayload::from(payload);
                let number = parts.len();
                let answer = self.request(key, &mut || sent(done), || {
                    self.service.put_part(&path, &upload, number, payload.clone())
                })?;
                let Answer::Done(id) = answer else { return Err(self.error(key, "the upload was aborted")) };
                parts.push(id);
                done += payload.content_length() as u64;
                sent(done)?;
            }
            self.check(key, blake3, hasher.finalize())?;
            self.request(key, &mut || sent(done), || self.service.complete_multipart(&path, &upload, parts.clone()))
        })();
        match uploaded {
            Ok(Answer::Done(_)) => Ok(()),
            // The storage has completed it, and its answer was lost.
            Ok(_) if self.head(key, &mut || sent(done))?.is_some_and(|object| object.bytes == bytes) => Ok(()),
            Ok(_) => Err(self.error(key, "the upload was aborted")),
            Err(error) => {
                // Otherwise its parts would be paid for until somebody finds them.
                let abort = || async {
                    let aborted = self.service.abort_multipart(&path, &upload);
                    tokio::time::timeout(SIGNED, aborted).await.ok()
                };
                let _ = runtime().map(|runtime| runtime.block_on(abort()));
                Err(error)
            }
        }
    }

    fn next(&self, key: &str, content: &mut dyn Read, bytes: u64) -> Result<Vec<u8>> {
        let mut part = Vec::with_capacity(bytes as usize);
        let read = content.take(bytes).read_to_end(&mut part);
        match read {
            Ok(read) if read as u64 == bytes => Ok(part),
            Ok(_) => Err(self.error(key, "the file became shorter while it was sent")),
            Err(error) => Err(self.error(key, format!("the file cannot be read ({error})"))),
        }
    }

    /// Rejects content that is no longer what was hashed before.
    fn check(&self, key: &str, expected: &str, found: blake3::Hash) -> Result<()> {
        if found.to_hex().as_str() == expected {
            return Ok(());
        }
        let hint = Hint::from("push again when nobody writes to the file");
        Err(self.error(key, "the file changed while it was pushed").with_hint(hint))
    }

    fn path(&self, key: &str) -> Result<Key> {
        Key::parse(key).map_err(|error| self.error(key, error.to_string()))
    }

    fn error(&self, key: &str, cause: impl Into<String>) -> Error {
        object_error(&self.url(key), cause)
    }

    /// Sends a request until it is answered, for as long as failures may be temporary and there is patience.
    fn request<T, F>(&self, key: &str, wait: Waiting, send: impl Fn() -> F) -> Result<Answer<T>>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let runtime = runtime().map_err(|error| self.error(key, format!("cannot start the timer ({error})")))?;
        let (begun, mut pause) = (Instant::now(), PAUSES[0]);
        loop {
            wait()?;
            let answer = runtime.block_on(async {
                let mut sent = std::pin::pin!(send());
                loop {
                    match tokio::time::timeout(TICK, &mut sent).await {
                        Ok(answer) => return Ok::<_, Error>(answer),
                        Err(_) => wait()?,
                    }
                }
            });
            let error = match answer? {
                Ok(done) => return Ok(Answer::Done(done)),
                Err(error @ object_store::Error::NotFound { .. }) => {
                    let text = error.to_string();
                    if !NO_BUCKET.iter().any(|code| text.contains(code)) {
                        return Ok(Answer::Missing);
                    }
                    let hint = Hint::from("check the name and the endpoint, or create it");
                    return Err(self.error(key, "there is no such bucket").with_hint(hint));
                }
                Err(object_store::Error::NotModified { .. }) => return Ok(Answer::Unchanged),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    return Ok(Answer::Differs);
                }
                Err(error) => error,
            };
            if !is_temporary(&error) || begun.elapsed() >= self.patience {
                return Err(self.failed(key, &error, begun.elapsed()));
            }
            let again = Instant::now() + pause.min(self.patience.saturating_sub(begun.elapsed()));
            while let Some(rest) = again.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
                wait()?;
                std::thread::sleep(rest.min(TICK));
            }
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// The error in words: what the service said, but neither its whole answer nor the request.
    fn failed(&self, key: &str, error: &object_store::Error, time: Duration) -> Error {
        let text = error.to_string();
        let said = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            Some(rest.split_once('<')?.0.trim().to_owned())
        };
        let cause = match (status(&text), said("Code")) {
            (Some(status), Some(code)) => {
                let message = said("Message").map(|message| format!(": {message}")).unwrap_or_default();
                format!("the storage returned status {status} ({code}{message})")
            }
            (Some(status), None) => format!("the storage returned status {status}"),
            (None, _) => match http_error(error) {
                Some(error) => format!("cannot reach the storage ({})", inner(error)),
                None => brief(&text),
            },
        };
        let has_expired = ["ExpiredToken", "RequestExpired", "TokenExpired", "token has expired"];
        if has_expired.iter().any(|code| text.contains(code)) {
            return self
                .error(key, format!("the credentials have expired: {cause}"))
                .with_hint(Hint::from("renew them and run the same command again, which continues"));
        }
        if is_temporary(error) {
            let hint =
                format!("run the same command again, which continues; {} sets for how long it tries", RETRY_SECONDS.0);
            return self.error(key, format!("{cause}, for {} s", time.as_secs())).with_hint(Hint::from(hint));
        }
        match status(&text) {
            Some(401 | 403) => self.error(key, cause).with_hint(credentials(self.root.scheme)),
            None if text.contains("169.254.") || text.contains("metadata.google") => {
                self.error(key, format!("no credentials were found: {cause}")).with_hint(credentials(self.root.scheme))
            }
            _ => self.error(key, cause),
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}

/// Where credentials are read from.
fn credentials(scheme: Scheme) -> Hint {
    Hint::from(match scheme {
        Scheme::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL), or run on \
             a machine with a role"
        }
        Scheme::Gs => {
            "set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials, or run on a machine with a service account"
        }
        Scheme::Az => {
            "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or those of another kind of credentials"
        }
    })
}

/// Whether the same request may succeed later.
fn is_temporary(error: &object_store::Error) -> bool {
    use HttpErrorKind::{Connect, Interrupted, Request, Timeout};
    if !matches!(error, object_store::Error::Generic { .. }) {
        return false;
    }
    match status(&error.to_string()) {
        Some(status) => status >= 500 || [408, 429].contains(&status),
        None => {
            http_error(error).is_some_and(|error| matches!(error.kind(), Connect | Interrupted | Request | Timeout))
        }
    }
}

/// The status of an answer that is an error. `object_store` keeps it to itself but for this text.
fn status(text: &str) -> Option<u16> {
    text.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

fn http_error(error: &object_store::Error) -> Option<&HttpError> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

fn inner(error: &HttpError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
