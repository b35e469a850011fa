//! A run of the tiny model with everything that has a page, a server on a copy of it, and what tests need of answers.

use crate::contrast::Question;
use crate::control::{Cancel, Control, NoProgress};
use crate::{ContrastRequest, HarvestRequest, IndexRequest, SaeChoice, ScoreRequest, ServeRequest, TrainRequest};
use sae_core::Run;
use sae_core::autoencoder::Architecture;
use sae_core::store::Hook;
use sae_core::train::TrainConfig;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::JoinHandle;

/// Features of the autoencoder.
pub const FEATURES: usize = 128;
/// Samples of the run.
pub const SAMPLES: usize = 64;
/// What must not become markup.
pub const EVIL: &str = "</td><script>alert('1')</script>";

/// A run with everything that has a page. It is made once.
pub fn original() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        folder
    })
    .path()
}

fn make(folder: &Path) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llava-a");
    let images = ["wide", "tall", "square", "grey"];
    fs::create_dir_all(folder.join("images")).unwrap();
    for image in images {
        let file = format!("images/{image}.png");
        fs::copy(model.join(&file), folder.join(&file)).unwrap();
    }
    let row = |n: usize| {
        let image = format!("images/{}.png", images[n % images.len()]);
        let answer = format!("{} {}", "A square. ".repeat(1 + n * 7 % 5), if n == 3 { EVIL } else { "" });
        let question = json!({ "from": "human", "value": "<image>\nWhat is this?" });
        let conversations = [question, json!({ "from": "gpt", "value": answer })];
        let side = if n.is_multiple_of(2) { "even" } else { "odd" };
        json!({ "id": format!("row-{n}"), "image": image, "side": side, "conversations": conversations }).to_string()
    };
    let data = folder.join("data.jsonl");
    fs::write(&data, (0..SAMPLES).map(|n| row(n) + "\n").collect::<String>()).unwrap();
    let (run, control) = (folder.join("run"), &mut Control::default());
    HarvestRequest::new(&model, &data, vec![Hook::block(1)], &run).run(control).unwrap();
    let config =
        TrainConfig { features: FEATURES, k: 8, batch: 128, ..TrainConfig::for_architecture(Architecture::TopK) };
    TrainRequest::new(&run, "layers.1", "base", config.with_steps(60)).run(control).unwrap();
    let sae = SaeChoice::new(&run);
    IndexRequest::new(sae.clone()).run(control).unwrap();
    ScoreRequest::new(sae.clone()).run(control).unwrap();
    let question = Question::Groups { field: "side".into() };
    ContrastRequest { name: Some("sides".into()), ..ContrastRequest::new(sae, question) }.run(control).unwrap();
}

/// A server on a run of its own.
pub struct Serving {
    /// The data set, and the run in it.
    pub folder: tempfile::TempDir,
    /// The port of the server.
    pub port: u16,
    /// What it asks for.
    pub token: String,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(original(), folder.path());
        // The run says where its data is: the copy.
        let record = folder.path().join("run/run.json");
        let [from, to] = [original(), folder.path()].map(|path| path.to_str().unwrap());
        fs::write(&record, fs::read_to_string(&record).unwrap().replace(from, to)).unwrap();
        Self::of(folder)
    }

    pub fn of(folder: tempfile::TempDir) -> Self {
        let server = ServeRequest::new(folder.path().join("run")).bind().unwrap();
        let url = server.url();
        let (address, token) = url.split_once("/?token=").unwrap();
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let cancel = Cancel::new();
        let control = cancel.clone();
        // A `Control` stays on its thread.
        let thread = std::thread::spawn(move || server.run(&Control::new(NoProgress, control)).unwrap());
        Self { port, token: token.to_owned(), cancel, thread: Some(thread), folder }
    }

    pub fn run(&self) -> Run {
        Run::open(&self.folder.path().join("run")).unwrap()
    }

    /// The answer to exactly these lines.
    pub fn raw(&self, head: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        write!(stream, "{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let end = text.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(text[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: text[end + 4..].to_vec() }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}{headers}", self.port), body)
    }

    /// A page, with the token in a header.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &self.bearer(), "")
    }

    pub fn bearer(&self) -> String {
        format!("\r\nAuthorization: Bearer {}", self.token)
    }

    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.thread.take().map(JoinHandle::join);
    }
}

pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// In lower case.
    pub head: String,
    /// The body, in chunks if it is large.
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        // A large body comes in chunks, whose lengths do not matter here.
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let to = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).unwrap();
        }
    }
}

/// Fails unless every element is closed in the order in which elements were opened.
pub fn well_formed(page: &str) {
    let page = page.strip_prefix("<!doctype html>").unwrap();
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let (element, text) = part.split_once('>').unwrap_or_else(|| panic!("an element without an end: {part}"));
        let is_style = element == "style";
        assert!(is_style || !text.contains('>'), "a sign that is not escaped: {part}");
        let name = element.split_whitespace().next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{part}"),
            None if ["img", "meta", "input", "br", "link"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// The value of a field of a form.
pub fn field(page: &str, name: &str) -> String {
    let at = page.find(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{name}: {page}"));
    let value = page[at..].split("value=\"").nth(1).unwrap().split('"').next().unwrap();
    value.replace("&quot;", "\"").replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

pub fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}
