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
fn a_file_that_cannot_be_right_is_refused() {
    let text = include_str!("../../rules/secrets.toml");
    for (from, to, error) in [
        ("[words]", "[wrods]", "cannot be read"),
        ("id = \"jwt\"", "id = \"jot\"", "rule `jot`: there is no form"),
        ("id = \"stripe_key\"", "id = \"slack_token\"", "rule `slack_token`: another rule has this name"),
        ("{hex:32}", "{hax:32}", "no such class"),
        ("PublicKey = {b64:43}=", "apiKey = {b64:43}=", "rule `assigned_secret`: counterexample 5 is found and must not be"),
        ("«{b64url:40}»; theme=dark", "«theme=dark»", "rule `cookie`: example 1 is not found"),
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

/// A company's own number, and what a text may say of it.
const CRM: &str = "[[token]]\nid = \"acme_crm\"\nkind = \"crm\"\nshapes = [\"crm-{digit:12}\"]\nexact = true\n";

fn rules(net: &Net, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    net.scan(text, &mut found);
    found.iter().map(|hit| format!("{}/{}", hit.rule, net.kind(&hit.rule))).collect()
}

#[test]
fn a_company_adds_rules_of_its_own() {
    let net = Net::built_in().with(&format!("{CRM}match = [\"customer «crm-{{=0:11}}7»\"]\nnot_match = [\"crm-{{digit:13}}\"]\n"), false).unwrap();
    for number in ["crm-483920175562", "crm-000000000001", "crm-111111111111"] {
        assert_eq!(rules(&net, &format!("please look at {number}, thanks")), ["acme_crm/crm"], "{number}");
        assert_eq!(rules(Net::built_in(), number), [""; 0]);
    }
    assert_eq!(rules(&net, &fill("ghp_", 36)), ["github_token/github_token"], "what came with the program holds");
    let both = net.with("[[token]]\nid = \"acme_contract\"\nshapes = [\"contract:{upper:16}\"]\nconfidence = \"likely\"\n", false).unwrap();
    assert_eq!(rules(&both, "crm-483920175562 and contract:QZ7WXK2MQZ7WXK2M"), ["acme_crm/crm", "acme_contract/acme_contract"]);
}

#[test]
fn a_company_allows_what_is_likely() {
    let spoken = format!("the admin password is {} ok?", fill("Qx7!", 8));
    let (token, likely) = (fill("ghp_", 36), format!("acme_pat_{}", fill("", 30)));
    let with = |more: &str| Net::built_in().with(more, false).unwrap();
    assert_eq!(rules(Net::built_in(), &spoken), ["spoken_password/password"]);
    assert_eq!(rules(&with("[allow]\nrules = [\"spoken_password\"]"), &spoken), [""; 0]);
    assert_eq!(rules(Net::built_in(), &likely), ["prefixed_token/token"]);
    let shapes = with("[allow]\nvalues = [\"acme_pat_{alnum:30}\", \"ghp_{alnum:36}\"]");
    assert_eq!(rules(&shapes, &likely), [""; 0]);
    assert_eq!(rules(&shapes, &token), ["github_token/github_token"], "no shape takes away what is certain");
    assert_eq!(rules(&with(&format!("[allow]\nvalues = [\"{token}\"]")), &token), [""; 0], "one value that somebody vouches for");
}

#[test]
fn an_addition_that_cannot_be_right_is_refused_with_its_line() {
    let token = |id: &str, rest: &str| format!("# Ours.\n[[token]]\nid = \"{id}\"\n{rest}\n");
    let many = (0..17).map(|n| format!("\"z{n}_{{a|b}}{{a|b}}{{a|b}}{{a|b}}{{alnum:20}}\"")).collect::<Vec<_>>().join(", ");
    let values = (0..257).map(|n| format!("\"value-{n}\"")).collect::<Vec<_>>().join(", ");
    for (text, said) in [
        ("[[token]]\nid = ".to_owned(), "line 2: the text: it cannot be read"),
        (token("x", "shapes = [\"crm-{digit:12}\"]\ncolour = 1"), "line 5: the text: it cannot be read: unknown field `colour`"),
        ("[words]\npassword = \"x\"\n".to_owned(), "unknown field `words`"),
        (token("github_token", "shapes = [\"crm-{digit:12}\"]"), "line 3: rule `github_token`: another rule has this name"),
        (format!("{CRM}{CRM}"), "rule `acme_crm`: another rule has this name"),
        (token("a]b", "shapes = [\"crm-{digit:12}\"]"), "rule `a]b`: its id or kind is no name"),
        (token("x", "shapes = []"), "rule `x`: it has no shape"),
        (token("x", "near = [\"\"]\nshapes = [\"crm-{digit:12}\"]"), "an empty word"),
        (token("x", "shapes = [\"crm-{number:12}\"]"), "line 4: shape `crm-{number:12}`: there is no such class"),
        (token("x", "shapes = [\"crm-{digit:8}\"]"), "rule `x`: shape 1 is not found"),
        (token("x", "shapes = [\"crm {digit:16}\"]"), "a shape holds a blank"),
        (token("x", "shapes = [\"crm-{digit:300}\"]"), "its least length is above 256"),
        (token("x", "shapes = [\"crm-{alnum:0-}{digit:8}\"]"), "line 4: shape `crm-{alnum:0-}{digit:8}`: it can be read in too many ways"),
        (token("x", &format!("shapes = [\"{}\"]", "{a|b}".repeat(40))), "more than 256 choices"),
        (token("x", &format!("shapes = [{many}]")), "more than 256 shapes"),
        (format!("[allow]\nvalues = [{values}]"), "more than 256 values"),
        ("#".repeat(70_000), "larger than 64 KiB"),
        (token("x", "shapes = [\"crm-{digit:12}\"]\nmatch = [\"a crm-{digit:12}\"]"), "example 1 does not say with « and »"),
        (token("x", "shapes = [\"crm-{digit:12}\"]\nmatch = [\"«crm-{digit:12}»\", \"«crm_{digit:12}»\"]"), "line 3: rule `x`: example 2 is not found"),
        (token("x", "shapes = [\"crm-{digit:12}\"]\nnot_match = [\"crm-{digit:12}\"]"), "line 3: rule `x`: counterexample 1 is found and must not be"),
        ("[allow]\nrules = [\"github_token\"]".to_owned(), "line 2: rule `github_token`: what it finds is certain"),
        ("[allow]\nrules = [\"nothing\"]".to_owned(), "line 2: rule `nothing`: there is no rule of this name"),
    ] {
        let Err(error) = Net::built_in().with(&text, false) else { panic!("{said}") };
        assert!(error.to_string().contains(said), "{said}\n{error}");
    }
    let proven = token("x", "shapes = [\"crm-{digit:12}\"]\nnot_match = [\"crm-{digit:12}\"]");
    assert!(Net::built_in().with(&proven, true).is_ok(), "examples that held once are not asked again");
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
    let net = Net::built_in().with(&format!("{CRM}[[token]]\nid = \"long\"\nshapes = [\"long:{{alnum:240}}\"]\n"), false).unwrap();
    let added = [format!("customer crm-{} asks", "0".repeat(12)), format!("see \"long:{}\", then", fill("", 300))];
    let scan = |text: &str| {
        let mut found = Vec::new();
        net.scan(text, &mut found);
        found
    };
    assert!(added.iter().all(|text| scan(text).len() == 1));
    for text in samples().into_iter().chain(added) {
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

    /// A model must be able to name the question that it waits for.
    #[test]
    fn typed_ids_are_left_alone(prefix in "ten|hst|ast|per|opr|apr|aud|dev", digits in "[0-9a-f]{32}") {
        let id = format!("{prefix}_{digits}");
        for text in [format!("ask the owner: question {id} waits on the page"), format!("\"assistant\":\"{id}\""), format!("host.id={id}")] {
            prop_assert_eq!(scan(&text).len(), 0, "{}", text);
        }
    }

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
