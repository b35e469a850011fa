//! `sae serve` as a process: the line that says when it is ready, an answer, the end by a signal.

use crate::tool::{data_set, fails, json, sae, tiny_model};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

fn ask(address: &str, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn captured(dir: &Path) -> String {
    let data = data_set(dir, 6);
    let (model, run) = (tiny_model(), dir.join("run"));
    let [model, data, run] = [&model, &data, &run].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    run.into()
}

#[test]
fn a_server_says_where_it_is_answers_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let run = captured(dir.path());
    let plan = json(&["serve", "--run", &run, "--dry-run"]);
    assert_eq!((plan["command"].as_str(), plan["sae"].as_str()), (Some("serve"), None));
    for as_json in [false, true] {
        let mut command = sae();
        command.args(["serve", "--run", &run]).args(as_json.then_some("--json")).stdout(Stdio::piped());
        let mut server = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(server.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = if as_json {
            let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
            ready["url"].as_str().unwrap().to_owned()
        } else {
            line.trim_end().to_owned()
        };
        let (address, token) = url.strip_prefix("http://").unwrap().split_once("/?token=").unwrap();
        assert!(address.starts_with("127.0.0.1:"), "{url}");
        assert!(ask(address, "/run", token).starts_with("HTTP/1.1 200"), "the page of a run without an autoencoder");
        assert!(ask(address, "/run", "").starts_with("HTTP/1.1 403"));
        let port = address.rsplit_once(':').unwrap().1;
        let taken = fails(1, &["serve", "--run", &run, "--port", port]);
        assert!(
            taken.contains(&format!("port {port} of 127.0.0.1")) && taken.contains("hint: choose another port"),
            "{taken}"
        );
        let stopped = Command::new("kill").args(["-INT", &server.id().to_string()]).status().unwrap();
        assert!(stopped.success());
        let status = server.wait().unwrap();
        let (mut rest, mut said) = (String::new(), String::new());
        out.read_to_string(&mut rest).unwrap();
        server.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((status.code(), rest.as_str(), said.as_str()), (Some(0), "", ""));
    }
}

#[test]
fn what_cannot_be_served_is_said_before_anything_listens() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    assert!(fails(1, &["serve", "--run", nowhere.to_str().unwrap()]).contains("not a run folder"));
    let run = captured(dir.path());
    assert!(fails(1, &["serve", "--run", &run, "--sae", "base"]).contains("the run has no autoencoder base"));
    assert!(fails(1, &["serve", "--run", &run, "--sae", "../base"]).contains("invalid name"));
    assert!(fails(2, &["serve", "--run", &run, "--port", "70000"]).contains("70000"));
}
