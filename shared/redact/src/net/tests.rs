//! What holds for the net as a whole. The examples of each rule are in the file of rules and are checked by loading it.

use super::*;
use proptest::prelude::*;

fn scan(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    Net::built_in().scan(text, &mut found);
    found
}

fn masked(text: &str) -> String {
    let mut done = String::new();
    let mut at = 0;
    for hit in scan(text) {
        done.push_str(&text[at..hit.start]);
        done.push_str(&format!("[REDACTED:{}:0a1b2c3d]", hit.rule.kind()));
        at = hit.end;
    }
    done + &text[at..]
}

/// Put together at run time, so that this file holds nothing that looks like a secret.
fn fill(prefix: &str, count: usize) -> String {
    format!("{prefix}{}", "aB3dE7gH2kL9mN4pQ8sT5v".chars().cycle().take(count).collect::<String>())
}

#[test]
fn the_rules_of_the_program_are_right() {
    if let Err(error) = Net::parse(include_str!("../../rules/secrets.toml")) {
        panic!("{error}");
    }
}

#[test]
fn the_same_rules_can_come_as_json() {
    let book: toml::Value = toml::from_str(include_str!("../../rules/secrets.toml")).unwrap();
    let net = Net::parse(&serde_json::to_string(&book).unwrap()).unwrap();
    assert_eq!(net.rules(), Net::built_in().rules());
}

#[test]
fn a_file_that_cannot_be_right_is_refused() {
    let text = include_str!("../../rules/secrets.toml");
    for (from, to, error) in [
        ("[words]", "[wrods]", "cannot be read"),
        ("id = \"jwt\"", "id = \"jot\"", "no form `jot`"),
        ("id = \"stripe_key\"", "id = \"slack_token\"", "two rules are called `slack_token`"),
        ("{hex:32}", "{hax:32}", "no such class"),
        ("PublicKey = {b64:43}=", "apiKey = {b64:43}=", "of rule `assigned_secret` is found and must not be"),
        ("«{b64url:40}»; theme=dark", "«theme=dark»", "of rule `cookie` is not found"),
    ] {
        let Err(found) = Net::parse(&text.replacen(from, to, 1)) else { panic!("`{from}` may become `{to}`") };
        assert!(found.to_string().contains(error), "{found}");
    }
}

#[test]
fn rules_and_values_can_be_allowed() {
    let text = include_str!("../../rules/secrets.toml");
    let secret = fill("ghp_", 36);
    let found = |net: &Net, text: &str| {
        let mut found = Vec::new();
        net.scan(text, &mut found);
        found.iter().map(|hit| hit.rule.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(Net::built_in(), &secret), ["github_token"]);
    let off = Net::parse(&text.replacen("[allow]", "[allow]\nrules = [\"github_token\"]", 1)).unwrap();
    assert_eq!(found(&off, &secret), ["prefixed_token"], "a general rule still sees it");
    let known = Net::parse(&text.replacen("values = [", &format!("values = [\"{secret}\", "), 1)).unwrap();
    assert_eq!(found(&known, &secret), [] as [&str; 0]);
}

#[test]
fn unlisted_vendors_are_known_by_their_manner() {
    for text in [
        format!("export ACMECLOUD_TOKEN={}", fill("acme_pat_", 30)),
        format!("see {} for it", fill("zorg_live_", 32)),
        format!("zorgApiKey: '{}'", fill("", 32)),
        format!("X-Zorg-Key: {}", fill("", 40)),
        format!("zorg login --token {}", fill("", 28)),
        format!("https://api.zorg.example/v1?apikey={}&x=1", fill("", 24)),
        format!("{{\"zorg\":{{\"clientSecret\":\"{}\"}}}}", fill("", 36)),
    ] {
        assert_eq!(scan(&text).len(), 1, "{text}");
    }
}

#[test]
fn what_is_no_secret_is_left_alone() {
    let hex = "3b8d06f172c94ea5".repeat(4);
    let uuid = "3b8d06f1-72c9-4ea5-9d01-f6b38a4c5e27";
    for text in [
        format!("HEAD is now at {} fix the build", &hex[..40]),
        format!("request id {uuid}"),
        format!("\"session_id\": \"{uuid}\""),
        format!("sha256:{hex}"),
        format!("\"tool_call_id\":\"{}\"", fill("call_", 24)),
        format!("\"encrypted_content\":\"{}\"", fill("gAAAAAB", 300)),
        format!("\"signature\":\"{}==\"", fill("ErUB", 200)),
        format!("policy_public_key = \"{hex}\""),
        "const token = await session.token();".to_owned(),
        format!("Authorization: Bearer [REDACTED:aws:{}]", &hex[..8]),
        "export KEY=SECRET_REF(stripe_live)".to_owned(),
        "let secret = self.vault.read(name)?;".to_owned(),
        "password: process.env.DB_PASSWORD".to_owned(),
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----".to_owned(),
    ] {
        assert_eq!(scan(&text), [], "{text}");
    }
}

/// Texts with a secret in each place that the net knows, and what is around them.
fn samples() -> Vec<String> {
    let key = fill("", 40);
    let body = [fill("MIIE", 60), fill("", 64), fill("", 30)].join("\n");
    vec![
        format!("first {} then", fill("ghp_", 36)),
        format!("the dsn is postgres://app:{}@db.internal/x and more", fill("", 16)),
        format!("-----BEGIN RSA {}-----\n{body}\n-----END RSA {}-----\nafter", "PRIVATE KEY", "PRIVATE KEY"),
        format!("curl -H \"Authorization: Bearer {key}\" https://x"),
        format!("a {}.{}.{} b", fill("eyJ", 20), fill("eyJ", 30), key),
        format!("my password is {} ok?", fill("Qx7!", 8)),
        format!("please use {} as the admin password", fill("Qx7!", 8)),
        format!("<apiToken>\n    {key}\n</apiToken>\n"),
        format!("\"password\": \"{}\", \"x\": 1", fill("Qx7!", 8)),
        format!("hook https://hooks.slack.com/services/T0{}/B0{}/{}", "ABCDEFGH", "JKLMNPQR", fill("", 24)),
        format!("aws_secret_access_key = {key}\nregion = eu-central-1\n"),
    ]
}

#[test]
fn every_sample_is_found() {
    for text in samples() {
        assert_eq!(scan(&text).len(), 1, "{text}");
    }
}

/// A stream is scanned as it grows, and what lies before the live end is given away. Whatever was given away of a
/// secret must have been seen as one at that time.
#[test]
fn nothing_of_a_secret_is_released_before_it_is_seen() {
    let net = Net::built_in();
    for text in samples() {
        let whole = scan(&text);
        for split in (0..=text.len()).filter(|split| text.is_char_boundary(*split)) {
            let head = &text[..split];
            let live = net.live_suffix(head);
            assert!(live <= LIVE_BYTES_MAX && head.is_char_boundary(split - live));
            let seen = scan(head);
            for hit in &whole {
                for at in hit.start..hit.end.min(split - live) {
                    assert!(seen.iter().any(|seen| seen.start <= at && at < seen.end), "byte {at} of {split} of `{text}`");
                }
            }
        }
    }
}

#[test]
fn long_text_without_blanks_is_not_held_back_for_ever() {
    let text = "x".repeat(5000);
    assert_eq!(Net::built_in().live_suffix(&text), LIVE_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 1024 }))]

    /// Any text: no panic, borders of characters, in order, no overlap; masked text is clean.
    #[test]
    fn any_text_can_be_scanned(text in "(.|password|key[:=]|https://|-----BEGIN |eyJ|\\\\n|\"|\n|[a-zA-Z0-9]{16}| ){0,60}") {
        let mut end = 0;
        for hit in scan(&text) {
            prop_assert!(hit.start >= end && hit.start < hit.end && text.get(hit.start..hit.end).is_some());
            end = hit.end;
        }
        let live = Net::built_in().live_suffix(&text);
        prop_assert!(live <= LIVE_BYTES_MAX && text.is_char_boundary(text.len() - live));
    }

    /// Masking is final: a second look finds nothing new, and no secret is left.
    #[test]
    fn masking_is_final(before in "[a-z .,\n]{0,30}", after in "[a-z .,\n]{0,30}", letters in "[A-Za-z0-9]{36}") {
        let text = format!("{before} {}_{letters} {after}", "ghp");
        let once = masked(&text);
        prop_assert!(!once.contains(&letters));
        prop_assert_eq!(masked(&once), once);
    }
}
