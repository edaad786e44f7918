//! The log: one line an event on standard error, masked before a byte leaves the process.
//!
//! Lines pass the secrets net, also for what is only likely, and lose every value that was named with [`know`] or that the
//! redactor of [`screen`] finds in whatever disguise. A panic is a line like any other. A limit that must be known: a
//! secret that has no shape and was never named goes through.

use crate::SecretString;
use redact::Redactor;
use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

static KNOWN: RwLock<Vec<SecretString>> = RwLock::new(Vec::new());
static SCREEN: RwLock<Option<Arc<Redactor>>> = RwLock::new(None);

/// Keys that a process draws and is given; a vault comes with a redactor.
const KNOWN_MAX: usize = 4096;

/// Starts the log of this process at `level`; `GATEHOUSE_LOG` sets another, in the syntax of tracing's env filter.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_env("GATEHOUSE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A second start is a test that shares its process with another; the first log serves both.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Masked(io::stderr)).with_ansi(false).with_target(false).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let said = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(at = panic.location().map(tracing::field::display), said, "a panic");
    }));
}

/// From now on `redactor` looks at every line, in the place of the one before.
pub fn screen(redactor: Arc<Redactor>) {
    *SCREEN.write().unwrap_or_else(PoisonError::into_inner) = Some(redactor);
}

/// From now on `secret` appears in no line.
pub fn know(secret: &SecretString) {
    let mut known = KNOWN.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Comparing needs the values.
    if known.len() < KNOWN_MAX && !known.iter().any(|other| other.expose() == secret.expose()) {
        known.push(secret.clone());
    }
}

/// `line` as it may leave the process.
pub fn masked(line: &str) -> String {
    let redactor = SCREEN.read().unwrap_or_else(PoisonError::into_inner).clone();
    let line = redactor.as_ref().map_or(Cow::Borrowed(line), |redactor| redactor.text(line).text);
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    // Comparing needs the values.
    let values: Vec<&str> = known.iter().map(SecretString::expose).collect();
    match redactor {
        Some(_) => redact::mask_known(&line, &values).into_owned(),
        None => redact::mask(&line, &values).into_owned(),
    }
}

struct Masked<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Masked<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { inner: self.0.make_writer(), bytes: Vec::new() }
    }
}

/// Collects one event, so that a secret split over two writes is still seen whole.
struct Line<W: Write> {
    inner: W,
    bytes: Vec<u8>,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Line<W> {
    fn drop(&mut self) {
        let line = masked(&String::from_utf8_lossy(&self.bytes));
        // A log that cannot be written must not take the service with it.
        let _ = self.inner.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_named_secret_and_a_shaped_one_stay_inside() {
        know(&SecretString::new("correct horse battery".into()));
        let sink = Sink::default();
        let shaped = format!("sk-ant-api03-{}", "aZ9".repeat(20));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Masked({
            let sink = sink.clone();
            move || sink.clone()
        }));
        tracing::subscriber::with_default(subscriber.finish(), || tracing::info!(tenant.id = "ten_1", "key {shaped} of correct horse battery"));
        let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(line.contains("key [REDACTED:anthropic_key] of [REDACTED:known]") && line.contains("tenant.id"), "{line}");
    }
}
