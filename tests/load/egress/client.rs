//! The client that drives every proxy alike: kept connections, prepared requests, and no more looking at answers than it takes
//! to find their end.

use crate::upstream;
use memchr::memmem;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request that is sent again and again, with a number in it that nobody has seen before.
#[derive(Clone)]
pub struct Question {
    bytes: Vec<u8>,
    /// Where numbers stand that change with each request.
    fresh: Vec<usize>,
}

const MARK: &str = "00000000";

impl Question {
    /// `head` has all but the length.
    pub fn new(head: &str, body: &str) -> Question {
        let bytes = format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
        let fresh = memmem::find_iter(&bytes, format!("#{MARK}#").as_bytes()).map(|at| at + 1).collect();
        Question { bytes, fresh }
    }

    /// Bytes that are sent as they are.
    pub fn raw(bytes: Vec<u8>) -> Question {
        Question { bytes, fresh: Vec::new() }
    }

    /// A place for a number in a body.
    pub fn mark() -> String {
        format!("#{MARK}#")
    }

    fn renew(&mut self, number: u64) {
        let digits = format!("{:08}", number % 100_000_000);
        for at in &self.fresh {
            self.bytes[*at..*at + MARK.len()].copy_from_slice(digits.as_bytes());
        }
    }
}

/// One kept connection.
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    read: Vec<u8>,
}

/// How an answer is framed.
#[derive(Clone, Copy)]
enum Frame {
    Length(usize),
    Chunks,
}

impl Connection {
    pub fn new(address: SocketAddr) -> Connection {
        Connection { address, stream: None, read: Vec::with_capacity(64 * 1024) }
    }

    /// Whether a whole answer with status 200 came.
    pub async fn ask(&mut self, question: &Question, heard: impl FnMut(&[u8])) -> bool {
        let outcome = self.exchange(question, heard).await;
        if outcome != Some(true) {
            self.stream = None;
        }
        outcome == Some(true)
    }

    async fn exchange(&mut self, question: &Question, mut heard: impl FnMut(&[u8])) -> Option<bool> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await.ok()?;
                stream.set_nodelay(true).ok()?;
                none.insert(stream)
            }
        };
        stream.write_all(&question.bytes).await.ok()?;
        self.read.clear();
        let end = loop {
            if stream.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
            if let Some(end) = memmem::find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let is_good = self.read.starts_with(b"HTTP/1.1 200");
        let frame = frame(&self.read[..end])?;
        if !is_good && std::env::var_os("EGRESS_SHOWS_FAULTS").is_some() {
            eprintln!("{}", String::from_utf8_lossy(&self.read));
        }
        heard(&self.read[end..]);
        let mut at = end;
        loop {
            match frame {
                Frame::Length(len) if self.read.len() >= end + len => return Some(is_good),
                Frame::Chunks if is_whole(&self.read, &mut at) => return Some(is_good),
                _ => {}
            }
            let before = self.read.len();
            if stream.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
            heard(&self.read[before..]);
        }
    }
}

fn frame(head: &[u8]) -> Option<Frame> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|len| len.trim().parse().ok());
    length.map(Frame::Length).or_else(|| head.contains("transfer-encoding: chunked").then_some(Frame::Chunks))
}

/// Whether the last chunk has come; `at` is where the first one begins that was not passed yet.
fn is_whole(read: &[u8], at: &mut usize) -> bool {
    while let Some(line) = memmem::find(&read[*at..], b"\r\n") {
        let digits = String::from_utf8_lossy(&read[*at..*at + line]);
        let Ok(len) = usize::from_str_radix(digits.split(';').next().unwrap_or_default().trim(), 16) else { return true };
        let next = *at + line + 2 + len + 2;
        if next > read.len() {
            return false;
        }
        *at = next;
        if len == 0 {
            return true;
        }
    }
    false
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Load {
    pub answers: u64,
    pub faults: u64,
    pub secs: f64,
    /// Of each answer, from the first byte of the question to the last of the answer.
    pub took: Vec<Duration>,
}

impl Load {
    pub fn per_sec(&self) -> f64 {
        self.answers as f64 / self.secs
    }

    pub fn p50_us(&self) -> f64 {
        median(self.took.iter().map(|took| took.as_secs_f64() * 1e6).collect())
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// So many connections ask until the time is over or each has asked so often.
pub async fn load(questions: Vec<(SocketAddr, Question)>, within: Duration, each_max: u64) -> Load {
    static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let begun = Instant::now();
    let asking = questions.into_iter().map(|(address, mut question)| async move {
        let (mut connection, mut load) = (Connection::new(address), Load::default());
        while begun.elapsed() < within && load.answers + load.faults < each_max {
            question.renew(NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            let asked = Instant::now();
            if connection.ask(&question, |_| ()).await {
                load.answers += 1;
                if load.took.len() < SAMPLES_MAX {
                    load.took.push(asked.elapsed());
                }
            } else {
                load.faults += 1;
                // Who refuses at once would be asked thousands of times.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        load
    });
    let tasks: Vec<_> = asking.map(tokio::spawn).collect();
    let mut sum = Load::default();
    for task in tasks {
        let load = task.await.expect("it does not panic");
        sum.answers += load.answers;
        sum.faults += load.faults;
        sum.took.extend(load.took);
    }
    sum.secs = begun.elapsed().as_secs_f64();
    sum
}

/// Times that are kept of each connection.
const SAMPLES_MAX: usize = 100_000;

/// How long each event of a paced stream was on its way, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Paced {
    pub events_us: Vec<f64>,
    /// Of those behind which the text could still become a secret: half a word, for the net.
    pub live_us: Vec<f64>,
    pub faults: u64,
}

pub async fn paced(address: SocketAddr, question: Question, streams: usize) -> Paced {
    let tasks: Vec<_> = (0..streams).map(|_| tokio::spawn(listen(address, question.clone()))).collect();
    let mut sum = Paced::default();
    for task in tasks {
        match task.await.expect("it does not panic") {
            Some((events, live)) => {
                sum.events_us.extend(events);
                sum.live_us.extend(live);
            }
            None => sum.faults += 1,
        }
    }
    sum
}

async fn listen(address: SocketAddr, question: Question) -> Option<(Vec<f64>, Vec<f64>)> {
    let (mut connection, mut pieces) = (Connection::new(address), Vec::new());
    if !connection.ask(&question, |piece| pieces.push((Instant::now(), piece.to_vec()))).await {
        return None;
    }
    let (mut pending, mut stream, mut text_bytes, mut heard) = (Vec::new(), None, 0, Vec::new());
    for (at, piece) in pieces {
        pending.extend_from_slice(&piece);
        while let Some(end) = memmem::find(&pending, b"\n\n") {
            let event: Vec<u8> = pending.drain(..end + 2).collect();
            let Some(data) = memmem::find(&event, b"data: {").map(|begin| &event[begin + 6..end]) else { continue };
            let Ok(data) = serde_json::from_slice::<Value>(data) else { continue };
            // LiteLLM draws ids of its own, so its streams are told apart by nothing.
            stream = stream.or_else(|| data["id"].as_str()?.strip_prefix("chatcmpl-")?.parse().ok());
            text_bytes += data["choices"][0]["delta"]["content"].as_str().map_or(0, str::len);
            heard.push((text_bytes, at));
        }
    }
    let (mut text, mut events, mut live) = (String::new(), Vec::new(), Vec::new());
    for (piece, at) in upstream::said(stream?) {
        text.push_str(&piece);
        let came = heard.iter().find(|(bytes, _)| *bytes >= text.len()).map(|(_, came)| *came);
        let us = came.map_or(f64::INFINITY, |came| came.saturating_duration_since(at).as_secs_f64() * 1e6);
        let may_grow = redact::Net::built_in().live_suffix(&text) > 0;
        if may_grow { live.push(us) } else { events.push(us) }
    }
    Some((events, live))
}
