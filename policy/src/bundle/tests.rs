//! TUF's list of attacks, each against a file that would be law without it; and what people who write bundles are told.

use super::*;
use crate::approval::{Digest, canonical_json};
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// Noon of a Friday.
const NOW_MS: i64 = 1_795_176_000_000;
const TENANT: &str = "ten_a";

struct Key(Ed25519KeyPair);

impl Key {
    fn new(seed: u8) -> Key {
        Key(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }
}

impl Signer for Key {
    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public_key().as_ref().try_into().unwrap())
    }

    fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.0.sign(statement).as_ref().try_into().unwrap()
    }
}

/// Root keys 1 to 3, bundle keys 11 and 12, new root keys 4 to 6; 99 is the attacker's.
fn roots(seeds: &[u8]) -> Roots {
    Roots { keys: seeds.iter().map(|seed| Key::new(*seed).public()).collect(), threshold: 2 }
}

fn pinned() -> Trust {
    Trust::pinned("acme", roots(&[1, 2, 3]))
}

fn key_document(version: i64, bundle_keys: &[u8]) -> KeyDocument {
    KeyDocument {
        format: FORMAT,
        fleet: "acme".to_owned(),
        version,
        issued_ms: NOW_MS - DAY_MS,
        expires_ms: NOW_MS + 300 * DAY_MS,
        roots: roots(&[1, 2, 3]),
        bundle_keys: bundle_keys.iter().map(|seed| BundleKey { key: Key::new(*seed).public(), expires_ms: NOW_MS + 60 * DAY_MS }).collect(),
        bundle_threshold: 1,
        revoked: Vec::new(),
        versions_from: 0,
        must: Vec::new(),
    }
}

fn keys_signed(document: &KeyDocument, by: &[u8]) -> Signed {
    let mut signed = Signed::new(document);
    by.iter().for_each(|seed| signed.sign_keys(&Key::new(*seed)));
    signed
}

fn usual_keys() -> Signed {
    keys_signed(&key_document(1, &[11, 12]), &[1, 2])
}

const TOOLS: &str = "[group]\nviewers = [\"look\"]\n";
const RULES: &str = "[[rule]]\nid = \"look\"\ncommands = [\"@viewers\"]\nclass = \"green\"\nreason = { de = \"d\", en = \"e\" }\nmatch = [\"look x\"]\n";

fn draft(version: i64) -> Draft {
    let named = |name: &str, text: &str| vec![Named { name: name.to_owned(), text: text.to_owned() }];
    Draft {
        fleet: "acme".to_owned(),
        channel: "stable".to_owned(),
        version,
        days: 30,
        min_agent: "0.1.0".to_owned(),
        tenants: Vec::new(),
        must: vec!["exceptions".to_owned()],
        content: Content { rules: named("rules/a.toml", RULES), tools: named("tools/a.toml", TOOLS), ..Content::default() },
    }
}

fn sealed(draft: &Draft, by: &[u8], keys: Vec<Signed>) -> File {
    let mut file = File::seal(draft, NOW_MS - 1, keys);
    by.iter().for_each(|seed| file.sign(&Key::new(*seed)));
    file
}

/// What an agent does with bytes: it follows their keys, then asks whether they are law.
fn read(bytes: &[u8], trust: &Trust, reader: &Reader<'_>) -> Result<i64, Refusal> {
    let file = File::parse(bytes)?;
    let trust = trust.advance(&file.keys)?;
    file.open(&trust, reader).map(|(manifest, _)| manifest.version)
}

fn reader(held: Option<(i64, Digest)>) -> Reader<'static> {
    let held = held.map(|(version, digest)| Held { version, digest });
    Reader { tenant: TENANT, channel: "stable", agent_version: "0.1.0", now_ms: NOW_MS, held }
}

/// The outcome as one word: the version that is law, or the code of the refusal.
fn said(outcome: Result<i64, Refusal>) -> String {
    outcome.map_or_else(|refusal| refusal.code().to_owned(), |version| format!("law {version}"))
}

/// The file with something exchanged, in canonical form again.
fn changed(file: &File, change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(&file.text()).unwrap();
    change(&mut value);
    canonical_json(&value)
}

/// The file with another manifest, signed anew by its rightful key: what a careless or newer company would send.
fn resigned(change: impl FnOnce(&mut Value)) -> String {
    let file = sealed(&draft(7), &[11], vec![usual_keys()]);
    let mut value: Value = serde_json::from_str(&file.text()).unwrap();
    change(&mut value["bundle"]["signed"]);
    let signed = canonical_json(&value["bundle"]["signed"]);
    let signature = Key::new(11).sign(format!("gatehouse-policy-bundle-v1\n{signed}").as_bytes());
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    value["bundle"]["signatures"][0]["signature"] = json!(hex);
    canonical_json(&value)
}

#[test]
fn every_attack_on_the_list_is_refused() {
    let good = sealed(&draft(7), &[11], vec![usual_keys()]);
    let other = |change: fn(&mut Draft)| {
        let mut draft = draft(7);
        change(&mut draft);
        sealed(&draft, &[11], vec![usual_keys()])
    };
    let with_keys = |document: KeyDocument, by: &[u8]| sealed(&draft(7), &[11], vec![keys_signed(&document, by)]).text();
    let held = |version| reader(Some((version, Digest::of(b"another"))));
    let at = |now_ms| Reader { now_ms, ..reader(None) };
    let mut revoking = key_document(2, &[12]);
    revoking.revoked = vec![Key::new(11).public()];
    let mut two_needed = key_document(1, &[11, 12]);
    two_needed.bundle_threshold = 2;
    let mut foreign_keys = key_document(1, &[11]);
    foreign_keys.fleet = "evil".to_owned();
    let mut long_lived = key_document(1, &[11]);
    long_lived.bundle_keys[0].expires_ms = NOW_MS + 91 * DAY_MS;
    let mut stale_keys = key_document(1, &[11]);
    stale_keys.expires_ms = NOW_MS;
    let mut spent_key = key_document(1, &[11]);
    spent_key.bundle_keys[0].expires_ms = NOW_MS;
    let mut one_root = key_document(1, &[11]);
    one_root.roots.threshold = 1;
    let mut new_roots = key_document(1, &[11]);
    new_roots.roots = roots(&[4, 5, 6]);

    let rows: Vec<(&str, String, Reader<'_>, &str)> = vec![
        ("as it should be", good.text(), reader(None), "law 7"),
        ("as it should be, over an older one", good.text(), held(6), "law 7"),
        ("the same again", good.text(), reader(Some((7, good.digest()))), "law 7"),
        // Arbitrary software: bytes that nobody trusted signed.
        ("arbitrary: unsigned", sealed(&draft(7), &[], vec![usual_keys()]).text(), reader(None), "unsigned"),
        ("arbitrary: the attacker's key", sealed(&draft(7), &[99], vec![usual_keys()]).text(), reader(None), "unknown_key"),
        ("arbitrary: the attacker's key beside a good one", sealed(&draft(7), &[11, 99], vec![usual_keys()]).text(), reader(None), "law 7"),
        ("arbitrary: no keys at all", sealed(&draft(7), &[11], vec![]).text(), reader(None), "unknown_key"),
        ("arbitrary: other signature", changed(&good, |file| file["bundle"]["signatures"][0]["signature"] = json!("0".repeat(128))), reader(None), "altered"),
        ("arbitrary: other manifest", changed(&good, |file| file["bundle"]["signed"]["version"] = json!(8)), reader(None), "altered"),
        ("arbitrary: no bundle", "{}".to_owned(), reader(None), "malformed"),
        ("arbitrary: no canonical form", good.text().replacen(":", ": ", 1), reader(None), "malformed"),
        ("arbitrary: a name that stands twice", good.text().replacen("{\"bundle\"", "{\"bundle\":1,\"bundle\"", 1), reader(None), "malformed"),
        ("arbitrary: a number with two spellings", resigned(|manifest| manifest["version"] = json!(7.5)), reader(None), "malformed"),
        // Rollback, and two laws under one number.
        ("rollback", good.text(), held(8), "older"),
        ("equivocation", good.text(), held(7), "equivocation"),
        // Indefinite freeze: an old law is good for so long only.
        ("freeze: expired", good.text(), at(NOW_MS + 31 * DAY_MS), "expired"),
        ("freeze: the key document expired", with_keys(stale_keys, &[1, 2]), reader(None), "keys_expired"),
        // Fast-forward: a version or a date from the future.
        ("fast-forward: from the future", good.text(), at(NOW_MS - DAY_MS), "clock_behind"),
        ("fast-forward: a clock that is a little off", good.text(), at(NOW_MS - 5 * 60_000), "law 7"),
        // Mix and match: parts of two files.
        (
            "mix and match: another one's section",
            changed(&good, |file| file["sections"]["levels"] = json!({ "ask_red": false, "assistants": {}, "default": "L3" })),
            reader(None),
            "altered",
        ),
        (
            "mix and match: a missing section",
            changed(&good, |file| drop(file["sections"].as_object_mut().unwrap().remove("exceptions"))),
            reader(None),
            "altered",
        ),
        (
            "mix and match: another one's signature",
            {
                let theirs = sealed(&draft(8), &[11], vec![]);
                changed(&good, |file| {
                    file["bundle"]["signatures"][0]["signature"] = serde_json::to_value(&theirs.signatures()[0]).unwrap()["signature"].clone()
                })
            },
            reader(None),
            "altered",
        ),
        // Endless data.
        ("endless data", " ".repeat(BYTES_MAX + 1), reader(None), "too_large"),
        // Extraneous parts.
        ("extraneous: a section", changed(&good, |file| file["sections"]["more"] = json!([])), reader(None), "extraneous"),
        ("extraneous: a field", changed(&good, |file| file["more"] = json!([])), reader(None), "malformed"),
        // Wrong keys, in every way.
        ("wrong keys: signed by one root", with_keys(key_document(1, &[11]), &[1]), reader(None), "keys_unsigned"),
        (
            "wrong keys: one root, twice",
            {
                let mut keys: Value = serde_json::from_str(&keys_signed(&key_document(1, &[11]), &[1]).text()).unwrap();
                let twice = keys["signatures"][0].clone();
                keys["signatures"].as_array_mut().unwrap().push(twice);
                changed(&good, |file| file["keys"][0] = keys)
            },
            reader(None),
            "keys_unsigned",
        ),
        ("wrong keys: signed by nobody's roots", with_keys(key_document(1, &[11]), &[4, 5]), reader(None), "keys_unsigned"),
        ("wrong keys: of another fleet", with_keys(foreign_keys, &[1, 2]), reader(None), "foreign"),
        ("wrong keys: a key that lives too long", with_keys(long_lived, &[1, 2]), reader(None), "keys_wrong"),
        ("wrong keys: a threshold of one root", with_keys(one_root, &[1, 2]), reader(None), "keys_wrong"),
        ("wrong keys: a root that signs bundles", with_keys(key_document(1, &[1]), &[1, 2]), reader(None), "keys_wrong"),
        ("wrong keys: new roots that did not sign", with_keys(new_roots.clone(), &[1, 2]), reader(None), "keys_unsigned"),
        ("wrong keys: new roots alone", with_keys(new_roots.clone(), &[4, 5]), reader(None), "keys_unsigned"),
        ("wrong keys: old and new roots", with_keys(new_roots, &[1, 2, 4, 5]), reader(None), "law 7"),
        ("a key whose time has run out", with_keys(spent_key, &[1, 2]), reader(None), "key_expired"),
        // A stolen key, with and without a threshold.
        ("compromise: one of two needed", sealed(&draft(7), &[11], vec![keys_signed(&two_needed, &[1, 2])]).text(), reader(None), "too_few_signatures"),
        ("compromise: both of two needed", sealed(&draft(7), &[11, 12], vec![keys_signed(&two_needed, &[1, 2])]).text(), reader(None), "law 7"),
        ("compromise: a revoked key", with_keys(revoking.clone(), &[1, 3]), reader(None), "revoked_key"),
        ("compromise: a revoked key beside a good one", sealed(&draft(7), &[11, 12], vec![keys_signed(&revoking, &[1, 3])]).text(), reader(None), "law 7"),
        // What is not for this agent.
        ("foreign: fleet", other(|draft| draft.fleet = "evil".to_owned()).text(), reader(None), "foreign"),
        ("foreign: channel", other(|draft| draft.channel = "beta".to_owned()).text(), reader(None), "foreign"),
        ("foreign: tenant", other(|draft| draft.tenants = vec!["ten_b".to_owned()]).text(), reader(None), "foreign"),
        ("for this tenant among others", other(|draft| draft.tenants = vec!["ten_b".to_owned(), TENANT.to_owned()]).text(), reader(None), "law 7"),
        ("a newer agent is needed", other(|draft| draft.min_agent = "0.10.0".to_owned()).text(), reader(None), "needs_newer_agent"),
        ("an unreadable version is needed", other(|draft| draft.min_agent = "soon".to_owned()).text(), reader(None), "needs_newer_agent"),
        ("a newer format", resigned(|manifest| manifest["format"] = json!(2)), reader(None), "format_too_new"),
        ("a field that matters and is not known", resigned(|manifest| manifest["must"] = json!(["mood"])), reader(None), "must_unknown"),
        ("a field that is not known and does not matter", resigned(|manifest| manifest["mood"] = json!("fine")), reader(None), "law 7"),
    ];
    for (attack, text, reader, expected) in rows {
        assert_eq!(said(read(text.as_bytes(), &pinned(), &reader)), expected, "{attack}");
    }
}

#[test]
fn a_replayed_key_document_gives_nobody_a_key_back() {
    let mut revoking = key_document(2, &[12]);
    revoking.revoked = vec![Key::new(11).public()];
    let trust = pinned().advance(&[usual_keys(), keys_signed(&revoking, &[1, 2])]).unwrap();
    assert_eq!(trust.keys_version(), 2);
    let replayed = sealed(&draft(8), &[11], vec![usual_keys()]).text();
    assert_eq!(said(read(replayed.as_bytes(), &trust, &reader(None))), "revoked_key");
    let mut twin = key_document(2, &[11]);
    twin.versions_from = 1;
    assert_eq!(trust.advance(&[keys_signed(&twin, &[1, 2])]).unwrap_err().code(), "keys_equivocation");
    assert_eq!(trust.advance(&[keys_signed(&revoking, &[2, 3])]).unwrap(), trust, "other signatures under the same words change nothing");
}

#[test]
fn roots_rotate_by_the_threshold_of_both() {
    let mut second = key_document(2, &[12]);
    second.roots = roots(&[4, 5, 6]);
    let mut third = key_document(3, &[13]);
    third.roots = roots(&[4, 5, 6]);
    let trust = pinned().advance(&[usual_keys(), keys_signed(&second, &[2, 3, 4, 6])]).unwrap();
    assert_eq!(trust.advance(&[keys_signed(&third, &[1, 2])]).unwrap_err().code(), "keys_unsigned", "the old roots have gone");
    let trust = trust.advance(&[keys_signed(&third, &[5, 6])]).unwrap();
    let fresh = sealed(&draft(9), &[13], vec![usual_keys(), keys_signed(&second, &[2, 3, 4, 6]), keys_signed(&third, &[5, 6])]).text();
    assert_eq!(said(read(fresh.as_bytes(), &pinned(), &reader(None))), "law 9", "an agent that slept through it follows the chain");
    assert_eq!(said(read(fresh.as_bytes(), &trust, &reader(None))), "law 9");
    let kept = chain(vec![keys_signed(&third, &[5, 6]), usual_keys(), keys_signed(&second, &[2, 3, 4, 6]), keys_signed(&key_document(1, &[11]), &[1, 2])]);
    assert_eq!((kept.len(), pinned().advance(&kept).unwrap().keys_version()), (3, 3), "one of each version");
    let mut fourth = third.clone();
    fourth.version = 4;
    let kept = chain(kept.into_iter().chain([keys_signed(&fourth, &[5, 6])]).collect());
    assert_eq!((kept.len(), pinned().advance(&kept).unwrap().keys_version()), (3, 4), "what no rotation needs is left out");
    let gap = sealed(&draft(9), &[13], vec![keys_signed(&third, &[5, 6])]).text();
    assert_eq!(said(read(gap.as_bytes(), &pinned(), &reader(None))), "keys_unsigned", "without the rotation nobody knows the new roots");
}

#[test]
fn a_fast_forward_by_a_stolen_key_is_undone() {
    let absurd = (1 << 53) - 1;
    let stolen = sealed(&draft(absurd), &[11], vec![usual_keys()]);
    assert_eq!(said(read(stolen.text().as_bytes(), &pinned(), &reader(None))), format!("law {absurd}"));
    let mut revoking = key_document(2, &[12]);
    revoking.revoked = vec![Key::new(11).public()];
    revoking.versions_from = 7;
    let keys = vec![usual_keys(), keys_signed(&revoking, &[1, 2])];
    let trust = pinned().advance(&keys).unwrap();
    assert_eq!(stolen.signed_by(&trust, None).unwrap_err().code(), "revoked_key", "it is not law any more, so its number does not count");
    let good = sealed(&draft(8), &[12], keys.clone()).text();
    assert_eq!(said(read(good.as_bytes(), &trust, &reader(None))), "law 8");
    let old = sealed(&draft(6), &[12], keys).text();
    assert_eq!(said(read(old.as_bytes(), &trust, &reader(None))), "older", "and what was law long ago does not come back");
}

#[test]
fn a_key_that_ran_out_later_does_not_unmake_what_it_signed() {
    let file = sealed(&draft(7), &[11], vec![usual_keys()]);
    let trust = pinned().advance(&file.keys).unwrap();
    assert_eq!(file.signed_by(&trust, Some(NOW_MS + 61 * DAY_MS)).unwrap_err().code(), "key_expired");
    assert_eq!(file.signed_by(&trust, None), Ok(()));
}

#[test]
fn every_refusal_has_its_code() {
    let mut codes: Vec<&str> = Refusal::CODES.to_vec();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Refusal::CODES.len());
}

proptest! {
    /// Whatever bit of a good file is turned, it is refused, or says the very same.
    #[test]
    fn no_turned_bit_becomes_another_law(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let good = sealed(&draft(7), &[11], vec![usual_keys()]).text();
        let mut bytes = good.clone().into_bytes();
        bytes[at.index(good.len())] ^= 1_u8 << bit;
        let outcome = File::parse(&bytes).and_then(|file| {
            let trust = pinned().advance(&file.keys)?;
            file.open(&trust, &reader(None))
        });
        prop_assert!(outcome.is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[\\[\\]{}\":,a-z0-9]{0,200}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            prop_assert!(File::parse(bytes).is_err() && Signed::parse(&String::from_utf8_lossy(bytes)).is_err());
        }
    }
}

// What people write.

fn files(changes: &[(&str, &str)]) -> Vec<Named> {
    let mut files = vec![
        ("bundle.toml", "fleet = \"acme\"\nversion = 7\ndays = 30\n"),
        ("levels.toml", "default = \"L2\"\n[assistant.ast_a]\nlevel = \"L1\"\n"),
        ("gates.toml", "unlocked = [\"message\"]\n[assistant.ast_a]\nunlocked = []\n"),
        ("exceptions.toml", "[[exception]]\nrule = \"look\"\nclass = \"green\"\nuntil = 2026-12-31\nreason = \"a trial\"\n"),
        ("hosts.toml", "[[host]]\nname = \"API.Example.org\"\n[[host]]\nname = \"*.example.net\"\nreach = \"write\"\nmanner = \"tunnel\"\n"),
        ("prices.toml", "catalogue = 3\n[[price]]\nprovider = \"p\"\nmodel = \"m\"\ninput_nano_usd = 3000\ncached_nano_usd = 300\noutput_nano_usd = 15000\n"),
        (
            "budgets.toml",
            "[each_assistant]\ncall_nano_usd = 5_000_000_000\nrun_nano_usd = 20_000_000_000\nday_nano_usd = 50_000_000_000\nmonth_nano_usd = 500_000_000_000\n",
        ),
        (
            "routes.toml",
            "disabled = [\"q\"]\n[purpose.review]\nprovider = \"p\"\nmodel = \"m\"\noutput_tokens_max = 700\n[purpose.general]\nprovider = \"p\"\nmodel = \"m\"\nfallback = { provider = \"r\", model = \"n\" }\n",
        ),
        ("patterns.toml", "[[token]]\nid = \"crm\"\nshapes = [\"crm-{digit:12}\"]\n"),
        ("tools/a.toml", TOOLS),
        ("rules/a.toml", RULES),
        ("workflows/mail.toml", "title = \"Mail\"\n"),
    ];
    for (name, text) in changes {
        files.retain(|(other, _)| other != name);
        if !text.is_empty() {
            files.push((name, text));
        }
    }
    files.into_iter().map(|(name, text)| Named { name: name.to_owned(), text: text.to_owned() }).collect()
}

#[test]
fn a_folder_becomes_a_bundle() {
    let draft = compile(&files(&[]), NOW_MS).unwrap();
    assert_eq!((draft.version, draft.channel.as_str(), draft.days), (7, "stable", 30));
    assert_eq!(draft.content.exceptions[0].expires_ms, 1_798_761_600_000, "the end of the last day of 2026, UTC");
    assert_eq!(draft.content.prices.models[0].output_nano_usd, 15_000);
    let file = sealed(&draft, &[11], vec![usual_keys()]);
    let trust = pinned().advance(&file.keys).unwrap();
    let (_, content) = File::parse(file.text().as_bytes()).unwrap().open(&trust, &reader(None)).unwrap();
    assert_eq!(content, draft.content);
}

#[test]
fn every_fault_is_told_with_file_line_and_remedy() {
    let broken = files(&[
        ("bundle.toml", "fleet = \"acme\"\nversion = 0\ndays = 30\ncolour = 1\nmust = [\"mood\"]\n"),
        ("levels.toml", "default = \"L9\"\n"),
        ("gates.toml", "unlocked = [\"message\"\n"),
        (
            "exceptions.toml",
            "[[exception]]\nrule = \"look\"\nclass = \"green\"\nuntil = 2020-01-01\nreason = \"x\"\n[[exception]]\nrule = \"x\"\nclass = \"green\"\nuntil = 12:00:00\nreason = \"x\"\nwho = 1\n",
        ),
        ("hosts.toml", "[[host]]\nname = \"*.example\"\n"),
        ("rules/more/b.toml", "[[rule]]\nid = \"x\"\n[[rule]]\nid = \"x\"\n"),
        ("notes.md", "x"),
    ]);
    let said: Vec<String> = compile(&broken, NOW_MS).unwrap_err().iter().map(ToString::to_string).collect();
    for expected in [
        "bundle.toml:4: `colour`: no key has this name; this file may hold fleet,",
        "bundle.toml: `version`: versions begin with 1;",
        "bundle.toml: `must`: `mood` is no field",
        "levels.toml:1: unknown variant `L9`",
        "gates.toml:",
        "exceptions.toml:1: exception for `look`: it ended on 2020-01-01;",
        "exceptions.toml:6: exception for `x`: `until` is no date;",
        "exceptions.toml:11: `exception.who`: no key",
        "hosts.toml:1: `*.` stands before at least two labels",
        "rules/more/b.toml:4: rule `x`: its id stands in line 2 already;",
        "notes.md: no part of a bundle has this name;",
    ] {
        assert!(said.iter().any(|line| line.starts_with(expected)), "{expected}\n{}", said.join("\n"));
    }
}

#[test]
fn faults_of_rules_are_put_to_their_lines() {
    let check = |rules: &str| {
        let draft = compile(&files(&[("rules/b.toml", rules), ("exceptions.toml", "")]), NOW_MS);
        let faults = match draft {
            Ok(draft) => {
                let floor = crate::RuleBook::default();
                let beside = crate::Beside { knowledge: &crate::regime::tests::KNOWLEDGE, floor: floor.clone(), own: &[] };
                crate::Regime::new(&draft.content, TENANT, beside, NOW_MS + DAY_MS, NOW_MS, false).err().unwrap_or_default()
            }
            Err(faults) => faults,
        };
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let rule = |id: &str, more: &str| {
        format!("# about {id}\n[[rule]]\nid = \"{id}\"\ncommands = [\"look\"]\nclass = \"red\"\nreason = {{ de = \"d\", en = \"e\" }}\n{more}\n")
    };
    for (rules, expected) in [
        (rule("b", "match = [\"look\"]\ncolour = 1"), "rules/b.toml:8: unknown field `colour`"),
        (rule("b", "match = [\"other\"]"), "rules/b.toml:3: rule `b`: must match `other` and does not; correct the rule or the example"),
        (rule("look", "match = [\"look\"]"), "rule `look`: is written twice"),
        (rule("b", "match = ["), "rules/b.toml:"),
    ] {
        let said = check(&rules);
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(check(&rule("b", "match = [\"look\"]")), "");
}

#[test]
fn keys_are_written_down_by_people_too() {
    let key = |seed| Key::new(seed).public();
    let text = |roots: &str, days: i64, bundle: PublicKey| {
        format!("fleet = \"acme\"\nversion = 1\ndays = 365\nroots = [{roots}]\nthreshold = 2\n[[bundle_key]]\nkey = \"{bundle}\"\ndays = {days}\n")
    };
    let three = format!("\"{}\", \"{}\", \"{}\"", key(1), key(2), key(3));
    let compiled = |text: String| compile_keys(&Named { name: "policy/keys.toml".to_owned(), text });
    let document = compiled(text(&three, 90, key(11))).unwrap().issued(NOW_MS);
    assert_eq!(document.bundle_keys[0].expires_ms, NOW_MS + 90 * DAY_MS);
    assert!(pinned().advance(&[keys_signed(&document, &[1, 2])]).is_ok());
    for (text, expected) in [
        (text(&three, 91, key(11)), "its life in `days` is not allowed"),
        (text(&format!("\"{}\"", key(1)), 90, key(11)), "threshold must be at least 2 and at most the number of root keys"),
        (text(&three, 90, key(1)), "must stay offline"),
        (text("\"abc\"", 90, key(11)), "is no public key"),
        (text(&three, 90, key(11)) + "colour = 1\n", "keys.toml:9: `bundle_key.colour`"),
    ] {
        let said = compiled(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn routes_that_cannot_be_meant_are_all_named_at_once() {
    let routes = "disabled = [\"off\"]\n[purpose.review]\nprovider = \"moonshot\"\nmodel = \"k\"\noutput_tokens_max = 5000\n[purpose.general]\nprovider = \"off\"\nmodel = \"\"\noutput_tokens_max = 5\n\
        fallback = { provider = \"off\", model = \"\" }\n[purpose.vision]\nprovder = \"p\"\n";
    let said = |routes: &str| compile(&files(&[("routes.toml", routes)]), NOW_MS).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said(routes).contains("`purpose.vision.provder`"), "{}", said(routes));
    let said = said(routes.split("[purpose.vision]").next().unwrap());
    for expected in [
        "moonshot and ollama do not review",
        "has no price",
        "not from 100 to 4096",
        "a provider or a model has no name",
        "leads to a provider that is disabled",
        "its fallback is what has just failed",
        "only a review has",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn differences_are_told_in_words_and_what_loosens_comes_first() {
    let before = compile(&files(&[]), NOW_MS).unwrap().content;
    let yellow = RULES.replace("green", "yellow") + &RULES.replace("\"look\"\ncommands", "\"more\"\ncommands").replace("green", "red");
    let after = compile(
        &files(&[
            ("rules/a.toml", &yellow),
            ("levels.toml", "default = \"L3\"\nask_red = true\n[assistant.ast_a]\nlevel = \"L1\"\n"),
            ("gates.toml", "unlocked = []\n[assistant.ast_a]\nunlocked = [\"message\"]\n"),
            ("exceptions.toml", ""),
            ("prices.toml", "catalogue = 4\n"),
            ("routes.toml", "[purpose.general]\nprovider = \"r\"\nmodel = \"n\"\n"),
            ("budgets.toml", "[tenant]\nday_nano_usd = 7\n[assistant.ast_a]\ncall_nano_usd = 5_000_000_001\nrun_nano_usd = 1\n"),
        ]),
        NOW_MS,
    )
    .unwrap()
    .content;
    let said: Vec<(Weight, String)> =
        diff(&before, &after).into_iter().map(|change| (change.weight, format!("{} {}: {}", change.section, change.about, change.says))).collect();
    for (weight, expected) in [
        (Weight::Looser, "levels default: level L3 (was L2)"),
        (Weight::Looser, "gates ast_a: message: may reach other people"),
        (Weight::Tighter, "rules look: class becomes yellow (was green)"),
        (Weight::Tighter, "rules more: new rule: what it matches is red"),
        (Weight::Tighter, "gates every assistant without a list of its own: message: asks"),
        (Weight::Tighter, "exceptions look: exception removed, down to green for all tenants"),
        (Weight::Looser, "budgets ast_a: a call may cost 5000000001 nano-USD (was 5000000000 nano-USD)"),
        (Weight::Looser, "budgets ast_a: a month may cost no limit (was 500000000000 nano-USD)"),
        (Weight::Tighter, "budgets ast_a: a run may cost 1 nano-USD"),
        (Weight::Tighter, "budgets the tenant: a day may cost 7 nano-USD (was 100000000000 nano-USD)"),
        (Weight::Other, "routes review: route removed"),
        (Weight::Other, "routes general: route becomes r/n, then nobody (was p/m, then r/n)"),
        (Weight::Other, "prices p/m: price removed"),
        (Weight::Other, "prices catalogue: the catalogue becomes 4 (was 3)"),
    ] {
        assert!(said.iter().any(|(is, text)| *is == weight && text.starts_with(expected)), "{expected}\n{said:#?}");
    }
    assert!(said.is_sorted_by_key(|(weight, _)| *weight));
    assert!(diff(&before, &before).is_empty());
}
