//! Addresses: which page or file each has, and the checks before any of them. Pages are made on threads of their own, where a
//! reader that panics on a damaged file costs one answer.

use super::edits::{EDIT_BYTES, Edits};
use super::files::{FileList, TableFile};
use super::guard::{check_host, check_path, cookie, cookie_name};
use super::pages::contrast::ContrastView;
use super::pages::feature::{Edit, FeaturePage};
use super::pages::features::FeaturesView;
use super::pages::filter::FilterView;
use super::pages::run::RunView;
use super::pages::sample::SampleView;
use super::pages::{Shell, View};
use super::params::{Params, address};
use super::problem::Problem;
use super::site::Site;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, RawPathParams, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;
use std::sync::Arc;

/// What pages may load: what this server has. Heat maps have styles of their own.
const POLICY: &str = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'";
/// The script that fetches what comes later.
const SCRIPT: &str = include_str!("serve.js");
/// Bytes of a form at most: a page of notes.
const FORM: usize = 1 << 18;
/// Longest side of an image in pixels, if the request names none.
const SIDE: usize = 640;
/// The longest side that a request can name.
const MOST_SIDE: usize = 2048;

/// What every address knows.
#[derive(Clone)]
pub struct Served {
    /// The run.
    pub site: Arc<Site>,
    /// The port, which is part of the cookie's name.
    pub port: u16,
}

/// How the one who asks has shown the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// In the address: links need it as well, since there may be no cookie.
    Address,
    /// In a header that browsers do not send on their own.
    Header,
    /// In the cookie, which is not enough to write.
    Cookie,
    /// Not, or not yet: a form has it in its body.
    Nowhere,
}

/// All addresses.
pub fn router(served: Served) -> Router {
    let router = Router::new()
        .route("/", get(|| async { found("/features") }))
        .route("/serve.js", get(|| async { file("text/javascript", SCRIPT.into()) }))
        .route("/f/{feature}", post(edit))
        .route("/api/features/{feature}", post(change))
        .route("/api/labels", post(edits).layer(DefaultBodyLimit::max(EDIT_BYTES)));
    let router = resource(router, "/image/{sample}/{image}", image);
    let router = resource(router, "/api/files", files);
    let router = resource(router, "/api/files/{*path}", piece);
    let router = page(router, ["/features", "/api/features"], |site, _, params| FeaturesView::new(site, params));
    let router = page(router, ["/f/{feature}", "/api/features/{feature}"], |site, name, params| {
        FeaturePage::new(site, name, params)
    });
    let router = page(router, ["/s/{sample}", "/api/samples/{sample}"], |site, name, params| {
        SampleView::new(site, name, params)
    });
    let router = page(router, ["/filter", "/api/filter"], |site, _, params| FilterView::new(site, params));
    let router = page(router, ["/contrast/{name}", "/api/contrasts/{name}"], |site, name, params| {
        ContrastView::new(site, name, params)
    });
    let router = page(router, ["/run", "/api/run"], |site, _, params| RunView::new(site, params));
    router
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(FORM))
        .layer(from_fn_with_state(served.clone(), guard))
        .with_state(served)
}

/// Adds the two addresses of a page, as HTML and as JSON.
fn page<V: View + Send + 'static>(
    router: Router<Served>,
    [html, api]: [&str; 2],
    view: fn(&Site, &str, &Params) -> Result<V, Problem>,
) -> Router<Served> {
    let answer = move |served: Served, names: RawPathParams, uri: Uri, shown: Shown| async move {
        let is_api = uri.path().starts_with("/api/");
        blocking(served.site.clone(), uri.clone(), shown, move |site, params| {
            let name = names.iter().next().map(|(_, name)| name).unwrap_or_default();
            let view = view(site, name, params)?;
            Ok(if is_api { json_of(&view)? } else { html_of(site, &uri, shown, &view) })
        })
        .await
    };
    let handler = move |State(served): State<Served>,
                        names: RawPathParams,
                        uri: Uri,
                        Extension(shown): Extension<Shown>| { answer(served, names, uri, shown) };
    router.route(html, get(handler)).route(api, get(handler))
}

/// Runs something that reads files on a thread of its own.
async fn blocking(
    site: Arc<Site>,
    uri: Uri,
    shown: Shown,
    make: impl FnOnce(&Site, &Params) -> Result<Response, Problem> + Send + 'static,
) -> Response {
    let params = Params::parse(uri.query().unwrap_or_default().as_bytes());
    let worker = site.clone();
    let made = tokio::task::spawn_blocking(move || make(&worker, &params)).await;
    // The thread panicked: a file that is damaged in a way that nobody has thought of.
    let made =
        made.unwrap_or_else(|_| Err(Problem::failed("The page could not be made: a file of the run is damaged.")));
    made.unwrap_or_else(|problem| refused(Some(&site), &uri, shown, &problem))
}

/// Adds an address whose answer is made from the names in its path and from its parameters.
fn resource(
    router: Router<Served>,
    path: &str,
    make: fn(&Site, &[String], &Params) -> Result<Response, Problem>,
) -> Router<Served> {
    let handler =
        move |State(served): State<Served>, names: RawPathParams, uri: Uri, Extension(shown): Extension<Shown>| {
            let names: Vec<String> = names.iter().map(|(_, name)| name.to_owned()).collect();
            blocking(served.site, uri, shown, move |site, params| make(site, &names, params))
        };
    router.route(path, get(handler))
}

/// An image of a sample.
fn image(site: &Site, names: &[String], params: &Params) -> Result<Response, Problem> {
    let side = params.number("side", SIDE)?.clamp(1, MOST_SIDE);
    let numbers: Vec<Option<u32>> = names.iter().map(|number| number.parse().ok()).collect();
    let [Some(sample), Some(image)] = numbers[..] else { return Err(Problem::not_found("there is no such image")) };
    let found =
        site.lookup()?.sample(sample)?.ok_or_else(|| Problem::not_found(format!("the run has no sample {sample}")))?;
    let unknown = || Problem::not_found(format!("sample {sample} has no image {image}"));
    let reference = found.images.get(image as usize).ok_or_else(unknown)?;
    let picture =
        site.images.read(reference, &found.source, side).map_err(|error| Problem::not_found(error.to_string()))?;
    let jpeg = picture.jpeg().map_err(|error| Problem::failed(error.to_string()))?;
    let mut response = file("image/jpeg", jpeg.into());
    // The image of a sample is known by its hash, and so always the same.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400"));
    Ok(response)
}

/// The tables of the run, for programs that read them elsewhere.
fn files(site: &Site, _: &[String], _: &Params) -> Result<Response, Problem> {
    json_of(&FileList::read(&site.run)?)
}

/// A piece of a table.
fn piece(site: &Site, names: &[String], params: &Params) -> Result<Response, Problem> {
    let path = names.first().cloned().unwrap_or_default();
    let table = TableFile { path, bytes: params.number("bytes", 0)?, modified: params.number("modified", 0)? };
    Ok(file("application/octet-stream", table.piece(&site.run, params.number("at", 0)?)?.into()))
}

/// The answer to a form: the page again, by a redirect unless there is something to say.
async fn edit(
    State(served): State<Served>,
    names: RawPathParams,
    uri: Uri,
    Extension(shown): Extension<Shown>,
    body: Bytes,
) -> Response {
    let feature = names.iter().next().map(|(_, name)| name.to_owned()).unwrap_or_default();
    blocking(served.site, uri.clone(), shown, move |site, params| {
        let form = Params::parse(&body);
        let is_in_form = form.get("token").is_some_and(|token| site.token.is(token));
        if !is_in_form && !matches!(shown, Shown::Address | Shown::Header) {
            return Err(unauthorized());
        }
        let saved = FeaturePage::edit(site, &feature, &form)?;
        if saved.conflicts.is_empty() && saved.moved.is_none() {
            let path = format!("/f/{feature}");
            return Ok(found(&Shell::new(site, "", shown == Shown::Address).to(&path, &[])));
        }
        let page = FeaturePage { saved: Some(saved), ..FeaturePage::new(site, &feature, params)? };
        Ok(html_of(site, &uri, shown, &page))
    })
    .await
}

/// An edit by a program.
async fn change(
    State(served): State<Served>,
    names: RawPathParams,
    uri: Uri,
    Extension(shown): Extension<Shown>,
    body: Bytes,
) -> Response {
    let feature = names.iter().next().map(|(_, name)| name.to_owned()).unwrap_or_default();
    blocking(served.site, uri, shown, move |site, _| {
        if !matches!(shown, Shown::Address | Shown::Header) {
            return Err(unauthorized());
        }
        let edit: Result<Edit, _> = serde_json::from_slice(&body);
        let edit =
            edit.map_err(|error| Problem::invalid(format!("expected {{\"before\": ..., \"after\": ...}}: {error}")))?;
        let saved = FeaturePage::change(site, &feature, edit)?;
        json_of(&FeaturePage::report(site, &feature, saved)?)
    })
    .await
}

/// Edits by a program of what is written about an autoencoder's features.
async fn edits(State(served): State<Served>, uri: Uri, Extension(shown): Extension<Shown>, body: Bytes) -> Response {
    blocking(served.site, uri, shown, move |site, _| {
        if !matches!(shown, Shown::Address | Shown::Header) {
            return Err(unauthorized());
        }
        json_of(&Edits::parse(&body)?.save(site)?)
    })
    .await
}

async fn nothing(State(served): State<Served>, uri: Uri, Extension(shown): Extension<Shown>) -> Response {
    let problem = Problem::not_found("There is nothing at this address. The pages are linked above.");
    refused(Some(&served.site), &uri, shown, &problem)
}

/// Checks every request before anything is read for it, and adds the headers of every answer.
async fn guard(State(served): State<Served>, mut request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let params = Params::parse(uri.query().unwrap_or_default().as_bytes());
    let shown = shown(&served, headers, &params);
    let is_form = request.method() == axum::http::Method::POST;
    let allowed = check_host(host).and_then(|()| check_path(uri.path())).and_then(|()| match shown {
        Shown::Nowhere if !is_form => Err(unauthorized()),
        _ => Ok(()),
    });
    let is_document = headers.get("sec-fetch-dest").is_some_and(|kind| kind == "document");
    let mut response = match allowed {
        Err(problem) => refused(None, &uri, Shown::Nowhere, &problem),
        // A browser that shows a whole page keeps the cookie: the address is better without the secret.
        Ok(()) if shown == Shown::Address && is_document && !is_form => found(&without_token(&uri)),
        Ok(()) => {
            request.extensions_mut().insert(shown);
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    if shown == Shown::Address {
        let (name, token) = (cookie_name(served.port), served.site.token.reveal());
        let cookie = format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax");
        // A token is of digits, so that this is always a header.
        headers.extend(HeaderValue::from_str(&cookie).ok().map(|cookie| (SET_COOKIE, cookie)));
    }
    let fixed = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not stricter: a browser would then hide the origin of a form.
        (REFERRER_POLICY, "same-origin"),
    ];
    fixed.into_iter().for_each(|(name, value)| set(headers, name, value));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

/// Where a request has the right token.
fn shown(served: &Served, headers: &HeaderMap, params: &Params) -> Shown {
    let token = &served.site.token;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if params.get("token").is_some_and(|text| token.is(text)) {
        return Shown::Address;
    }
    if text(AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer ")).is_some_and(|text| token.is(text)) {
        return Shown::Header;
    }
    let name = cookie_name(served.port);
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let is_kept = cookies.filter_map(|header| cookie(header, &name)).any(|text| token.is(text));
    if is_kept { Shown::Cookie } else { Shown::Nowhere }
}

fn unauthorized() -> Problem {
    Problem::forbidden("This needs the token: open the address that `sae serve` has printed.")
}

/// The same address without the token.
fn without_token(uri: &Uri) -> String {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let pairs: Vec<_> = pairs.into_owned().filter(|(name, _)| name != "token").collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // Two slashes at the beginning would be the address of another host.
    address(&format!("/{}", uri.path().trim_start_matches('/')), &pairs)
}

fn html_of(site: &Site, uri: &Uri, shown: Shown, view: &impl View) -> Response {
    let shell = Shell::new(site, uri.path(), shown == Shown::Address);
    let main = view.main(&shell);
    file("text/html; charset=utf-8", shell.document(&view.title(), main).into())
}

fn json_of(value: &impl serde::Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_string(value).map_err(|error| Problem::failed(error.to_string()))?;
    Ok(file("application/json", text.into()))
}

/// An answer that says why there is no other. The way to other pages is only shown to those who may see them.
fn refused(site: Option<&Site>, uri: &Uri, shown: Shown, problem: &Problem) -> Response {
    let mut response = match site {
        _ if uri.path().starts_with("/api/") => {
            file("application/json", json!({ "error": problem.to_string() }).to_string().into())
        }
        Some(site) => {
            let shell = Shell::new(site, uri.path(), shown == Shown::Address);
            file("text/html; charset=utf-8", shell.problem(problem).into())
        }
        None => file("text/plain; charset=utf-8", format!("{}: {problem}\n", problem.title()).into()),
    };
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn file(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    set(response.headers_mut(), CONTENT_TYPE, kind);
    response
}

fn found(address: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // An address is made of what can be in a header.
    response.headers_mut().extend(HeaderValue::from_str(address).ok().map(|address| (LOCATION, address)));
    response
}
