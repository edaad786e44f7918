//! `redact` and `vault resolve`: the secrets net and the rules of references at the command line, for people, tests and
//! fuzzing.
//!
//! Reads standard input and the files that are named, writes standard output, and keeps nothing. A limit: placeholders
//! made here are not keyed with the tenant's key, so they differ from those that the agent makes.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redact::reference::{Binding, Outcome, Way};
use redact::{BodyError, ByteStream, Confidence, EventStream, Finding, Known, Net, Redactor};
use ring::digest;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// One text, and one line.
const INPUT_BYTES_MAX: usize = redact::body::BODY_BYTES_MAX;
const SECRETS_BYTES_MAX: u64 = 64 << 20;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Json,
    Events,
    Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    name: String,
    #[serde(deserialize_with = "wiped")]
    secret: Zeroizing<String>,
}

fn wiped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

#[derive(Deserialize)]
struct Row {
    id: Value,
    text: Option<String>,
    chunks_b64: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Call {
    id: Value,
    tool: String,
    args: Value,
    allowed: Vec<String>,
}

/// `tenant-agent redact`.
pub fn redact(
    net: Arc<Net>,
    secrets: Option<&Path>,
    jsonl: bool,
    shape: Option<Shape>,
    stats: bool,
    input: impl BufRead,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let redactor = Arc::new(redactor(net, secrets)?);
    let mut done = Done { built: started.elapsed(), ..Done::default() };
    if jsonl {
        for line in lines(input) {
            let row: Row = serde_json::from_str(&line?).context("a line must be {\"id\",\"text\"} or {\"id\",\"chunks_b64\":[…]}")?;
            let pieces = match (row.text, row.chunks_b64) {
                (Some(text), None) => Pieces::Whole(text.into_bytes()),
                (None, Some(chunks)) => {
                    Pieces::Chunks(chunks.iter().map(|chunk| STANDARD.decode(chunk)).collect::<Result<_, _>>().context("a chunk is not base64")?)
                }
                _ => anyhow::bail!("a line must have either `text` or `chunks_b64`"),
            };
            let answer = match done.time(&redactor, shape, pieces) {
                Ok((bytes, findings)) => {
                    let findings: Vec<Value> = findings.iter().map(finding).collect();
                    json!({ "id": row.id, "text": String::from_utf8_lossy(&bytes), "findings": findings })
                }
                Err(error) => json!({ "id": row.id, "refused": error.to_string(), "findings": [] }),
            };
            writeln!(output, "{answer}").context("writing the answer")?;
        }
    } else {
        let mut bytes = Vec::new();
        input.take(INPUT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).context("reading standard input")?;
        anyhow::ensure!(bytes.len() <= INPUT_BYTES_MAX, "the input is larger than {INPUT_BYTES_MAX} bytes");
        let (bytes, _) = done.time(&redactor, shape, Pieces::Whole(bytes))?;
        output.write_all(&bytes).context("writing the answer")?;
    }
    output.flush().context("writing the answer")?;
    if stats {
        eprintln!("{}", done.stats(&redactor));
    }
    Ok(())
}

enum Pieces {
    Whole(Vec<u8>),
    Chunks(Vec<Vec<u8>>),
}

fn redacted(redactor: &Arc<Redactor>, shape: Option<Shape>, pieces: &Pieces) -> Result<(Vec<u8>, Vec<Finding>), BodyError> {
    let whole;
    match (shape, pieces) {
        (Some(Shape::Events), pieces) => {
            let mut stream = EventStream::new(redactor.clone());
            let mut gone = Vec::new();
            for piece in pieces.iter() {
                gone.extend(stream.push(piece)?);
            }
            gone.extend(stream.finish()?);
            Ok((gone, stream.findings()))
        }
        (Some(Shape::Json), pieces) => {
            whole = pieces.iter().collect::<Vec<_>>().concat();
            let body = redact::body::open("", &whole)?;
            redactor.json(&body).map(|body| (body.bytes.into_owned(), body.findings))
        }
        (Some(Shape::Text), Pieces::Whole(bytes)) => {
            let body = redact::body::open("", bytes)?;
            redactor.body(&body).map(|body| (body.bytes.into_owned(), body.findings))
        }
        (None, Pieces::Whole(bytes)) if std::str::from_utf8(bytes).is_ok() => {
            let redaction = redactor.text(std::str::from_utf8(bytes).unwrap_or_default());
            Ok((redaction.text.into_owned().into_bytes(), redaction.findings))
        }
        (_, pieces) => {
            let mut stream = ByteStream::new(redactor.clone());
            let mut gone: Vec<u8> = pieces.iter().flat_map(|piece| stream.push(piece)).collect();
            gone.extend(stream.finish());
            Ok((gone, stream.findings().to_vec()))
        }
    }
}

impl Pieces {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        match self {
            Pieces::Whole(bytes) => std::slice::from_ref(bytes).iter(),
            Pieces::Chunks(chunks) => chunks.iter(),
        }
        .map(Vec::as_slice)
    }
}

fn finding(finding: &Finding) -> Value {
    let confidence = match finding.confidence {
        Confidence::Certain => "certain",
        _ => "likely",
    };
    json!({ "rule": &*finding.rule, "start": finding.start, "end": finding.end, "confidence": confidence })
}

/// What was done, for `--stats`.
#[derive(Default)]
struct Done {
    built: Duration,
    took: Duration,
    texts: usize,
    bytes: usize,
    findings: usize,
    refused: usize,
}

impl Done {
    fn time(&mut self, redactor: &Arc<Redactor>, shape: Option<Shape>, pieces: Pieces) -> Result<(Vec<u8>, Vec<Finding>), BodyError> {
        let started = Instant::now();
        let outcome = redacted(redactor, shape, &pieces);
        self.took += started.elapsed();
        self.texts += 1;
        self.bytes += pieces.iter().map(<[u8]>::len).sum::<usize>();
        match &outcome {
            Ok((_, findings)) => self.findings += findings.len(),
            Err(_) => self.refused += 1,
        }
        outcome
    }

    fn stats(&self, redactor: &Redactor) -> Value {
        let seconds = self.took.as_secs_f64();
        json!({
            "texts": self.texts,
            "bytes": self.bytes,
            "findings": self.findings,
            "refused": self.refused,
            "micros": self.took.as_micros() as u64,
            "mb_per_s": if seconds > 0.0 { self.bytes as f64 / 1e6 / seconds } else { 0.0 },
            "secrets": redactor.known().len(),
            "secrets_too_short": redactor.known().too_short(),
            "memory_bytes": redactor.known().memory_bytes(),
            "build_micros": self.built.as_micros() as u64,
        })
    }
}

/// `tenant-agent vault resolve`.
pub fn resolve(secrets: Option<&Path>, shown: bool, input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let values: HashMap<String, Zeroizing<String>> = match secrets {
        Some(path) => read(path)?.into_iter().map(|secret| (secret.name, secret.secret)).collect(),
        None => HashMap::new(),
    };
    for line in lines(input) {
        let call: Call = serde_json::from_str(&line?).context("a line must be {\"id\",\"tool\",\"args\",\"allowed\"}")?;
        let binding = |name: &str| call.allowed.iter().any(|allowed| allowed == name).then(Binding::default);
        // A value that is not at hand stands for itself: what would be done with it can be told all the same.
        let value = |name: &str| Some(values.get(name).cloned().unwrap_or_else(|| Zeroizing::new(redact::placeholder::reference(name))));
        let answer = match redact::reference::resolve(&call.tool, &call.args, &binding, &value) {
            Outcome::Literal => json!({ "id": call.id, "outcome": "leave-literal", "args": call.args }),
            Outcome::Ask { names } => json!({ "id": call.id, "outcome": "require-approval", "args": call.args, "names": names }),
            Outcome::Reject(rejection) => json!({ "id": call.id, "outcome": "reject", "args": call.args, "reason": rejection.to_string() }),
            Outcome::Resolve(resolved) => {
                let outcome = match resolved.way {
                    Way::AsIs => "resolve",
                    Way::Percent => "resolve-percent-encoded",
                    Way::Variable => "resolve-then-redact-output",
                    Way::Assigned => "resolve-as-env-not-string-splice",
                };
                let mut answer = json!({ "id": call.id, "outcome": outcome, "args": call.args, "names": resolved.names });
                if shown || secrets.is_none() {
                    let env: serde_json::Map<String, Value> =
                        resolved.env.iter().map(|(name, value)| (name.clone(), Value::String(value.to_string()))).collect();
                    answer["args"] = resolved.args;
                    answer["env"] = env.into();
                }
                answer
            }
        };
        writeln!(output, "{answer}").context("writing the answer")?;
    }
    output.flush().context("writing the answer")
}

fn redactor(net: Arc<Net>, secrets: Option<&Path>) -> anyhow::Result<Redactor> {
    let secrets = secrets.map_or(Ok(Vec::new()), read)?;
    // The same input gives the same output, and whoever has the file has the secrets anyway.
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"tenant-agent redact");
    secrets.iter().for_each(|secret| context.update(secret.secret.as_bytes()));
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    let known = Known::new(secrets.iter().map(|secret| (secret.name.as_str(), secret.secret.as_bytes())));
    Ok(Redactor::with_net(known, &key, net))
}

fn read(path: &Path) -> anyhow::Result<Vec<Secret>> {
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    file.take(SECRETS_BYTES_MAX).read_to_string(&mut text).with_context(|| format!("reading `{}`", path.display()))?;
    // serde's own message may quote a value.
    serde_json::from_str(&text).map_err(|error| anyhow::anyhow!("`{}` is not [{{\"name\",\"secret\"}}], at line {}", path.display(), error.line()))
}

fn lines(input: impl BufRead) -> impl Iterator<Item = anyhow::Result<String>> {
    let mut input = input;
    std::iter::from_fn(move || {
        loop {
            let mut line = String::new();
            match (&mut input).take(INPUT_BYTES_MAX as u64).read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(Ok(line)),
                Err(error) => return Some(Err(anyhow::Error::new(error).context("reading standard input"))),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> tempfile::Path {
        tempfile::Path::new(r#"[{"name":"db","secret":"Sommer#2026x"}]"#)
    }

    fn run(jsonl: bool, shape: Option<Shape>, input: &str) -> anyhow::Result<String> {
        let file = secrets();
        let mut output = Vec::new();
        redact(Net::built_in().clone(), Some(&file.0), jsonl, shape, false, input.as_bytes(), &mut output)?;
        Ok(String::from_utf8(output).expect("answers are text"))
    }

    #[test]
    fn text_comes_in_and_goes_out() {
        assert_eq!(run(false, None, "a Sommer#2026x b\n").expect("text is redacted"), "a SECRET_REF(db) b\n");
        assert_eq!(run(false, Some(Shape::Json), "[\"Sommer#2026x\"]").expect("JSON is redacted"), "[\"SECRET_REF(db)\"]");
        assert!(run(false, Some(Shape::Json), "[\"Sommer#2026x\"").is_err());
    }

    #[test]
    fn lines_are_answered_with_what_was_found() {
        let chunks: Vec<String> = ["x Somm", "er#20", "26x y"].iter().map(|chunk| STANDARD.encode(chunk)).collect();
        let input = format!("{}\n{}\n", json!({"id": 1, "text": "Sommer#2026x"}), json!({"id": "b", "chunks_b64": chunks}));
        let answers: Vec<Value> = run(true, None, &input).expect("lines are answered").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let found = |start: usize| json!([{"rule": "known:db", "start": start, "end": start + 12, "confidence": "certain"}]);
        assert_eq!(answers[0], json!({"id": 1, "text": "SECRET_REF(db)", "findings": found(0)}));
        assert_eq!(answers[1], json!({"id": "b", "text": "x SECRET_REF(db) y", "findings": found(2)}));
        let event = json!({"choices": [{"index": 0, "delta": {"content": "Sommer#2026x"}}]});
        let input = json!({"id": 1, "text": format!("data: {event}\n\ndata: [DONE]\n\n")}).to_string();
        assert!(run(true, Some(Shape::Events), &input).expect("events are redacted").contains("SECRET_REF(db)"));
    }

    #[test]
    fn references_are_decided_line_by_line() {
        let decide = |tool: &str, args: Value| {
            let mut output = Vec::new();
            let call = json!({"id": "x", "tool": tool, "args": args, "allowed": ["A"]}).to_string();
            resolve(None, true, call.as_bytes(), &mut output).expect("the call is decided");
            let answer: Value = serde_json::from_slice(&output).expect("JSON");
            answer["outcome"].as_str().unwrap_or_default().to_owned()
        };
        for (tool, args, outcome) in [
            ("http.request", json!({"headers": {"a": "SECRET_REF(A)"}}), "resolve"),
            ("http.request", json!({"url": format!("https://u:{}@h/", "SECRET_REF(A)")}), "resolve-percent-encoded"),
            ("exec", json!({"command": "echo SECRET_REF(A)"}), "resolve-then-redact-output"),
            ("exec", json!({"command": "K=SECRET_REF(A) ./x"}), "resolve-as-env-not-string-splice"),
            ("fs.write", json!({"content": "SECRET_REF(A)"}), "require-approval"),
            ("email.send", json!({"body": "SECRET_REF(A)"}), "reject"),
            ("http.request", json!({"k": "SECRET_REF(A"}), "leave-literal"),
        ] {
            assert_eq!(decide(tool, args.clone()), outcome, "{tool} {args}");
        }
    }

    /// A file of its own for each test, gone with it.
    mod tempfile {
        use std::sync::atomic::{AtomicUsize, Ordering};

        static COUNT: AtomicUsize = AtomicUsize::new(0);

        pub struct Path(pub std::path::PathBuf);

        impl Path {
            pub fn new(text: &str) -> Self {
                let name = format!("redaction-{}-{}.json", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
                let path = std::env::temp_dir().join(name);
                std::fs::write(&path, text).expect("the folder for temporary files can be written");
                Self(path)
            }
        }

        impl Drop for Path {
            fn drop(&mut self) {
                let _ = std::fs::remove_file(&self.0);
            }
        }
    }
}
