//! Stories of the law: how a signed bundle comes into force, and what never does.

use policy::Level;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tests::company::{BUNDLE_KEY, Key, NEXT_BUNDLE_KEY, STRANGER};
use tests::{Machines, Processes, World, soon};
use tokio::process::Command;
use wire::fleet::PolicyState;

const DAY_MS: u64 = 86_400_000;
/// Time that passes faster than frames do ends a link before it has begun.
const SLOWLY_MS: u64 = 20;

#[tokio::test]
async fn a_published_bundle_is_law_in_one_round_trip() {
    let world = World::start().await;
    let alice = world.tenant("alice").await;
    let bob = world.tenant("bob").await;
    let before = world.enforced(|_| true).await;
    assert_eq!((before.state, before.version, before.keys), (PolicyState::Default, 0, 0), "what is compiled in");
    let mut browser = alice.chat().await;
    browser.ask(r#"[[tool:write {"path":"a.md","content":"x"}]]"#).await;
    assert_eq!(alice.gateway.executed().len(), 1, "level 2 lets an assistant write its own files");

    let begun_ms = world.clock.now().mono_ms;
    world.hub.publish_policy(&world.company.trust(), world.company.bundle(7, Level::L1)).await.unwrap();
    let everybody = world.hub.wait_fleet(|fleet| {
        let law = |tenant: &wire::fleet::TenantView| tenant.policy.as_ref().is_some_and(|policy| policy.version == 7 && policy.state == PolicyState::Active);
        fleet.tenants.iter().all(law)
    });
    let fleet = soon(everybody).await.unwrap();
    assert_eq!(fleet.tenants.len(), 2);
    assert_eq!(world.clock.now().mono_ms, begun_ms, "nobody waited for a heartbeat or a round");
    browser.say(r#"[[tool:write {"path":"b.md","content":"x"}]]"#).await;
    assert_eq!(browser.question().await["rule"], "file.change", "at level 1 it asks");
    assert_eq!(alice.gateway.executed().len(), 1);
    alice.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_bundle_the_last_good_one_goes_on() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    world.law(7, Level::L1).await;
    let company = &world.company;
    let changed = |change: fn(&mut policy::bundle::Draft)| {
        let mut draft = company.draft(8, Level::L3);
        change(&mut draft);
        company.signed(&draft, BUNDLE_KEY)
    };
    let short = changed(|draft| draft.days = 1);
    let rows = [
        ("older", company.bundle(6, Level::L3)),
        ("equivocation", company.bundle(7, Level::L3)),
        ("foreign", changed(|draft| draft.fleet = "evil".to_owned())),
        ("foreign", changed(|draft| draft.tenants = vec!["ten_other".to_owned()])),
        ("altered", changed(|_| {}).replacen("\"default\":\"L3\"", "\"default\":\"L2\"", 1)),
        ("unknown_key", company.signed(&company.draft(8, Level::L3), STRANGER)),
        ("needs_newer_agent", changed(|draft| draft.min_agent = "99.0.0".to_owned())),
        ("rules_wrong", changed(|draft| draft.content.rules[0].text.push_str("[[rule]]\nid = \"broken\"\n"))),
        ("malformed", "{}".to_owned()),
    ];
    for (code, text) in rows {
        world.smuggle(&text).await;
        let said = world.enforced(|policy| policy.reason.as_deref() == Some(code)).await;
        assert_eq!((said.state, said.version), (PolicyState::Refused, 7), "{code}");
        let fleet = world.hub.fleet().await.unwrap();
        assert!(fleet.tenants[0].findings.iter().any(|finding| finding.code == "policy_refused" && finding.detail == code), "{code}");
    }
    world.clock.advance(2 * DAY_MS);
    world.smuggle(&short).await;
    // Two days of silence end the link; the agent comes back.
    let said = world.as_time_passes(SLOWLY_MS, world.enforced(|policy| policy.reason.as_deref() == Some("expired"))).await;
    assert_eq!(said.version, 7);
    let mut browser = tenant.chat().await;
    browser.say(r#"[[tool:write {"path":"a.md","content":"x"}]]"#).await;
    assert_eq!(browser.question().await["rule"], "file.change", "level 1 all the while");

    world.smuggle(&company.bundle(9, Level::L2)).await;
    let said = world.enforced(|policy| policy.version == 9).await;
    assert_eq!((said.state, said.reason), (PolicyState::Active, None), "and a good one is taken again");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_expired_bundle_is_enforced_without_its_indulgences() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut draft = world.company.draft(7, Level::L1);
    draft.days = 2;
    let exception = |rule: &str| json!({ "rule": rule, "class": "green", "expires_ms": i64::MAX >> 11, "reason": "a trial", "tenants": [] });
    draft.content.exceptions = ["file.change", "file.write"].map(|rule| serde_json::from_value(exception(rule)).unwrap()).to_vec();
    world.hub.publish_policy(&world.company.trust(), world.company.signed(&draft, BUNDLE_KEY)).await.unwrap();
    world.enforced(|policy| policy.version == 7).await;
    let mut browser = tenant.chat().await;
    browser.ask(r#"[[tool:write {"path":"a.md","content":"x"}]]"#).await;
    assert_eq!(tenant.gateway.executed().len(), 1, "the exception makes it green");
    world.clock.advance(2 * DAY_MS);
    let said = world.as_time_passes(SLOWLY_MS, world.enforced(|policy| policy.state == PolicyState::Expired)).await;
    assert_eq!(said.version, 7);
    assert!(world.hub.fleet().await.unwrap().tenants[0].findings.iter().any(|finding| finding.code == "policy_expired"));
    let mut browser = tenant.browser();
    let login = json!({ "name": "Owner", "password": "correct horse battery" });
    assert_eq!(browser.enter("/auth/login", login).await.status, 200);
    browser.open().await.unwrap();
    browser.say(r#"[[tool:write {"path":"b.md","content":"x"}]]"#).await;
    assert_eq!(browser.question().await["class"], "yellow", "and without it, level 1 asks");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_yes_under_an_older_law_is_weighed_by_the_newer_one() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    world.law(7, Level::L1).await;
    let mut browser = tenant.chat().await;
    browser.say(r#"[[tool:write {"path":"a.md","content":"x"}]]"#).await;
    let question = browser.question().await;
    let mut stricter = world.company.draft(8, Level::L1);
    let rule = "\n[[rule]]\nid = \"test.write\"\nclass = \"critical_red\"\neffect = \"write\"\npaths = [\"@workspace\"]\nreason = { de = \"d\", en = \"e\" }\nmatch = [\"touch a\"]\n";
    stricter.content.rules[0].text.push_str(rule);
    world.hub.publish_policy(&world.company.trust(), world.company.signed(&stricter, BUNDLE_KEY)).await.unwrap();
    world.enforced(|policy| policy.version == 8).await;
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    // The session is told of the grant, maybe before its first run has ended, and the model proposes the same call again.
    browser.event("approval", |approval| approval["state"] == "pending" && approval["class"] == "critical_red").await;
    assert_eq!(tenant.gateway.executed(), [""; 0], "what was yellow when it was asked about is critical by now");
    let asked = browser.call("approvals.list", json!({})).await["payload"]["approvals"].clone();
    assert_eq!((asked[0]["class"].as_str(), asked[0]["state"].as_str()), (Some("critical_red"), Some("pending")), "it is asked about anew");
    assert_eq!((&asked[1]["id"], asked[1]["state"].as_str()), (&question["id"], Some("superseded")));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_revoked_key_takes_its_law_along() {
    let mut world = World::start().await;
    let tenant = world.tenant("alice").await;
    world.law(7, Level::L1).await;
    world.law(8, Level::L2).await;
    // The key is stolen, and signs a number that nobody could exceed.
    let absurd = (1 << 53) - 1;
    world.smuggle(&world.company.bundle(absurd, Level::L3)).await;
    world.enforced(|policy| policy.version == absurd).await;
    world.company.keys.version = 2;
    world.company.keys.revoked = vec![policy::bundle::Signer::public(&Key(BUNDLE_KEY))];
    world.company.keys.versions_from = 9;
    let good = world.company.signed(&world.company.draft(9, Level::L1), NEXT_BUNDLE_KEY);
    world.smuggle(&good).await;
    let said = world.enforced(|policy| policy.version == 9).await;
    assert_eq!((said.state, said.keys), (PolicyState::Active, 2));
    let tenant = tenant.restart().await;
    tenant.ready().await;
    assert_eq!(tenant.console(&tenant_agent::console::Verb::Status {}).await["policy"]["version"], 9);
    tenant.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_kill_between_fetching_and_enforcing_brings_no_older_law_back() {
    let mut machines = Machines::start().await;
    machines.publish(1, Level::L1).await;
    machines.enforces(1).await;
    let mut seen = 1;
    for version in 2..10 {
        machines.publish(version, Level::L2).await;
        // Somewhere between the offer and the law: each time a little later.
        tokio::time::sleep(std::time::Duration::from_millis(40 * version as u64)).await;
        machines.restart_agent().await;
        let found = soon(async {
            loop {
                if let Some(found) = machines.agent_says(&["status"], "").await["policy"]["version"].as_i64() {
                    return found;
                }
            }
        })
        .await;
        assert!((seen..=version).contains(&found), "{found} after {seen}");
        seen = found;
    }
    machines.enforces(9).await;
    // The hub is gone: what was law is law.
    machines.kill_hub().await;
    machines.kill_agent().await;
    let status = machines.agent_says(&["status"], "").await;
    assert_eq!((&status["policy"]["version"], &status["policy"]["state"]), (&json!(9), &json!("active")), "{status}");
    assert_eq!(status["audit_broken_at"], Value::Null);
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn another_law_is_tried_on_what_was_decided() {
    let machines = Machines::start().await;
    let mut browser = machines.owner().await;
    browser.open().await.unwrap();
    let secret = format!("{}{}", "sk-ant-api03-", "Zq8".repeat(20));
    browser.ask(r#"[[tool:write {"path":"a.md","content":"x"}]]"#).await;
    // A model that made one up, or was told one elsewhere.
    let with_secret = json!({ "path": "b.md", "content": secret });
    assert_eq!(machines.gateway.decide("r", "t", "call_replay", "gatehouse__write_file", &with_secret).await.json()["allow"], true);
    let path = std::env::temp_dir().join(format!("gatehouse-replay-{}.json", service::random::token()));
    std::fs::write(&path, machines.company.bundle(1, Level::L1)).unwrap();
    let said = machines.agent_says(&["policy", "replay", path.to_str().unwrap(), "--last", "10"], "").await;
    assert_eq!((&said["calls"], &said["not_whole"]), (&json!(2), &json!(1)), "{said}");
    assert!(!said.to_string().contains("Zq8"), "{said}");
    let first = &said["differences"][1];
    assert_eq!(
        (&first["before"]["verdict"], &first["after"]["verdict"], &first["tool"]),
        (&json!("run"), &json!("ask"), &json!("gatehouse__write_file")),
        "{said}"
    );
    std::fs::write(&path, machines.company.bundle(1, Level::L2)).unwrap();
    let said = machines.agent_says(&["policy", "replay", path.to_str().unwrap()], "").await;
    assert_eq!(said["differences"], json!([]), "the same law changes nothing");
    std::fs::remove_file(path).unwrap();
    machines.end().await;
}

#[tokio::test]
async fn a_companys_own_secrets_are_found_from_its_next_bundle_on() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let draft = |version: i64, patterns: &str| {
        let mut draft = world.company.draft(version, Level::L2);
        draft.content.patterns = vec![policy::bundle::Named { name: "patterns.toml".to_owned(), text: patterns.to_owned() }];
        world.company.signed(&draft, BUNDLE_KEY)
    };
    let customer = format!("crm-{}", "483920175562");
    let spoken = format!("the admin password is {}{} ok?", "Kx7!", "mQ2vRt9w");
    let text = format!("look at {customer}; {spoken}");
    let asked = |count: usize| {
        let requests = world.model.requests();
        assert_eq!(requests.len(), count);
        requests[count - 1].body.to_string()
    };
    browser.ask(&text).await;
    let sent = asked(1);
    assert!(sent.contains(&customer) && sent.contains("[REDACTED:password:") && !sent.contains("mQ2vRt9w"), "{sent}");

    let crm = "[[token]]\nid = \"acme_crm\"\nkind = \"crm\"\nshapes = [\"crm-{digit:12}\"]\nexact = true\n";
    world.hub.publish_policy(&world.company.trust(), draft(7, &format!("{crm}[allow]\nrules = [\"spoken_password\"]\n"))).await.unwrap();
    world.enforced(|policy| policy.version == 7 && policy.state == PolicyState::Active).await;
    browser.ask(&text).await;
    let sent = asked(2);
    let last = sent.rsplit("look at ").next().unwrap();
    assert!(last.starts_with("[REDACTED:crm:") && last.contains("mQ2vRt9w"), "{sent}");

    // The hub publishes none that is wrong, and an agent that gets one all the same keeps the last good one.
    let broken = draft(8, &format!("{crm}match = [\"«crm-{{digit:4}}»\"]\n"));
    let refused = world.hub.publish_policy(&world.company.trust(), broken.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("patterns.toml:2: rule `acme_crm`: example 1 is not found"), "{refused}");
    world.smuggle(&broken).await;
    let said = world.enforced(|policy| policy.reason.as_deref() == Some("rules_wrong")).await;
    assert_eq!((said.state, said.version), (PolicyState::Refused, 7));
    let tenant = tenant.restart().await;
    let mut browser = tenant.browser();
    let login = json!({ "name": "Owner", "password": "correct horse battery" });
    assert_eq!(browser.enter("/auth/login", login).await.status, 200);
    browser.open().await.unwrap();
    browser.ask(&text).await;
    let sent = asked(3);
    assert!(sent.rsplit("look at ").next().unwrap().starts_with("[REDACTED:crm:"), "the net of the kept bundle, from the first call on: {sent}");
    tenant.end().await;
    world.end().await;
}

/// A binary's exit code and what it said on both channels.
async fn says(binary: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(Processes::find().path(binary)).args(arguments).output().await.unwrap();
    (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn from_a_folder_to_a_bundle_by_hand() {
    let folder = std::env::temp_dir().join(format!("gatehouse-ceremony-{}", service::random::token()));
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let mut public = Vec::new();
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["root-1", "root-2", "root-3", "bundle"] {
        let (code, said) = says("hub", &["policy", "keygen", &at(name), "--json"]).await;
        assert_eq!(code, Some(0), "{said}");
        public.push(serde_json::from_str::<Value>(&said).unwrap()["public_key"].as_str().unwrap().to_owned());
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(at(name)).unwrap()) & 0o777, 0o600);
    }
    assert_eq!(says("hub", &["policy", "keygen", &at("bundle")]).await.0, Some(2), "no key is overwritten");
    let roots = public[..3].iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(", ");
    let keys = format!("fleet = \"acme\"\nversion = 1\ndays = 365\nroots = [{roots}]\nthreshold = 2\n[[bundle_key]]\nkey = \"{}\"\ndays = 90\n", public[3]);
    write(&folder, "keys.toml", &keys);
    let (code, said) = says("hub", &["policy", "sign", &at("keys.toml"), "--key", &at("root-1"), "--out", &at("keys.json")]).await;
    assert!(code == Some(0) && said.contains("1 more signatures are needed"), "{said}");
    let verify = |file: &str| {
        let file = at(file);
        let roots = public[..3].to_vec();
        async move { says("hub", &["policy", "verify", &file, "--fleet", "acme", "--root", &roots[0], "--root", &roots[1], "--root", &roots[2]]).await }
    };
    assert_eq!(verify("keys.json").await.0, Some(3), "one of two is not enough");
    let (code, said) = says("hub", &["policy", "sign", &at("keys.json"), "--key", &at("root-3")]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(verify("keys.json").await.0, Some(0));

    write(&folder, "law/bundle.toml", "fleet = \"acme\"\nversion = 1\ndays = 30\n");
    write(&folder, "law/levels.toml", "default = \"L2\"\n");
    write(&folder, "law/rules/cloud.toml", &shipped::content().rules[0].text);
    let sign = ["policy", "sign", &at("law"), "--key", &at("bundle"), "--key-document", &at("keys.json"), "--out", &at("one.json")].map(str::to_owned);
    let sign: Vec<&str> = sign.iter().map(String::as_str).collect();
    let (code, said) = says("hub", &sign).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = verify("one.json").await;
    assert!(code == Some(0) && said.contains("version 1 of fleet `acme`"), "{said}");
    assert_eq!(says("tenant-agent", &["policy", "check", &at("one.json")]).await.0, Some(0));

    write(&folder, "law/levels.toml", "default = \"L3\"\ncolour = 1\n");
    write(&folder, "law/exceptions.toml", "[[exception]]\nrule = \"fs.remove_root\"\nclass = \"green\"\nuntil = 2099-01-01\nreason = \"x\"\n");
    for (binary, command) in [("hub", sign.clone()), ("tenant-agent", vec!["policy", "check", sign[2]])] {
        let (code, said) = says(binary, &command).await;
        assert!(code == Some(3) && said.contains("levels.toml:2: `colour`: no key has this name"), "{binary}: {said}");
    }
    write(&folder, "law/levels.toml", "default = \"L3\"\n");
    let (code, said) = says("tenant-agent", &["policy", "check", &at("law")]).await;
    assert!(code == Some(3) && said.contains("compiled into the agents, and nothing lowers it"), "{said}");
    std::fs::remove_file(folder.join("law/exceptions.toml")).unwrap();
    let (code, said) = says("hub", &["policy", "diff", &at("one.json"), &at("law")]).await;
    assert!(code == Some(0) && said.contains("LOOSER") && said.contains("level L3 (was L2)"), "{said}");

    write(
        &folder,
        "law/patterns.toml",
        "[[token]]\nid = \"acme_crm\"\nshapes = [\"crm-{digit:12}\"]\nmatch = [\"«crm-{digit:4}»\"]\n[allow]\nrules = [\"jwt\"]\n",
    );
    for (binary, command) in [("hub", sign.clone()), ("tenant-agent", vec!["policy", "check", sign[2]])] {
        let (code, said) = says(binary, &command).await;
        assert!(code == Some(3) && said.contains("patterns.toml:6: rule `jwt`: what it finds is certain"), "{binary}: {said}");
    }
    write(&folder, "law/patterns.toml", "[[token]]\nid = \"acme_crm\"\nshapes = [\"crm-{digit:12}\"]\n");
    let (code, said) = says("hub", &["policy", "diff", &at("one.json"), &at("law")]).await;
    assert!(code == Some(0) && said.contains("patterns patterns.toml: new file"), "{said}");

    let mut altered = std::fs::read_to_string(at("one.json")).unwrap();
    altered = altered.replacen("\"default\":\"L2\"", "\"default\":\"L3\"", 1);
    std::fs::write(at("two.json"), altered).unwrap();
    let (code, said) = verify("two.json").await;
    assert!(code == Some(3) && said.contains("`levels` is not what was signed"), "{said}");
    let own = "[[rule]]\nid = \"own\"\ncommands = [\"cat\"]\nclass = \"red\"\nreason = { de = \"d\", en = \"e\" }\nmatch = [\"echo x\"]\n";
    let (code, said) = says("tenant-agent", &["policy", "check", write(&folder, "own.toml", own).to_str().unwrap()]).await;
    assert!(code == Some(3) && said.contains("own.toml:2: rule `own`: must match `echo x` and does not"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}
