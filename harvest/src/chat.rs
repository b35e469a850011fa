//! A model behind an OpenAI-compatible endpoint: one question of texts and images, one answer. Respects a limit on the
//! rate of questions, and asks again if the endpoint says that it is busy. Does not know what is asked, and stores
//! nothing.

use crate::net;
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use ureq::Agent;

/// Time that one answer may take.
const TIME: Duration = Duration::from_secs(180);
/// Size of the longest answer that is read, in bytes.
const LIMIT: u64 = 1 << 22;
/// How often a question is asked in all.
const TRIES: u32 = 5;
/// Longest wait before a question is asked again.
const PATIENCE: Duration = Duration::from_secs(120);

/// A part of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum MessagePart {
    /// A text.
    Text(String),
    /// The bytes of a PNG.
    Png(Vec<u8>),
}

/// What the model answered, and what was billed for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The text of the answer.
    pub text: String,
    /// Tokens of the question; 0 if the endpoint does not report them.
    pub tokens_in: u64,
    /// Tokens of the answer; 0 if the endpoint does not report them.
    pub tokens_out: u64,
}

/// An endpoint with the model that answers.
pub struct Chat {
    agent: Agent,
    url: String,
    key: Option<String>,
    model: String,
    /// Time between the beginnings of two questions.
    pause: Duration,
    /// The earliest time of the next question.
    next: Instant,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl Chat {
    /// The model `model` behind `url`, such as `http://localhost:8000/v1`, which is asked at most `per_minute`
    /// questions per minute. Does not connect yet. If there is a `key`, it is sent as a bearer token.
    pub fn new(url: &str, key: Option<String>, model: &str, per_minute: f64) -> Self {
        let (agent, url) = (net::agent(Some(TIME)), format!("{}/chat/completions", url.trim_end_matches('/')));
        let pause = Duration::from_secs_f64((60.0 / per_minute.max(f64::MIN_POSITIVE)).min(3600.0));
        Self { agent, url, key, model: model.into(), pause, next: Instant::now() }
    }

    /// Asks a question and waits for the answer.
    ///
    /// # Errors
    /// The endpoint cannot be reached, returns an error, or is still busy after five tries; or its answer cannot be
    /// read.
    pub fn ask(&mut self, question: &[MessagePart]) -> Result<Answer> {
        let content: Vec<Value> = question.iter().map(part).collect();
        let body = json!({ "model": self.model, "messages": [{ "role": "user", "content": content }] }).to_string();
        let mut wait = Duration::from_secs(2);
        for _ in 1..TRIES {
            match self.send(&body)? {
                Reply::Answer(answer) => return Ok(answer),
                Reply::Busy { after, .. } => std::thread::sleep(after.unwrap_or(wait).min(PATIENCE)),
            }
            wait *= 2;
        }
        match self.send(&body)? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Busy { status, .. } => {
                Err(self.error(format!("the endpoint is still busy after {TRIES} tries (status {status})")))
            }
        }
    }

    fn send(&mut self, body: &str) -> Result<Reply> {
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.next = Instant::now() + self.pause;
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut answer = request.send(body).map_err(|e| self.error(format!("the endpoint cannot be reached ({e})")))?;
        let status = answer.status();
        let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.trim().parse().ok());
        let read = answer.body_mut().with_config().limit(LIMIT).read_to_vec();
        let read = read.map_err(|e| self.error(format!("the answer was cut off ({e})")))?;
        if status.as_u16() == 429 || status.is_server_error() {
            return Ok(Reply::Busy { after: after.map(Duration::from_secs), status: status.to_string() });
        }
        if !status.is_success() {
            let body = String::from_utf8_lossy(&read);
            let detail = if body.trim().is_empty() { String::new() } else { format!(": {:.300}", body.trim()) };
            return Err(self.error(format!("the endpoint returned status {status}{detail}")));
        }
        let completion: Completion = serde_json::from_slice(&read)
            .map_err(|e| self.error(format!("the answer is not that of an OpenAI-compatible endpoint ({e})")))?;
        let text = completion.choices.into_iter().next().and_then(|choice| choice.message.content);
        let text = text.ok_or_else(|| self.error("the answer has no text".into()))?;
        let usage = completion.usage.map_or((0, 0), |usage| (usage.prompt_tokens, usage.completion_tokens));
        Ok(Reply::Answer(Answer { text, tokens_in: usage.0, tokens_out: usage.1 }))
    }

    fn error(&self, cause: String) -> Error {
        Error::Endpoint { cause, url: self.url.clone() }
    }
}

enum Reply {
    Answer(Answer),
    Busy { after: Option<Duration>, status: String },
}

fn part(part: &MessagePart) -> Value {
    match part {
        MessagePart::Text(text) => json!({ "type": "text", "text": text }),
        MessagePart::Png(bytes) => {
            let url = format!("data:image/png;base64,{}", STANDARD.encode(bytes));
            json!({ "type": "image_url", "image_url": { "url": url } })
        }
    }
}
