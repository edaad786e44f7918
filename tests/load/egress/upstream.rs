//! The provider that every proxy stands before: it says prepared answers at once, or event by event, and keeps when it said them.
//!
//! What it says goes by the first word of the path. It runs in the driver's own thread, so that client and provider share one
//! clock and one core.

use memchr::memmem;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Events of a stream that comes at once.
pub const BURST_EVENTS: usize = 200;
/// Events of one that is paced, and the time between two of them.
pub const PACED_EVENTS: usize = 60;
pub const PACE: Duration = Duration::from_millis(10);
/// The same for streams that are only held open.
pub const SLOW_EVENTS: usize = 40;
pub const SLOW_PACE: Duration = Duration::from_millis(100);
/// What each answer says it used.
pub const USED: &str = r#""usage":{"prompt_tokens":300,"completion_tokens":200,"total_tokens":500,"prompt_tokens_details":{"cached_tokens":100}}"#;

const WORDS: [&str; 24] = [
    "the", "house", "garden", "report", "customer", "meeting", "on", "Tuesday", "could", "not", "be", "moved", "because", "nobody", "had", "asked", "for",
    "another", "room", "and", "so", "it", "stays", "there",
];

/// What a paced stream said, and when.
pub type Pieces = Vec<(String, Instant)>;
type Said = HashMap<u64, Pieces>;
static SAID: LazyLock<Mutex<Said>> = LazyLock::new(Mutex::default);
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// What the stream said; it is forgotten with that.
pub fn said(stream: u64) -> Pieces {
    SAID.lock().expect("nobody panics").remove(&stream).unwrap_or_default()
}

pub fn word(at: usize) -> &'static str {
    WORDS[at % WORDS.len()]
}

pub async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) {
    let mut read = Vec::with_capacity(64 * 1024);
    while let Some((path, len)) = request(&mut stream, &mut read).await {
        let done = match path {
            Path::Small => stream.write_all(&SMALL).await,
            Path::Burst => stream.write_all(&BURST).await,
            Path::Paced => paced(&mut stream, PACED_EVENTS, PACE, true).await,
            Path::Slow => paced(&mut stream, SLOW_EVENTS, SLOW_PACE, false).await,
        };
        if done.is_err() {
            return;
        }
        read.drain(..len);
    }
}

#[derive(Clone, Copy)]
enum Path {
    Small,
    Burst,
    Paced,
    Slow,
}

/// The next request: what it asks for, and its bytes in all.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(Path, usize)> {
    loop {
        if let Some(end) = memmem::find(read, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|len| len.trim().parse::<usize>().ok()).unwrap_or(0);
            let path = match head.split(' ').nth(1)?.split('/').nth(1)? {
                "burst" => Path::Burst,
                "paced" => Path::Paced,
                "slow" => Path::Slow,
                _ => Path::Small,
            };
            let whole = end + 4 + len;
            while read.len() < whole {
                if stream.read_buf(read).await.ok()? == 0 {
                    return None;
                }
            }
            return Some((path, whole));
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let text: Vec<&str> = (0..130).map(word).collect();
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1795140000,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],{USED},"service_tier":"default","system_fingerprint":"fp_1"}}"#,
        text.join(" ")
    );
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
});

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

static BURST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = STREAM_HEAD.as_bytes().to_vec();
    (0..BURST_EVENTS - 2).for_each(|at| chunk(&mut bytes, &event(0, &format!(" {}", word(at)))));
    chunk(&mut bytes, &last(0));
    chunk(&mut bytes, "data: [DONE]\n\n");
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
});

fn event(stream: u64, text: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-{stream}\",\"object\":\"chat.completion.chunk\",\"created\":1795140000,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
}

fn last(stream: u64) -> String {
    format!("data: {{\"id\":\"chatcmpl-{stream}\",\"object\":\"chat.completion.chunk\",\"created\":1795140000,\"model\":\"m\",\"choices\":[],{USED}}}\n\n")
}

fn chunk(bytes: &mut Vec<u8>, event: &str) {
    bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
}

async fn paced(stream: &mut TcpStream, events: usize, pace: Duration, keeps: bool) -> std::io::Result<()> {
    let number = STREAMS.fetch_add(1, Ordering::Relaxed);
    stream.write_all(STREAM_HEAD.as_bytes()).await?;
    let mut tick = tokio::time::interval(pace);
    let mut kept = Vec::with_capacity(events);
    for at in 0..events {
        tick.tick().await;
        // Words come with the blank before them, as models say them, and sometimes a sentence ends.
        let text = if at % 4 == 3 { ".\\n".to_owned() } else { format!(" {}", word(at)) };
        let mut bytes = Vec::new();
        chunk(&mut bytes, &event(number, &text));
        kept.push((text.replace("\\n", "\n"), Instant::now()));
        if keeps {
            SAID.lock().expect("nobody panics").insert(number, kept.clone());
        }
        stream.write_all(&bytes).await?;
    }
    let mut bytes = Vec::new();
    chunk(&mut bytes, &last(number));
    chunk(&mut bytes, "data: [DONE]\n\n");
    bytes.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&bytes).await
}
