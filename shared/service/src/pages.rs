//! The built pages: read from disk in a debug build, embedded in a release build, or one page that says how to build them.

use crate::error::Refusal;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// The page `name`, such as `tenant`.
pub fn page(name: &str) -> Response {
    match file(&format!("{name}.html")) {
        Some(bytes) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], bytes.into_owned()).into_response(),
        None => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], UNBUILT).into_response(),
    }
}

/// A hashed asset: its name changes with its content, so browsers may keep it for ever.
pub fn asset(name: &str, headers: &HeaderMap) -> Response {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) && !name.starts_with('.');
    let Some((_, ending)) = name.rsplit_once('.').filter(|_| plain) else { return Refusal::NOT_FOUND.into_response() };
    let kind = match ending {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ => return Refusal::NOT_FOUND.into_response(),
    };
    let brotli =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(|value| value.split(',').any(|coding| coding.trim() == "br"));
    let packed = if brotli { file(&format!("a/{name}.br")) } else { None };
    let encoding = packed.is_some().then_some((header::CONTENT_ENCODING, HeaderValue::from_static("br")));
    let Some(bytes) = packed.or_else(|| file(&format!("a/{name}"))) else { return Refusal::NOT_FOUND.into_response() };
    let mut answer = bytes.into_owned().into_response();
    let fixed: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    answer.headers_mut().extend(fixed.into_iter().chain(encoding));
    answer
}

const UNBUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Gatehouse</title><h1>The pages are not built</h1>\
<p>This service runs, but its pages were not there when it was compiled. Build them with</p>\
<pre>npm ci --prefix shared/ui &amp;&amp; npm run build --prefix shared/ui</pre><p>and start the service again (a release build must be compiled again).</p></html>";

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[test]
    fn names_that_leave_the_folder_find_nothing() {
        for name in ["../manifest.json", "..", ".js", "a/b.js", "x.html", "%2e%2e.js", "", "nul\0.js"] {
            assert_eq!(asset(name, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn a_missing_page_says_how_to_build_it() {
        assert_eq!(page("no-such-page").status(), StatusCode::OK);
    }
}
