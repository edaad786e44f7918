//! What is typed into a running program. It may be a shell, and what was typed before may be half a line, so only whole
//! lines are read, and short answers to a question.

use super::Bench;
use crate::Judgement;
use serde_json::{Map, Value};

impl Bench<'_> {
    pub(super) fn typed(&self, text: &str, found: &mut Judgement) {
        let whole = text.ends_with(['\n', '\r']);
        let answer = text.trim();
        self.tools.raise(found, "process.typed");
        if ANSWERS.contains(&answer.to_lowercase().as_str()) || (answer.len() <= 4 && answer.bytes().all(|byte| byte.is_ascii_digit())) {
            return;
        }
        if text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r')) {
            return self.tools.raise(found, "process.keys");
        }
        if !whole {
            self.tools.raise(found, "process.partial");
        }
        self.lines(text, found);
    }

    /// What a program reads until its end. It may be a shell that reads it.
    pub(super) fn stdin(&self, text: &str, found: &mut Judgement) {
        self.tools.raise(found, "exec.stdin");
        self.lines(text, found);
    }

    fn lines(&self, text: &str, found: &mut Judgement) {
        let line = text.replace("\r\n", "\n").replace('\r', "\n");
        found.join(self.shell.judge(line.trim_end(), self.workspace, &Map::new()));
        for language in ["python", "javascript"] {
            let code = self.shell.code(language, &line);
            // As another language it need not make sense; what it would do there still counts.
            if !code.unknown {
                found.join(code);
            }
        }
    }

    pub(super) fn keys(&self, value: &Value, found: &mut Judgement) {
        self.tools.raise(found, "process.typed");
        let keys: Vec<&Value> = match value {
            Value::Array(keys) => keys.iter().collect(),
            key => vec![key],
        };
        // Letters one by one are a text; what ends a program is harmless; everything else may fetch an old line back.
        let mut text = String::new();
        for key in keys {
            match key.as_str() {
                Some(key) if HARMLESS.iter().any(|known| known.eq_ignore_ascii_case(key)) => {}
                Some("Enter" | "enter" | "Return" | "return" | "C-m" | "C-j") => text.push('\n'),
                Some("Space" | "space") => text.push(' '),
                Some(key) if key.chars().count() == 1 || (key.len() > 6 && key.contains(' ')) => text.push_str(key),
                _ => self.tools.raise(found, "process.keys"),
            }
        }
        if !text.trim().is_empty() {
            self.typed(&text, found);
        }
    }

    pub(super) fn hex(&self, text: &str, found: &mut Judgement) {
        let digits: String = text.trim_start_matches("0x").chars().filter(|letter| !letter.is_whitespace()).collect();
        let bytes: Option<Vec<u8>> = (digits.len().is_multiple_of(2) && digits.is_ascii())
            .then(|| (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect())
            .flatten();
        match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(plain) => self.typed(&plain, found),
            None => self.tools.raise(found, "process.keys"),
        }
    }
}

/// Answers that no shell takes for more than itself, and that start no word of a command worth fearing.
const ANSWERS: &[&str] = &["", "y", "n", "yes", "no", "j", "ja", "nein", "q", "quit", "exit", "ok"];
const HARMLESS: &[&str] = &["C-c", "C-d", "C-g", "Escape", "Esc", "PageUp", "PageDown", "ctrl+c", "ctrl-c", "^C", "^D"];
