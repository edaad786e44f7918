//! What may be kept, under which name, and what may be shown of it.
//!
//! A value in the vault is taken out of every text that leaves, wherever it stands. So a value that ordinary text may
//! hold by chance is refused, with the reason, unless somebody says that it must be so.

use super::VaultError;

/// Keys, certificates with their chain, service accounts. What is larger is a file, not a secret.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// A shorter value stands in ordinary text by chance.
pub const VALUE_CHARS_MIN: usize = 8;
pub const NAME_BYTES_MAX: usize = 64;

/// What somebody insists on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// A value shorter than [`VALUE_CHARS_MIN`].
    pub short: bool,
    /// A value that is a word, a sequence or one character again and again.
    pub common: bool,
}

pub fn check_name(name: &str) -> Result<(), VaultError> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(sound) {
        return Err(VaultError::NameInvalid);
    }
    Ok(())
}

pub fn check_value(name: &str, value: &str, allowed: Allowed) -> Result<(), VaultError> {
    let name = || name.to_owned();
    if value.trim().is_empty() {
        return Err(VaultError::ValueEmpty { name: name() });
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(VaultError::ValueLarge { name: name() });
    }
    if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(VaultError::ValueBinary { name: name() });
    }
    if is_placeholder(value.trim()) {
        return Err(VaultError::ValuePlaceholder { name: name() });
    }
    if is_short(value) && !allowed.short {
        return Err(VaultError::ValueShort { name: name() });
    }
    if is_common(value) && !allowed.common {
        return Err(VaultError::ValueCommon { name: name() });
    }
    Ok(())
}

/// Whether masking it wherever it stands would blank ordinary text.
pub fn is_short(value: &str) -> bool {
    // White space around it is no part of what is looked for.
    value.trim().chars().count() < VALUE_CHARS_MIN
}

/// What may be odd about a value that is kept all the same.
pub fn warnings(value: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if value.trim() != value {
        warnings.push("the value begins or ends with white space, which is kept".to_owned());
    }
    if is_short(value) {
        warnings
            .push(format!("the value has fewer than {VALUE_CHARS_MIN} characters: it would blank ordinary text, so it is not looked for in texts that leave"));
    } else if is_common(value) {
        warnings.push("the value is an ordinary word or pattern: it is blanked wherever it stands".to_owned());
    }
    warnings
}

/// Enough for its owner to know it again: the maker's prefix and the last four characters of a long value, and nothing
/// of a short one.
pub fn masked(value: &str) -> String {
    if value.chars().count() < MASKED_CHARS_MIN || value.contains(char::is_whitespace) {
        return "…".to_owned();
    }
    let prefix = PREFIXES.iter().filter(|prefix| value.starts_with(**prefix)).max_by_key(|prefix| prefix.len()).copied().unwrap_or_default();
    let tail: String = value.chars().skip(value.chars().count() - MASKED_TAIL_CHARS).collect();
    format!("{prefix}…{tail}")
}

/// At least 16 of the value's characters stay hidden behind the tail.
const MASKED_CHARS_MIN: usize = 20;
const MASKED_TAIL_CHARS: usize = 4;

/// Beginnings that tell who made a key, and nothing of it.
const PREFIXES: &[&str] = &[
    "AIza",
    "AKIA",
    "ASIA",
    "SG.",
    "dop_v1_",
    "eyJ",
    "gho_",
    "ghp_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "gsk_",
    "hf_",
    "npm_",
    "pk_live_",
    "pk_test_",
    "pypi-",
    "r8_",
    "rk_live_",
    "rk_test_",
    "shpat_",
    "sk-",
    "sk-ant-",
    "sk-or-",
    "sk-proj-",
    "sk_live_",
    "sk_test_",
    "whsec_",
    "xai-",
    "xapp-",
    "xoxb-",
    "xoxp-",
];

/// Text that stands for a secret. Whoever keeps it has copied from a text that was masked already.
fn is_placeholder(value: &str) -> bool {
    (value.starts_with("SECRET_REF(") && value.ends_with(')')) || (value.starts_with("[REDACTED:") && value.ends_with(']'))
}

fn is_common(value: &str) -> bool {
    let plain = value.trim().to_lowercase();
    let mut chars = plain.chars();
    let first = chars.next();
    let repeated = first.is_some_and(|first| plain.chars().all(|c| c == first));
    // 12345678, abcdefgh, 87654321.
    let steps = || plain.chars().zip(plain.chars().skip(1)).map(|(a, b)| b as i64 - a as i64);
    let sequence = plain.is_ascii() && (steps().all(|step| step == 1) || steps().all(|step| step == -1));
    repeated || sequence || COMMON.binary_search(&plain.as_str()).is_ok()
}

/// Words of German and English texts, of configurations and of careless people, eight letters and more. Sorted.
const COMMON: &[&str] = &[
    "1234567890",
    "abcd1234",
    "abendessen",
    "absender",
    "accounts",
    "activity",
    "addition",
    "administrator",
    "aktivieren",
    "allgemein",
    "although",
    "amazonaws",
    "anfragen",
    "angebote",
    "anthropic",
    "anything",
    "application",
    "application/json",
    "approval",
    "arbeiten",
    "assistant",
    "attachment",
    "aufgaben",
    "ausführen",
    "available",
    "beispiel",
    "benutzer",
    "benutzername",
    "bestellung",
    "bestätigen",
    "business",
    "calendar",
    "category",
    "changeit",
    "changeme",
    "children",
    "collection",
    "commands",
    "community",
    "complete",
    "computer",
    "conditions",
    "configuration",
    "connection",
    "consider",
    "consultation",
    "contents",
    "continue",
    "contract",
    "customer",
    "database",
    "datenbank",
    "datenschutz",
    "december",
    "decision",
    "delivery",
    "describe",
    "description",
    "deutschland",
    "developer",
    "development",
    "dezember",
    "different",
    "directory",
    "disabled",
    "discount",
    "discussion",
    "document",
    "documents",
    "dokument",
    "dokumente",
    "donnerstag",
    "download",
    "einladung",
    "einstellungen",
    "empfänger",
    "employee",
    "employees",
    "environment",
    "erinnerung",
    "everyone",
    "everything",
    "example.com",
    "existing",
    "experience",
    "february",
    "fehlermeldung",
    "firstname",
    "folgende",
    "following",
    "function",
    "funktion",
    "geburtstag",
    "geheimnis",
    "generate",
    "geschäft",
    "geschäftsführer",
    "gesellschaft",
    "github.com",
    "google.com",
    "government",
    "guidelines",
    "happened",
    "hardware",
    "homepage",
    "iloveyou",
    "important",
    "included",
    "includes",
    "information",
    "informationen",
    "insurance",
    "interest",
    "internet",
    "invoices",
    "javascript",
    "kalender",
    "kategorie",
    "kennwort",
    "keyboard",
    "kommentar",
    "konfiguration",
    "kontakte",
    "kundenservice",
    "language",
    "lastname",
    "letmein1",
    "lieferung",
    "localhost",
    "location",
    "maintenance",
    "management",
    "marketing",
    "material",
    "mitarbeiter",
    "mitglied",
    "mittwoch",
    "nachricht",
    "nachrichten",
    "national",
    "netzwerk",
    "november",
    "openclaw",
    "operation",
    "original",
    "overview",
    "p@ssw0rd",
    "passw0rd",
    "password",
    "password1",
    "password123",
    "passwort",
    "passwort1",
    "passwort123",
    "payments",
    "personal",
    "position",
    "possible",
    "postgres",
    "postgresql",
    "practice",
    "previous",
    "priority",
    "probably",
    "production",
    "products",
    "produkte",
    "produktion",
    "professional",
    "programm",
    "projects",
    "projekte",
    "provider",
    "question",
    "questions",
    "qwertyui",
    "qwertyuiop",
    "qwertzui",
    "qwertzuiop",
    "readonly",
    "rechnung",
    "rechnungen",
    "reference",
    "register",
    "reminder",
    "repository",
    "required",
    "research",
    "response",
    "saturday",
    "schedule",
    "security",
    "september",
    "services",
    "sessions",
    "settings",
    "shipping",
    "sicherheit",
    "software",
    "something",
    "standard",
    "startseite",
    "statistics",
    "steuerberater",
    "subscription",
    "sunshine",
    "superman",
    "template",
    "test1234",
    "testtest",
    "text/plain",
    "thousand",
    "thursday",
    "together",
    "tomorrow",
    "transfer",
    "trustno1",
    "tutorial",
    "umgebung",
    "undefined",
    "unternehmen",
    "untitled",
    "username",
    "utilities",
    "verbindung",
    "verträge",
    "verwaltung",
    "vielleicht",
    "vorlagen",
    "vorschlag",
    "wednesday",
    "welcome1",
    "whatever",
    "wichtige",
    "willkommen",
    "workflow",
    "workspace",
    "yesterday",
    "zahlungen",
    "zugangsdaten",
    "zusammen",
    "zusammenfassung",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_blank_ordinary_text_is_refused_with_the_reason() {
        let check = |value: &str, allowed: Allowed| match check_value("a", value, allowed) {
            Ok(()) => "fits",
            Err(error) => error.code(),
        };
        let (none, short, common) = (Allowed::default(), Allowed { short: true, ..Allowed::default() }, Allowed { common: true, ..Allowed::default() });
        let table: &[(&str, Allowed, &str)] = &[
            ("vQ7d-mm2", none, "fits"),
            ("two lines\nof a key", none, "fits"),
            ("schlüssel-änderung", none, "fits"),
            ("", none, "vault_value_empty"),
            (" \n", short, "vault_value_empty"),
            ("vQ7d-mm", none, "vault_value_short"),
            ("äöüßäöü", none, "vault_value_short"),
            ("4711", short, "fits"),
            ("password", none, "vault_value_common"),
            ("Passwort", none, "vault_value_common"),
            ("password", short, "vault_value_common"),
            ("password", common, "fits"),
            ("12345678", none, "vault_value_common"),
            ("hgfedcba", none, "vault_value_common"),
            ("xxxxxxxxxxxx", none, "vault_value_common"),
            ("a\0bcdefghij", none, "vault_value_binary"),
            ("a\u{1b}[31mbcdefg", common, "vault_value_binary"),
            ("SECRET_REF(stripe_live)", none, "vault_value_placeholder"),
            ("[REDACTED:known]", none, "vault_value_placeholder"),
        ];
        for (value, allowed, expected) in table {
            assert_eq!(check(value, *allowed), *expected, "{value:?} {allowed:?}");
        }
        assert_eq!(check(&"vQ7d".repeat(VALUE_BYTES_MAX / 4), none), "fits");
        assert_eq!(check(&format!("{}x", "vQ7d".repeat(VALUE_BYTES_MAX / 4)), none), "vault_value_large");
        for (name, sound) in [("", false), ("A", false), ("a b", false), ("a/b", false), ("provider.x", true), ("a-b_c.1", true)] {
            assert_eq!(check_name(name).is_ok(), sound, "{name}");
        }
        assert!(check_name(&"a".repeat(NAME_BYTES_MAX)).is_ok() && check_name(&"a".repeat(NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn the_words_are_sorted_so_that_they_are_found() {
        for pair in COMMON.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
    }

    #[test]
    fn little_is_shown() {
        let body = "Zq8".repeat(10);
        for (value, shown) in [
            (format!("{}{body}", "sk-"), "sk-…8Zq8"),
            (format!("{}{body}", "sk_live_"), "sk_live_…8Zq8"),
            (body.clone(), "…8Zq8"),
            ("maple-river-stone-lamp".to_owned(), "…lamp"),
            ("correct horse battery staple".to_owned(), "…"),
            ("0123456789abcdefghi".to_owned(), "…"),
            ("short".to_owned(), "…"),
        ] {
            assert_eq!(masked(&value), shown, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_and_masked(value in ".{0,80}") {
            let _ = check_value("a", &value, Allowed::default());
            prop_assert!(masked(&value).chars().count() <= 16);
        }
    }
}
