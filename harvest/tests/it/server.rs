//! A local web server for tests with a single thread. It is closed when it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A response of the server.
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn ok(body: Vec<u8>) -> Self {
        Self { body, ..Self::new(200) }
    }

    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Adds a header. A `content-length` overrides the true one; with `transfer-encoding: close` there is none.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn write(self, stream: &mut TcpStream) -> std::io::Result<()> {
        let has = |name: &str| self.headers.iter().any(|(header, _)| header == name);
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", self.status);
        if !has("content-length") && !has("transfer-encoding") {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "transfer-encoding") {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&self.body)
    }
}

/// A running server.
pub struct Server {
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A server whose responses depend on the path and the headers (in lowercase) of a request.
    pub fn new(answer: impl Fn(&str, &[String]) -> Answer + Send + 'static) -> Self {
        Self::with_body(move |path, headers, _| answer(path, headers))
    }

    /// A server whose responses depend on the path, the headers (in lowercase) and the body of a request.
    pub fn with_body(answer: impl Fn(&str, &[String], &[u8]) -> Answer + Send + 'static) -> Self {
        Self::with_method(move |_, path, headers, body| answer(path, headers, body))
    }

    /// A server whose responses depend on everything in a request: method, path, headers (in lowercase) and body.
    pub fn with_method(answer: impl Fn(&str, &str, &[String], &[u8]) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut lines = reader.by_ref().lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).map(|l| l.to_lowercase()).collect();
                let length = headers.iter().find_map(|header| header.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let mut words = first.split(' ');
                let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
                log.lock().unwrap().push(path.clone());
                // The client may have closed the connection.
                let _ = answer(method, &path, &headers, &body).write(&mut stream);
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    /// The paths that were requested since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
