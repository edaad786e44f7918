//! The sentences that people read, German and English, from the one catalogue that the pages use too.

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    #[default]
    De,
    En,
}

impl Language {
    pub fn name(self) -> &'static str {
        match self {
            Language::De => "de",
            Language::En => "en",
        }
    }

    pub fn parse(name: &str) -> Option<Language> {
        [Language::De, Language::En].into_iter().find(|language| language.name() == name)
    }

    /// The first language of `Accept-Language` that we speak; German when there is none.
    pub fn of(headers: &HeaderMap) -> Language {
        let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        wanted.split(',').filter_map(|part| Language::parse(part.trim().get(..2)?)).next().unwrap_or_default()
    }
}

type Catalogue = BTreeMap<String, String>;

static DE: LazyLock<Catalogue> = LazyLock::new(|| read(include_str!("../../text/de.json")));
static EN: LazyLock<Catalogue> = LazyLock::new(|| read(include_str!("../../text/en.json")));

fn read(text: &str) -> Catalogue {
    serde_json::from_str(text).expect("the catalogue is a flat JSON object; a test reads it")
}

/// The sentence under `key`, or the key itself: a missing sentence must not hide that something failed.
pub fn sentence(language: Language, key: &str) -> &str {
    let catalogue = match language {
        Language::De => &*DE,
        Language::En => &*EN,
    };
    catalogue.get(key).map_or(key, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn both_languages_have_the_same_keys_and_places() {
        let places = |text: &str| {
            text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(
            DE.keys().eq(EN.keys()),
            "{:?}",
            DE.keys().filter(|k| !EN.contains_key(*k)).chain(EN.keys().filter(|k| !DE.contains_key(*k))).collect::<Vec<_>>()
        );
        for (key, text) in &*DE {
            assert_eq!(places(text), places(&EN[key]), "{key}");
            assert!(!text.trim().is_empty() && !EN[key].trim().is_empty(), "{key}");
        }
    }

    #[test]
    fn the_first_language_that_we_speak_wins() {
        for (header_value, expected) in
            [("en-GB,de;q=0.5", Language::En), ("fr, en", Language::En), ("de-AT", Language::De), ("fr", Language::De), ("", Language::De)]
        {
            let headers = HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, HeaderValue::from_static(header_value))]);
            assert_eq!(Language::of(&headers), expected, "{header_value}");
        }
    }
}
