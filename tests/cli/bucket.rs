//! A bucket with the protocol of S3, as far as the program uses it, on a local server: objects with ETags, ranges, conditions, lists,
//! uploads in parts. Fails when a test says so.

use crate::server::{Answer, Server};
use crate::tool::sae;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

type Objects = BTreeMap<String, Vec<u8>>;

/// What happens to a request instead of its answer: `(method, path)` -> what goes wrong, if anything.
type Fault = Box<dyn FnMut(&str, &str) -> Option<Trouble> + Send>;

/// What can go wrong.
pub enum Trouble {
    /// An error response.
    Status(u16, &'static str),
    /// The connection ends in the middle of the answer. What was asked for happens.
    Cut,
    /// The headers say that the object has this many bytes.
    Size(&'static str),
}

#[derive(Default)]
struct State {
    objects: Objects,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    fault: Option<Fault>,
    /// Methods and paths of all requests.
    log: Vec<String>,
}

/// The bucket `lab`.
pub struct Bucket {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Bucket {
    pub fn new() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let server = Server::with_method(move |method, path, headers, body| {
            let mut state = shared.lock().unwrap();
            state.log.push(format!("{method} {path}"));
            let trouble = state.fault.as_mut().and_then(|fault| fault(method, path));
            match trouble {
                // An answer to HEAD has no body, so that it cannot say why.
                Some(Trouble::Status(status, _)) if method == "HEAD" => Answer::new(status),
                Some(Trouble::Status(status, body)) => Answer::ok(body.into()).status(status),
                Some(Trouble::Cut) => {
                    state.answer(method, path, headers, body);
                    Answer::ok(b"<".to_vec()).header("content-length", "1000")
                }
                Some(Trouble::Size(bytes)) => state.answer(method, path, headers, body).header("content-length", bytes),
                None => state.answer(method, path, headers, body),
            }
        });
        Self { server, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The program with the address of this bucket, and copies in a folder.
    pub fn sae(&self, copies: &Path) -> Command {
        let mut command = sae();
        for variable in ["AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION"] {
            command.env_remove(variable);
        }
        command.env("AWS_ENDPOINT_URL", &self.server.address).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "test-key").env("AWS_SECRET_ACCESS_KEY", "test-secret");
        command.env("SAE_OBJECT_CACHE", copies).env("SAE_OBJECT_RETRY_SECONDS", "20");
        command
    }

    /// Stores an object.
    pub fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        self.state().objects.insert(key.into(), content.into());
    }

    /// Stores the files below a folder, without those whose names begin with a dot.
    pub fn put_folder(&self, key: &str, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            let key = format!("{key}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                self.put_folder(&key, &entry.path());
            } else {
                self.put(&key, fs::read(entry.path()).unwrap());
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).cloned()
    }

    pub fn remove(&self, key: &str) {
        self.state().objects.remove(key).unwrap();
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// What goes wrong from now on.
    pub fn fail(&self, fault: impl FnMut(&str, &str) -> Option<Trouble> + Send + 'static) {
        self.state().fault = Some(Box::new(fault));
    }

    pub fn recover(&self) {
        self.state().fault = None;
    }
}

fn tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn header<'a>(headers: &'a [String], name: &str) -> Option<&'a str> {
    headers.iter().find_map(|header| header.strip_prefix(name)?.strip_prefix(": "))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = (*first == b'%').then(|| u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
        bytes.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap()
}

impl State {
    fn answer(&mut self, method: &str, path: &str, headers: &[String], body: &[u8]) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query: BTreeMap<&str, String> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name, decoded(value)))
            .collect();
        let Some(key) = path.strip_prefix("/lab") else {
            return Answer::ok(b"<Error><Code>NoSuchBucket</Code></Error>".to_vec()).status(404);
        };
        let key = decoded(key.trim_start_matches('/'));
        match method {
            "GET" if query.contains_key("list-type") => self.list(&query),
            "GET" | "HEAD" => self.read(method, &key, headers),
            "POST" if query.contains_key("uploads") => {
                let id = format!("upload-{}", self.uploads.len());
                self.uploads.insert(id.clone(), BTreeMap::new());
                let xml =
                    format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
                Answer::ok(xml.into_bytes())
            }
            "POST" => {
                let parts = self.uploads.remove(&query["uploadId"]).unwrap();
                let content: Vec<u8> = parts.into_values().flatten().collect();
                let tag = tag(&content);
                self.objects.insert(key, content);
                Answer::ok(
                    format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>").into(),
                )
            }
            "PUT" if query.contains_key("partNumber") => {
                let parts = self.uploads.get_mut(&query["uploadId"]).unwrap();
                parts.insert(query["partNumber"].parse().unwrap(), body.to_vec());
                Answer::ok(Vec::new()).header("etag", &tag(body))
            }
            "PUT" if header(headers, "if-none-match") == Some("*") && self.objects.contains_key(&key) => {
                Answer::ok(b"<Error><Code>PreconditionFailed</Code></Error>".to_vec()).status(412)
            }
            "PUT" => {
                self.objects.insert(key, body.to_vec());
                Answer::ok(Vec::new()).header("etag", &tag(body))
            }
            _ => Answer::new(204),
        }
    }

    fn read(&self, method: &str, key: &str, headers: &[String]) -> Answer {
        let Some(content) = self.objects.get(key) else {
            return Answer::ok(b"<Error><Code>NoSuchKey</Code></Error>".to_vec()).status(404);
        };
        let tag = tag(content);
        if header(headers, "if-match").is_some_and(|wanted| wanted != tag) {
            return Answer::new(412);
        }
        if header(headers, "if-none-match") == Some(&tag) {
            return Answer::new(304);
        }
        let answer = |body: &[u8]| {
            let date = "Sun, 29 Nov 2026 12:00:00 GMT";
            Answer::ok(body.to_vec()).header("etag", &tag).header("last-modified", date)
        };
        if method == "HEAD" {
            return answer(&[]).header("content-length", &content.len().to_string());
        }
        let range = header(headers, "range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((from, to)) = range else { return answer(content) };
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let to = to.min(content.len() - 1);
        let range = format!("bytes {from}-{to}/{}", content.len());
        answer(&content[from..=to]).status(206).header("content-range", &range)
    }

    /// Three objects at a time, so that lists have several pages.
    fn list(&self, query: &BTreeMap<&str, String>) -> Answer {
        let (empty, after) = (String::new(), query.get("continuation-token"));
        let prefix = query.get("prefix").unwrap_or(&empty);
        let found: Vec<_> = self.objects.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        let mut rest = found.into_iter().filter(|(key, _)| after.is_none_or(|after| *key > after)).peekable();
        let mut xml = String::from("<ListBucketResult>");
        for (key, content) in rest.by_ref().take(3) {
            let (size, tag) = (content.len(), tag(content).replace('"', "&quot;"));
            let modified = "<LastModified>2026-11-29T12:00:00.000Z</LastModified>";
            xml += &format!("<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{tag}</ETag>{modified}</Contents>");
        }
        // Names are unique, so that the last one of a page says where the next begins.
        let last = xml.rfind("<Key>").map(|at| xml[at + 5..].split('<').next().unwrap().to_owned());
        if let (Some(_), Some(last)) = (rest.peek(), last) {
            xml += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        Answer::ok((xml + "</ListBucketResult>").into_bytes())
    }
}
