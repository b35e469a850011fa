//! A mock endpoint that answers, is busy, or returns errors and invalid answers.

use crate::server::{Answer, Server};
use harvest::chat::{Chat, MessagePart};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

fn completion(text: &str) -> Answer {
    let usage = json!({ "prompt_tokens": 7, "completion_tokens": 2 });
    let choice = json!({ "message": { "role": "assistant", "content": text } });
    Answer::ok(json!({ "choices": [choice], "usage": usage }).to_string().into_bytes())
}

#[test]
fn a_question_follows_the_protocol_and_is_answered() {
    let server = Server::with_body(|path, headers, body| {
        let body: Value = serde_json::from_slice(body).unwrap();
        let is_valid = path == "/v1/chat/completions"
            && headers.iter().any(|header| header == "authorization: bearer mine")
            && body["model"] == "m"
            && body["messages"][0]["content"][0]["text"] == "what?"
            && body["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,AQID";
        if is_valid { completion("that") } else { Answer::new(400) }
    });
    let mut chat = Chat::new(&format!("{}/v1/", server.address), Some("mine".into()), "m", 6e4);
    let answer = chat.ask(&[MessagePart::Text("what?".into()), MessagePart::Png(vec![1, 2, 3])]).unwrap();
    assert_eq!((answer.text.as_str(), answer.tokens_in, answer.tokens_out), ("that", 7, 2));
}

#[test]
fn a_busy_endpoint_is_asked_again_within_the_rate_limit() {
    let asked = AtomicUsize::new(0);
    let server = Server::new(move |_, _| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::new(429).header("retry-after", "0"),
        1 => Answer::new(503).header("retry-after", "0"),
        _ => completion("at last"),
    });
    let mut chat = Chat::new(&server.address, None, "m", 600.0);
    let begun = Instant::now();
    assert_eq!(chat.ask(&[]).unwrap().text, "at last");
    assert!(begun.elapsed().as_millis() >= 200, "two pauses of 0.1 s");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn errors_and_invalid_answers_are_reported_without_the_key() {
    let error = |answer: fn() -> Answer| {
        let server = Server::new(move |_, _| answer());
        let mut chat = Chat::new(&server.address, Some("secret".into()), "m", 6e4);
        chat.ask(&[]).unwrap_err().to_string()
    };
    let unknown = error(|| Answer::ok(b"no such model".to_vec()).status(404));
    assert!(unknown.contains("returned status 404") && unknown.contains("no such model"), "{unknown}");
    assert!(error(|| Answer::ok(b"<html>".to_vec())).contains("not that of an OpenAI-compatible endpoint"));
    assert!(error(|| Answer::ok(br#"{"choices": []}"#.to_vec())).contains("no text"));
    let busy = error(|| Answer::new(500).header("retry-after", "0"));
    assert!(busy.contains("still busy after 5 tries") && !busy.contains("secret"), "{busy}");
    let gone = Chat::new("http://127.0.0.1:1", None, "m", 6e4).ask(&[]).unwrap_err().to_string();
    assert!(gone.contains("cannot be reached") && gone.contains("127.0.0.1:1/chat/completions"), "{gone}");
}
