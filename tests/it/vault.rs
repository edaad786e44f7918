//! Stories of the vault, through the real binaries: what never shows, and what survives.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tenant_agent::console::{VaultVerb, Verb};
use tenant_agent::vault::Given;
use tests::{Machines, World, soon};

/// Shaped like nothing, so that only the vault keeps it in.
fn drawn() -> String {
    service::random::token().replace(['-', '_'], "x")
}

fn names(secrets: &Value) -> Vec<&str> {
    secrets.as_array().into_iter().flatten().filter_map(|secret| secret["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_secret_shows_nowhere_but_where_it_is_asked_for() {
    let machines = Machines::start().await;
    let (first, second, imported, key_file) = (drawn(), drawn(), drawn(), format!("{}\n{}", drawn(), drawn()));
    let says = async |arguments: &[&str], input: &str| machines.agent_says(&[&["vault"], arguments].concat(), input).await;
    let mut told = String::new();

    let set = says(&["set", "stripe.live"], &format!("{first}\n")).await;
    assert_eq!((&set["ok"], &set["version"], &set["outcome"]), (&json!(true), &json!(1), &json!("added")), "{set}");
    let rotated = says(&["rotate", "stripe.live"], &second).await;
    assert_eq!((&rotated["version"], &rotated["outcome"]), (&json!(2), &json!("rotated")), "{rotated}");
    let import = says(&["import"], &format!("# from a shop\nexport SHOP_KEY=\"{imported}\" # live\nPORT=8080\nPEM='{key_file}'\n")).await;
    assert_eq!(names(&import["secrets"]), ["shop_key", "pem"], "{import}");
    assert_eq!(import["refused"][0]["code"], "vault_value_short", "{import}");
    let bound = says(&["bind", "stripe.live", "--tool", "exec", "--host", "api.example.org"], "").await;
    assert_eq!((&bound["tools"], &bound["hosts"]), (&json!(["exec"]), &json!(["api.example.org"])));
    for arguments in [&["list"][..], &["list", "--all"], &["history", "stripe.live"], &["show-fingerprint", "stripe.live"], &["check"], &["source"]] {
        told.push_str(&says(arguments, "").await.to_string());
        told.push_str(&String::from_utf8_lossy(&machines.agent_output(&[&["vault"], arguments].concat(), b"").await.stdout));
    }
    told.push_str(&format!("{set}{rotated}{import}{}", machines.agent_says(&["status"], "").await));
    let text = String::from_utf8(machines.agent_output(&["vault", "show-fingerprint", "stripe.live"], b"").await.stdout).unwrap();
    assert_eq!((text.trim(), text.trim().len()), (rotated["fingerprint"].as_str().unwrap(), 12));

    // What is asked for comes, exactly, and the audit says that it did.
    assert_eq!(machines.agent_output(&["vault", "get", "stripe.live"], b"").await.stdout, second.as_bytes());
    assert_eq!(machines.agent_output(&["vault", "get", "pem"], b"").await.stdout, key_file.as_bytes());
    let line = machines.agent_output(&["vault", "get", "shop_key", "--emit-env"], b"").await.stdout;
    assert_eq!(String::from_utf8(line).unwrap(), format!("export SHOP_KEY='{imported}'\n"));
    assert_eq!(says(&["rotate", "stripe.live", "--back-to", "1"], "").await["version"], 3);
    assert_eq!(machines.agent_output(&["vault", "get", "stripe.live"], b"").await.stdout, first.as_bytes());

    // A value on the command line is no value.
    let argued = machines.agent_output(&["vault", "set", "stripe.live", &drawn()], b"").await;
    assert_eq!(argued.status.code(), Some(2));

    let recovery_key = says(&["recovery-key", "new"], "").await["recovery_key"].as_str().expect("it is told once").to_owned();
    let backup = machines.folder().join("vault.backup");
    let exported = says(&["export", backup.to_str().unwrap()], "").await;
    assert_eq!(exported["ok"], true, "{exported}");

    let mut held: Vec<String> = vec![first, second, imported, recovery_key];
    held.extend(key_file.lines().map(str::to_owned));
    for secret in &held {
        assert!(!told.contains(secret.as_str()), "it was told");
    }
    let mut files = 0;
    search(machines.folder(), &held, &mut files);
    assert!(files > 5, "there is something to search");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", machines.pids().0)).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "no core dump");
    machines.end().await;
}

fn search(folder: &Path, held: &[String], files: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let about = entry.file_type().unwrap();
        if about.is_dir() {
            search(&entry.path(), held, files);
        } else if about.is_file() {
            *files += 1;
            let bytes = std::fs::read(entry.path()).unwrap();
            for secret in held {
                assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{} holds a secret", entry.path().display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn what_is_no_secret_is_refused_by_name_and_leaves_the_vault_as_it_was() {
    let machines = Machines::start().await;
    let kept = drawn();
    assert_eq!(machines.agent_says(&["vault", "set", "kept"], &kept).await["ok"], true);
    let large = "vQ7d".repeat(2_500_000);
    let table: &[(&[u8], &[&str], &str)] = &[
        (b"short", &[], "vault_value_short"),
        (b"password", &[], "vault_value_common"),
        (b"\n", &[], "vault_value_empty"),
        (b"", &[], "vault_value_empty"),
        (large.as_bytes(), &[], "vault_value_large"),
        (large.as_bytes(), &["--base64"], "vault_value_large"),
        (b"\xff\xfe\x00\x01 binary", &[], "vault_value_binary"),
        (b"nul \0 inside", &[], "vault_value_binary"),
        (b"SECRET_REF(kept)", &[], "vault_value_placeholder"),
    ];
    for (input, flags, code) in table {
        let arguments = [&["vault", "set", "kept", "--json"], *flags].concat();
        let output = machines.agent_output(&arguments, input).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &answer["code"]), (Some(3), &json!(code)), "{answer}");
    }
    let answer = machines.agent_says(&["vault", "set", "Kept Name"], &drawn()).await;
    assert_eq!(answer["code"], "vault_name_invalid");
    assert_eq!(machines.agent_says(&["vault", "rotate", "kept"], &kept).await["code"], "vault_value_unchanged");
    assert_eq!(machines.agent_says(&["vault", "get", "other"], "").await["code"], "secret_unknown");
    assert_eq!(machines.agent_says(&["vault", "import"], "no assignment").await["code"], "vault_import_malformed");
    assert_eq!(machines.agent_output(&["vault", "get", "kept"], b"").await.stdout, kept.as_bytes());
    // Whoever insists gets it, and hears what it means.
    let pin = machines.agent_says(&["vault", "set", "pin", "--short"], "4711").await;
    assert!(pin["warnings"][0].as_str().unwrap().contains("not looked for"), "{pin}");
    let bytes = machines.agent_output(&["vault", "set", "binary", "--base64"], b"\xff\xfe\x00\x01 binary").await;
    assert!(bytes.status.success());
    assert_eq!(machines.agent_output(&["vault", "get", "binary"], b"").await.stdout, b"//4AASBiaW5hcnk=");
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_terminal_is_shown_nothing_unless_it_is_told_to() {
    let machines = Machines::start().await;
    let secret = drawn();
    assert_eq!(machines.agent_says(&["vault", "set", "a"], &secret).await["ok"], true);
    // `script` gives the command a terminal of its own.
    let on_terminal = |arguments: &str| {
        let line = format!("{} vault {arguments} --config {}", machines.agent_binary().display(), machines.agent_config().display());
        let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null()).output().expect("script is there");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for arguments in ["get a", "get a --emit-env", "recovery-key new"] {
        let (code, shown) = on_terminal(arguments);
        assert_eq!(code, Some(3), "{arguments}: {shown}");
        assert!(shown.contains("on a terminal") && !shown.contains(&secret) && !shown.contains("GHR1-"), "{arguments}: {shown}");
    }
    assert!(machines.agent_says(&["vault", "check"], "").await["recovery_key"].is_null(), "none was made that nobody saw");
    let (code, shown) = on_terminal("get a --reveal");
    assert_eq!((code, shown.trim()), (Some(0), secret.as_str()));
    assert!(on_terminal("recovery-key new --reveal").1.contains("GHR1-"));
    let (code, shown) = on_terminal("set b");
    assert!(code == Some(1) && shown.contains("standard input"), "it does not wait for somebody to type: {shown}");
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_rotation_that_is_killed_leaves_every_value_readable() {
    let mut machines = Machines::start().await;
    let mut file = String::new();
    for number in 0..400 {
        file.push_str(&format!("K{number}={}\n", drawn()));
    }
    assert_eq!(names(&machines.agent_says(&["vault", "import"], &file).await["secrets"]).len(), 400);
    let all = machines.agent_says(&["vault", "check"], "").await;
    let (key, next) = (machines.folder().join("agent/vault.key"), machines.folder().join("agent/vault.key.next"));
    let (mut interrupted, mut ids) = (0, vec![all["key_id"].clone()]);
    for round in 0..10_u64 {
        let rotation = tokio::spawn({
            let (binary, config) = (machines.agent_binary(), machines.agent_config());
            async move { tokio::process::Command::new(binary).args(["vault", "rotate-key", "--json", "--config"]).arg(config).output().await.unwrap() }
        });
        soon(async {
            while !next.exists() && !rotation.is_finished() {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        })
        .await;
        // Where in the rotation it dies is another process's time.
        tokio::time::sleep(Duration::from_micros(round * round * 400)).await;
        machines.end_agent().await;
        interrupted += u32::from(!soon(rotation).await.unwrap().status.success());
        machines.start_agent().await;
        let checked = machines.agent_says(&["vault", "check"], "").await;
        assert_eq!((&checked["values"], &checked["broken"]), (&all["values"], &json!([])), "round {round}: {checked}");
        assert_eq!(checked["key_path"], key.to_str().unwrap(), "the start puts the keys in order");
        let _ = std::fs::remove_file(&next);
        ids.push(checked["key_id"].clone());
    }
    assert!(interrupted > 0, "no rotation was interrupted");
    let rotated = machines.agent_says(&["vault", "rotate-key"], "").await;
    assert_eq!(rotated["ok"], true, "{rotated}");
    assert!(!ids.contains(&rotated["key_id"]));
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_wrong_key_and_a_damaged_store_are_said_and_left_alone() {
    let mut machines = Machines::start().await;
    let secret = drawn();
    assert_eq!(machines.agent_says(&["vault", "set", "a"], &secret).await["ok"], true);
    let (key, store) = (machines.folder().join("agent/vault.key"), machines.folder().join("agent/agent.db"));
    machines.end_agent().await;

    let right = std::fs::read(&key).unwrap();
    service::config::write_private(&key, &[7; 32]).unwrap();
    let refused = machines.agent_output(&["run"], b"").await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(78) && said.contains("sealed with the key") && said.contains("vault.key"), "{said}");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = machines.agent_output(&["run"], b"").await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("chmod 600"));
    service::config::write_private(&key, &right).unwrap();

    // What is still in the log of SQLite comes into the file first.
    rusqlite::Connection::open(&store).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let whole = std::fs::read(&store).unwrap();
    std::fs::write(&store, &whole[..whole.len() / 2]).unwrap();
    let refused = machines.agent_output(&["run"], b"").await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(78) && said.contains("is damaged") && said.contains("backup"), "{said}");
    assert_eq!(std::fs::read(&store).unwrap(), &whole[..whole.len() / 2], "nothing was written over it");
    std::fs::write(&store, &whole).unwrap();

    machines.start_agent().await;
    assert_eq!(machines.agent_output(&["vault", "get", "a"], b"").await.stdout, secret.as_bytes());
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_backup_opens_with_the_tenants_key_alone() {
    let machines = Machines::start().await;
    let (secret, file) = (drawn(), machines.folder().join("vault.backup"));
    let path = file.to_str().unwrap();
    assert_eq!(machines.agent_says(&["vault", "set", "a"], &secret).await["ok"], true);
    assert_eq!(machines.agent_says(&["vault", "export", path], "").await["code"], "recovery_key_missing");
    let draw = async || machines.agent_says(&["vault", "recovery-key", "new"], "").await["recovery_key"].as_str().unwrap().to_owned();
    let key = draw().await;
    assert_eq!(machines.agent_says(&["vault", "export", path], "").await["ok"], true);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
    assert_eq!(machines.agent_output(&["vault", "export", path], b"").await.status.code(), Some(1), "a backup is not written over");
    let later = draw().await;
    assert_eq!(machines.agent_says(&["vault", "forget", "a", "--now"], "").await["ok"], true);
    assert_eq!(machines.agent_says(&["vault", "get", "a"], "").await["code"], "secret_unknown");

    let import = ["vault", "import", "--backup", path];
    assert_eq!(machines.agent_says(&import, &later).await["code"], "recovery_key_wrong");
    assert_eq!(machines.agent_says(&import, &key[..key.len() - 1]).await["code"], "recovery_key_malformed");
    let whole = std::fs::read_to_string(&file).unwrap();
    for (text, code) in [
        (whole[..whole.len() / 2].to_owned(), "backup_malformed"),
        (whole.replace("\"count\":3", "\"count\":4"), "backup_damaged"),
        (whole.replace("\"tenant\":\"ten_", "\"tenant\":\"ten_0"), "backup_foreign"),
    ] {
        let changed = machines.folder().join("changed.backup");
        std::fs::write(&changed, text).unwrap();
        assert_eq!(machines.agent_says(&["vault", "import", "--backup", changed.to_str().unwrap()], &key).await["code"], code);
    }
    let tried = machines.agent_says(&[&import[..], &["--dry-run"]].concat(), &key).await;
    assert_eq!((&tried["replaced"], &tried["unchanged"]), (&json!(["a"]), &json!(2)), "{tried}");
    assert_eq!(machines.agent_says(&["vault", "get", "a"], "").await["code"], "secret_unknown", "a trial changes nothing");
    let restored = machines.agent_says(&import, &key.to_lowercase().replace('-', " ")).await;
    assert_eq!(restored["replaced"], json!(["a"]), "{restored}");
    assert_eq!(machines.agent_output(&["vault", "get", "a"], b"").await.stdout, secret.as_bytes());
    machines.end().await;
}

#[tokio::test]
async fn a_providers_key_may_come_with_the_start() {
    let world = World::start().await;
    let mut tenant = world.fresh_tenant("alice").await;
    let key = world.model_key().to_owned();
    let environment = |name: &str| (name == "GATEHOUSE_SECRET_PROVIDER_SCRIPTED").then(|| key.clone());
    tenant.settings.given = Given::read(&["provider.scripted".to_owned()], environment, None).unwrap();
    // It wins over what the vault has.
    let set = tenant.console(&Verb::Vault { what: VaultVerb::set("provider.scripted", "not the key") }).await;
    assert_eq!(set["ok"], true, "{set}");
    let tenant = tenant.restart().await;
    tenant.ready().await;
    let sources = tenant.console(&Verb::Vault { what: VaultVerb::Sources { name: None } }).await;
    assert_eq!((&sources["sources"][0]["source"], &sources["sources"][0]["others"]), (&json!("environment"), &json!(["vault"])), "{sources}");
    let mut browser = tenant.chat().await;
    browser.ask("hello").await;
    assert_eq!(world.model.requests().len(), 1, "the provider took the key");
    tenant.end().await;
    world.end().await;
}
