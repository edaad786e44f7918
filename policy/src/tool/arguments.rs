//! Values of arguments, told apart by their shape.

use serde_json::Value;

/// Whether a text is an address and no path: it has a scheme, or begins as one that leaves its scheme out.
pub fn is_address(text: &str) -> bool {
    let text = text.trim_start();
    match text.split_once(':') {
        Some((scheme, rest)) => {
            let named = !scheme.is_empty()
                && scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
                && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
            named
                && (rest.starts_with('/')
                    || matches!(scheme.to_ascii_lowercase().as_str(), "data" | "javascript" | "file" | "http" | "https" | "blob" | "about"))
        }
        None => text.starts_with("//"),
    }
}

/// A text as it is, and everything else as JSON.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
