//! What calls are, as tables; and what must hold for all of them.

use super::*;
use Class::{CriticalRed, Green, Red, Yellow};
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;

static TOOLS: LazyLock<Tools> = LazyLock::new(|| Tools::parse(TEXT).unwrap_or_else(|error| panic!("{error}")));
static PATHS: LazyLock<Paths> = LazyLock::new(|| Paths::parse(include_str!("../../rules/known/paths.toml")).unwrap_or_else(|error| panic!("{error}")));
static HTTP: LazyLock<Http> = LazyLock::new(|| Http::parse(include_str!("../../rules/known/http.toml")).unwrap_or_else(|error| panic!("{error}")));
const TEXT: &str = include_str!("../../rules/known/registry.toml");
const WORKSPACE: &str = "/home/assistant/.openclaw/workspace";

/// Knows `ls`, fears `rm` and `danger`, and tells where a line would run.
struct Stub;

impl Shell for Stub {
    fn judge(&self, line: &str, cwd: &str, _env: &Map<String, Value>) -> Judgement {
        let mut found = Judgement::default();
        let class = if line.contains("rm") || line.contains("danger") {
            Red
        } else if line.trim_matches('\'').starts_with("ls") {
            Green
        } else {
            Yellow
        };
        found.raise(class, "shell");
        found.effect(Deed::Exec, cwd);
        found
    }

    fn code(&self, language: &str, source: &str) -> Judgement {
        let mut found = Judgement::default();
        found.raise(if source.contains("danger") { Red } else { Green }, language);
        found
    }
}

fn judged(tool: &str, arguments: &Value, resolved: &[(String, Option<String>)]) -> Judgement {
    judge(&TOOLS, &PATHS, &HTTP, &Stub, &Call { assistant: "ast_1", tool, arguments, workspace: WORKSPACE, resolved })
}

fn of(tool: &str, arguments: Value) -> Judgement {
    judged(tool, &arguments, &[])
}

#[track_caller]
fn check(rows: &[(&str, Value, Class, bool, bool)]) {
    for (tool, arguments, class, external, unknown) in rows {
        let found = of(tool, arguments.clone());
        assert_eq!((found.class, found.external, found.unknown), (*class, *external, *unknown), "{tool} {arguments}: {:?}", found.because);
    }
}

#[track_caller]
fn names(class: Class, external: Option<bool>, names: &str) {
    for name in names.split_whitespace() {
        let found = of(name, json!({}));
        assert!(found.class == class && external.is_none_or(|external| external == found.external), "{name}: {} {:?}", found.external, found.because);
    }
}

#[test]
fn commands_and_their_side_doors() {
    check(&[
        ("exec", json!({"command": "ls"}), Green, false, false),
        ("bash", json!({"command": "ls", "timeoutSeconds": 5, "workdir": "src"}), Green, false, false),
        ("exec", json!({"command": "make"}), Yellow, false, false),
        ("exec", json!({"command": "rm"}), Red, false, false),
        ("exec", json!({"command": "ls", "workdir": "/etc"}), Yellow, false, false),
        ("exec", json!({"command": "ls", "workdir": "~/x"}), Red, false, true),
        ("exec", json!({"command": "ls", "env": {"LANG": "C"}}), Green, false, false),
        ("exec", json!({"command": "ls", "env": {"PORT": "1"}}), Yellow, false, false),
        ("exec", json!({"command": "ls", "env": {"LD_PRELOAD": "x"}}), Red, false, false),
        ("exec", json!({"command": "ls", "env": {"git_ssh_command": "x"}}), Red, false, false),
        ("exec", json!({"command": "ls", "env": {"BASH_ENV": "x"}}), Red, false, false),
        ("exec", json!({"command": "ls", "env": {"A B": "x"}}), Red, false, false),
        ("exec", json!({"command": "ls", "env": "PATH=x"}), Red, false, true),
        ("exec", json!({"command": "ls", "elevated": true}), CriticalRed, false, false),
        ("exec", json!({"command": "ls", "elevated": false}), Green, false, false),
        ("exec", json!({"command": "ls", "host": "node", "node": "n"}), CriticalRed, false, false),
        ("exec", json!({"command": "ls", "ask": "off"}), CriticalRed, false, false),
        ("exec", json!({"command": "ls", "host": "moon"}), Red, false, true),
        ("exec", json!({"command": "ls", "surprise": 1}), Red, false, true),
        ("exec", json!({"command": 5}), Red, false, true),
        ("exec", json!({}), Red, false, true),
        ("exec", json!("ls"), Red, false, true),
        ("code_mode_exec", json!({"code": "return 1"}), Yellow, false, false),
        ("code_mode_exec", json!({"command": "danger()"}), Red, false, false),
        ("process", json!({"action": "poll", "sessionId": "a"}), Green, false, false),
        ("process", json!({"action": "write", "sessionId": "a", "data": "y\n"}), Yellow, false, false),
        ("process", json!({"action": "write", "sessionId": "a", "data": "make\n"}), Yellow, false, false),
        ("process", json!({"action": "write", "sessionId": "a", "data": "rm a\n"}), Red, false, false),
        ("process", json!({"action": "write", "sessionId": "a", "data": "r"}), Red, false, true),
        ("process", json!({"action": "paste", "sessionId": "a", "text": "danger()\n"}), Red, false, false),
        ("process", json!({"action": "send-keys", "sessionId": "a", "keys": ["C-c"]}), Yellow, false, false),
        ("process", json!({"action": "send-keys", "sessionId": "a", "keys": ["r", "m", "Space", "a", "Enter"]}), Red, false, false),
        ("process", json!({"action": "send-keys", "sessionId": "a", "keys": ["Up", "Enter"]}), Red, false, true),
        ("process", json!({"action": "send-keys", "sessionId": "a", "hex": ["726d20610a"]}), Red, false, false),
        ("process", json!({"action": "send-keys", "sessionId": "a", "hex": ["zz"]}), Red, false, true),
        ("process", json!({"action": "submit", "sessionId": "a"}), Yellow, false, false),
        ("process", json!({"action": "explode"}), Red, false, true),
        ("terminal", json!({"action": "input", "data": "rm a\n"}), Red, false, false),
        ("nodes", json!({"action": "invoke", "node": "n", "invokeCommand": "system.run", "invokeParamsJson": "{\"command\":[\"ls\"]}"}), Red, false, false),
        ("tool_call", json!({"id": "read", "args": {"path": "a"}}), Green, false, false),
        ("tool_call", json!({"id": "exec", "args": {"command": "rm"}}), Red, false, false),
        ("tool_call", json!({"id": "exec", "args": "{\"command\":\"rm\"}"}), Red, false, false),
        ("tool_call", json!({"id": "exec", "args": "no json"}), Red, false, true),
        ("tool_call", json!({"id": "mail__send_email", "args": {"to": "a@b.de"}}), Yellow, true, false),
        ("tool_call", json!({"args": {}}), Red, false, true),
        ("gatehouse__exec", json!({"command": "ls"}), Green, false, false),
    ]);
    let nested = (0..10).fold(json!({"id": "read", "args": {"path": "a"}}), |inner, _| json!({"id": "tool_call", "args": inner}));
    assert!(of("tool_call", nested).unknown);
    let line = of("exec", json!({"command": "make", "workdir": "src"}));
    assert!(line.effects.iter().any(|effect| effect.target == format!("{WORKSPACE}/src")));
}

#[test]
fn files_pages_and_people() {
    check(&[
        ("read", json!({"path": "notes.md"}), Green, false, false),
        ("read", json!({"path": ".env"}), Red, false, false),
        ("read", json!({"path": "~/notes.md"}), Red, false, true),
        ("read", json!({}), Red, false, true),
        ("ls", json!({}), Green, false, false),
        ("ls", json!({"path": "/etc"}), Yellow, false, false),
        ("write", json!({"path": "notes.md", "content": "x"}), Yellow, false, false),
        ("write", json!({"path": "AGENTS.md", "content": "x"}), Red, false, false),
        ("file_delete", json!({"path": "a"}), Yellow, false, false),
        ("view_image", json!({"paths": ["a.png", "/etc/shadow"]}), Red, false, false),
        ("pdf", json!({"pdf": "https://example.org/a.pdf", "prompt": "x"}), Green, false, false),
        ("pdf", json!({"pdf": "http://127.0.0.1/a.pdf", "prompt": "x"}), Red, false, false),
        ("apply_patch", json!({"input": "*** Begin Patch\n*** Add File: a\n+x\n*** End Patch"}), Yellow, false, false),
        ("apply_patch", json!({"input": "*** Begin Patch\n*** Update File: a\n*** Move to: /etc/x\n*** End Patch"}), Red, false, false),
        ("apply_patch", json!({"input": "*** Begin Patch\n*** Delete File: .env\n*** End Patch"}), Red, false, false),
        ("apply_patch", json!({"input": "*** Begin Patch\n*** Frob File: a\n*** End Patch"}), Red, false, true),
        ("apply_patch", json!({"input": "x"}), Red, false, true),
        ("web_search", json!({"query": "rm -rf /"}), Green, false, false),
        ("web_fetch", json!({"url": "https://example.org/"}), Green, false, false),
        ("web_fetch", json!({"url": "http://169.254.169.254/"}), Red, false, false),
        ("http_request", json!({"url": "https://example.org/"}), Green, false, false),
        ("http_request", json!({"method": "POST", "url": "https://example.org/", "body": {"a": 1}}), Yellow, true, false),
        ("http_request", json!({"url": "https://example.org/", "json": {"a": 1}}), Yellow, true, false),
        ("http_request", json!({"method": "GET", "url": "https://example.org/", "headers": {"X-HTTP-Method-Override": "DELETE"}}), Red, true, false),
        ("browser", json!({"action": "navigate", "targetUrl": "https://example.org/"}), Green, false, false),
        ("browser", json!({"action": "navigate", "request": {"url": "http://localhost/"}}), Red, false, false),
        ("browser", json!({"action": "act", "request": {"kind": "click", "ref": "e1"}}), Yellow, true, false),
        ("browser", json!({"action": "act", "kind": "fill", "fields": []}), Yellow, true, false),
        ("browser", json!({"action": "act", "kind": "evaluate", "fn": "() => 1"}), Red, true, false),
        ("browser", json!({"action": "act", "kind": "wait", "request": {"kind": "evaluate", "fn": "1"}}), Red, true, false),
        ("browser", json!({"action": "act", "kind": "evaluate", "request": {"kind": "wait"}}), Red, true, false),
        ("browser", json!({"action": "act", "request": {"kind": "batch", "actions": [{"kind": "wait"}, {"kind": "hover", "ref": "a"}]}}), Green, false, false),
        (
            "browser",
            json!({"action": "act", "request": {"kind": "batch", "actions": [{"kind": "wait"}, {"kind": "batch", "actions": [{"kind": "evaluate", "fn": "1"}]}]}}),
            Red,
            true,
            false,
        ),
        ("browser", json!({"action": "act", "request": {"kind": "frob"}}), Red, false, true),
        ("browser", json!({"action": "act"}), Red, false, true),
        ("browser", json!({"action": "upload", "paths": ["report.pdf"]}), Yellow, true, false),
        ("browser", json!({"action": "upload", "paths": ["/etc/shadow"]}), Red, true, false),
        ("message", json!({"action": "read", "channel": "x", "target": "y"}), Green, false, false),
        ("message", json!({"action": "send", "channel": "x", "target": "y", "message": "z"}), Yellow, true, false),
        ("message", json!({"action": "something-new"}), Yellow, true, false),
        ("message", json!({"action": "delete", "messageId": "1"}), Red, true, false),
        ("message", json!({"action": "send", "targets": (0..30).map(|n| n.to_string()).collect::<Vec<_>>(), "message": "z"}), Red, true, false),
        ("message", json!({"action": "send", "target": "y", "media": "report.pdf"}), Yellow, true, false),
        ("message", json!({"action": "send", "target": "y", "attachments": [{"path": ".env"}]}), Red, true, false),
    ]);
}

#[test]
fn jobs_and_the_system_itself() {
    check(&[
        ("automations", json!({"action": "list"}), Green, false, false),
        (
            "cron",
            json!({"action": "add", "job": {"payload": {"kind": "agentTurn", "message": "rm -rf"}, "schedule": {"kind": "cron", "expr": "0 8 * * *"}, "delivery": {"mode": "announce", "channel": "x"}}}),
            Yellow,
            false,
            false,
        ),
        ("automations", json!({"action": "add", "job": {"payload": {"kind": "script", "script": "ls"}}}), Red, false, false),
        ("automations", json!({"action": "update", "patch": {"schedule": {"kind": "on-exit", "command": "ls"}}}), Red, false, false),
        ("automations", json!({"action": "add", "job": "{\"payload\":{\"kind\":\"script\"}}"}), Red, false, false),
        (
            "automations",
            json!({"action": "add", "job": {"payload": {"kind": "agentTurn"}, "delivery": {"mode": "webhook", "to": "https://example.org/h"}}}),
            Yellow,
            true,
            false,
        ),
        (
            "automations",
            json!({"action": "add", "job": {"payload": {"kind": "agentTurn"}, "delivery": {"mode": "webhook", "to": "http://10.0.0.1/h"}}}),
            Red,
            true,
            false,
        ),
        ("automations", json!({"action": "frob"}), Red, false, true),
        ("gateway", json!({"action": "config.schema.lookup", "path": "a"}), Green, false, false),
        ("gateway", json!({"action": "update.run"}), CriticalRed, false, false),
        ("plugins", json!({"action": "disable", "pluginId": "a"}), CriticalRed, false, false),
        ("openclaw", json!({"message": "x"}), CriticalRed, false, false),
        ("secrets", json!({"action": "list"}), Green, false, false),
        ("nodes", json!({"action": "approve"}), CriticalRed, false, false),
        ("computer", json!({"action": "left_click", "coordinate": [1, 2]}), Red, true, false),
        ("portal", json!({"action": "open", "port": 80}), Red, false, false),
        ("sessions_spawn", json!({"task": "x"}), Yellow, false, false),
        ("sessions_spawn", json!({"task": "x", "runtime": "acp"}), Red, false, true),
        ("session_status", json!({}), Green, false, false),
        ("session_status", json!({"model": "m"}), Yellow, false, false),
        ("skill_workshop", json!({"action": "apply"}), Red, false, false),
        ("memory_search", json!({"query": "x"}), Green, false, false),
    ]);
}

#[test]
fn names_that_look() {
    names(
        Green,
        Some(false),
        "get_balance get_scheduled_transactions get_sent_emails read_inbox list_files search_emails check_restaurant_opening_hours get_rating_reviews_for_hotels read_file read_multiple_files list_directory directory_tree git_status git_log git_diff git_show
         search_code list_pull_requests get_pull_request_comments slack_list_channels slack_get_channel_history maps_geocode maps_directions brave_web_search list_tables describe_table retrieve_balance list_payment_intents API-get-user pods_list pods_log
         collection-schema firecrawl_scrape resolve-library-id getCurrentWeather searchIssues github__list_issues mcp__jira__get_issue browser_snapshot get_transcript whoami zeige_kalender suche_dateien pruefe_status liste_rechnungen listusers",
    );
}

#[test]
fn names_that_change_what_is_ones_own() {
    names(
        Yellow,
        Some(false),
        "create_file append_to_file edit_file move_file git_commit git_checkout create_entities add_observations create_calendar_event reschedule_calendar_event update_task add_note mark_email_as_read archive_email draft_email create_label export_report
         HassTurnOn set_temperature generate_image save_memory insert-many get_or_create_note find_and_replace check_in_guest resolve_thread convert_lead erstelle_notiz aktualisiere_termin run_tests",
    );
}

#[test]
fn names_that_reach_other_people() {
    names(
        Yellow,
        Some(true),
        "send_email send_direct_message invite_user_to_slack post_webpage share_file slack_post_message slack_add_reaction reply_to_email create_comment create_issue create_pull_request merge_pull_request add_issue_comment github__push_files add_user_to_channel
         add_calendar_event_participants notify_team make_call send_invoice sendMessage sendemail sende_nachricht veroeffentliche_beitrag veröffentliche_beitrag search_and_send_report",
    );
    names(
        Red,
        Some(true),
        "send_newsletter send_bulk_email remove_user_from_channel reserve_hotel book_flight place_order buy_stock subscribe_to_plan bestelle_material buche_hotel",
    );
}

#[test]
fn names_that_destroy_pay_or_open_doors() {
    names(
        Red,
        None,
        "delete_file delete_event cancel_calendar_event drop_table clear_cache remove_label read_and_delete delete-many reboot unlock_door install_package update_user_info create_user get_api_key read_secret lösche_datei loesche_termin",
    );
    assert!(!of("delete_email", json!({"email_id": "1"})).external);
    names(
        CriticalRed,
        None,
        "send_money schedule_transaction update_scheduled_transaction transfer_funds create_refund charge_customer create_payment pay_invoice withdraw_funds wire_transfer zahle_rechnung überweise_geld
         update_password change_password drop_database delete_project delete_repository delete_server delete_backup delete_user update_permissions create_api_key grant_role disable_firewall update_dns_record disable_alarm",
    );
}

#[test]
fn names_that_say_nothing_ask() {
    for name in ["frobnicate", "foo", "do_thing", "manage_everything", "", "__", "a__b", "process_all", "🦀"] {
        let found = of(name, json!({}));
        assert!(found.unknown && found.class == Red, "{name}");
    }
    let hinted = |name: &str, hints: Value| {
        let call = Call { assistant: "a", tool: name, arguments: &json!({}), workspace: WORKSPACE, resolved: &[] };
        judge_annotated(&TOOLS, &PATHS, &HTTP, &Stub, &call, serde_json::from_value(hints).unwrap()).class
    };
    assert_eq!(hinted("frobnicate", json!({"readOnlyHint": true})), Green);
    assert_eq!(hinted("delete_file", json!({"readOnlyHint": true})), Red);
    assert_eq!(hinted("create_file", json!({"readOnlyHint": true})), Yellow);
    assert_eq!(hinted("create_file", json!({"destructiveHint": true, "title": "x"})), Red);
}

#[test]
fn arguments_of_strangers_are_judged_by_their_shape() {
    check(&[
        ("read_file", json!({"path": "notes.md"}), Green, false, false),
        ("read_file", json!({"file_path": "~/.ssh/id_rsa"}), Red, false, false),
        ("read_file", json!({"path": "C:\\Users"}), Red, false, true),
        ("list_things", json!({"options": {"config": [{"path": "/etc/shadow"}]}}), Red, false, false),
        ("write_file", json!({"path": "/etc/hostname", "content": "x"}), Red, false, false),
        ("delete_file", json!({"path": "/etc/sudoers"}), CriticalRed, false, false),
        ("get_webpage", json!({"url": "www.example.org"}), Green, false, false),
        ("get_webpage", json!({"url": "<dynamic>"}), Green, false, false),
        ("get_webpage", json!({"url": "localhost:8080"}), Red, false, false),
        ("fetch", json!({"url": "https://example.org/", "method": "DELETE"}), Red, true, false),
        ("get_resource", json!({"uri": "file:///etc/passwd"}), Red, false, false),
        ("get_item", json!({"note": "see http://example.org/", "source": "http://169.254.169.254/"}), Red, false, false),
        ("execute_command", json!({"command": "ls"}), Green, false, false),
        ("run_command", json!({"command": "rm", "args": ["a"]}), Red, false, false),
        ("execute_command", json!({}), Red, false, true),
        ("run_python", json!({"code": "print(1)"}), Yellow, false, false),
        ("run_python", json!({"code": "danger()"}), Red, false, false),
        ("query", json!({"sql": "SELECT 1"}), Green, false, false),
        ("read_query", json!({"query": "DROP TABLE a"}), Red, false, false),
        ("execute_sql", json!({"query": "DROP DATABASE a"}), CriticalRed, false, false),
        ("search_notes", json!({"query": "delete old files"}), Green, false, false),
        ("create_calendar_event", json!({"title": "x", "participants": []}), Yellow, false, false),
        ("create_calendar_event", json!({"title": "x", "participants": ["a@b.de"]}), Yellow, true, false),
        ("create_thing", json!({"amount": 5, "iban": "DE89370400440532013000"}), CriticalRed, true, false),
        ("send_email", json!({"recipients": (0..20).map(|n| format!("a{n}@b.de")).collect::<Vec<_>>()}), Red, true, false),
        ("search_emails", json!({"sender": "a@b.de", "to": "c@d.de"}), Green, false, false),
        ("calendar", json!({"action": "delete_event"}), Red, false, false),
        ("calendar", json!({"action": "list_events"}), Green, false, false),
        ("issue_write", json!({"method": "create"}), Yellow, true, false),
        ("pull_request_read", json!({"method": "get_diff"}), Green, false, false),
        ("list_items", json!({"mode": "delete"}), Red, false, false),
    ]);
}

#[test]
fn a_path_counts_where_it_leads() {
    let leads = |tool: &str, to: Option<&str>| judged(tool, &json!({"path": "link.md"}), &[("path".to_owned(), to.map(str::to_owned))]);
    assert_eq!(leads("read", Some("/home/assistant/.openclaw/workspace/a.md")).class, Green);
    assert_eq!(leads("read", Some("/etc/shadow")).class, Red);
    assert!(leads("read", None).unknown);
    assert_eq!(leads("some_server__read_file", Some("/etc/shadow")).class, Red);
    assert_eq!(TOOLS.path_arguments("write", &json!({"path": "a", "content": "b"})), ["path"]);
    assert_eq!(TOOLS.path_arguments("x__read_file", &json!({"file_path": "a", "query": "b/c"})), ["file_path"]);
    assert!(TOOLS.takes_paths_literally("write") && !TOOLS.takes_paths_literally("read") && TOOLS.describes("bash") && !TOOLS.describes("x__bash"));
    assert_eq!(TOOLS.presentation("web_search"), [""; 0]);
}

#[test]
fn every_reason_can_be_told() {
    for (tool, arguments) in [
        ("exec", json!({"command": "ls", "env": {"PATH": "x"}})),
        ("frobnicate", json!({})),
        ("read", json!({"path": ".env"})),
        ("web_fetch", json!({"url": "http://127.0.0.1/"})),
        ("query", json!({"sql": "DROP TABLE a"})),
    ] {
        for because in of(tool, arguments).because.iter().filter(|because| because.rule != "shell") {
            let told = TOOLS.sentence(&because.rule).or_else(|| PATHS.sentence(&because.rule)).or_else(|| HTTP.sentence(&because.rule));
            assert!(told.is_some_and(|sentence| sentence.de.starts_with("Der Assistent") && sentence.en.starts_with("The assistant")), "{}", because.rule);
        }
    }
}

#[test]
fn faults_are_named_all_at_once() {
    let broken = TEXT
        .replace("tools = [\"openclaw\"]", "tools = [\"nothing\"]")
        .replace("match = ['secrets {\"action\":\"list\"}']", "match = ['secrets {\"action\":\"delete\"}']")
        .replace("\"tool.deep\" =", "\"tool.shallow\" =");
    let Err(RulesError::Wrong(faults)) = Tools::parse(&broken) else { panic!("the text is broken") };
    for what in [
        "`nothing`, which is not described",
        "`secrets.look` does not hold",
        "`tool.shallow` is found by nobody",
        "`tool.deep` has no sentence",
        "`openclaw` has no rule",
    ] {
        assert!(faults.iter().any(|fault| fault.starts_with("registry.toml") && fault.contains(what)), "{what}: {faults:?}");
    }
    let light = TEXT.replace(
        "when = { arguments = { action = [\"approve\"] } }\nclass = \"critical_red\"",
        "when = { arguments = { action = [\"approve\"] } }\nclass = \"yellow\"",
    );
    assert!(matches!(Tools::parse(&light), Err(RulesError::Wrong(faults)) if faults.iter().any(|fault| fault.contains("`nodes` is taken too lightly"))));
    assert!(matches!(Tools::parse(&TEXT.replace("command = \"shell\"", "command = \"shel\"")), Err(RulesError::Unreadable(_))));
}

#[test]
fn the_text_is_the_same_as_json() {
    let text: Text = toml::from_str(TEXT).unwrap();
    let again = Tools::compile(serde_json::from_str(&serde_json::to_string(&text).unwrap()).unwrap()).unwrap();
    let call = Call { assistant: "a", tool: "exec", arguments: &json!({"command": "ls", "elevated": true}), workspace: WORKSPACE, resolved: &[] };
    assert_eq!(judge(&again, &PATHS, &HTTP, &Stub, &call), judge(&TOOLS, &PATHS, &HTTP, &Stub, &call));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-z./:~$|;*-]{0,20}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys(), inner, 0..4).prop_map(|map| map.into_iter().collect())
        ]
    })
}

fn keys() -> impl Strategy<Value = String> {
    let known = vec![
        "command",
        "path",
        "url",
        "action",
        "kind",
        "request",
        "actions",
        "env",
        "job",
        "payload",
        "delivery",
        "args",
        "id",
        "method",
        "headers",
        "body",
        "sql",
        "code",
        "to",
        "amount",
        "keys",
        "hex",
        "data",
        "input",
        "attachments",
        "workdir",
        "targets",
    ];
    prop_oneof![prop::sample::select(known).prop_map(str::to_owned), "[a-zA-Z_]{0,8}"]
}

fn tools() -> impl Strategy<Value = String> {
    let known: Vec<String> = TOOLS.tools().map(str::to_owned).collect();
    prop_oneof![prop::sample::select(known), "[a-zA-Z_-]{0,20}", ".{0,20}"]
}

proptest! {
    #[test]
    fn nothing_panics(tool in tools(), arguments in values(), fields in prop::collection::btree_map(keys(), values(), 0..6)) {
        of(&tool, arguments);
        of(&tool, fields.into_iter().collect());
    }

    #[test]
    fn a_call_inside_a_call_is_no_safer(tool in tools(), fields in prop::collection::btree_map(keys(), values(), 0..4)) {
        let inner: Value = fields.into_iter().collect();
        let plain = of(&tool, inner.clone());
        let carried = of("tool_call", json!({"id": tool, "args": inner}));
        prop_assert!(carried.class >= plain.class && (carried.external || !plain.external) && (carried.unknown || !plain.unknown));
    }

    #[test]
    fn an_unknown_argument_never_helps(tool in prop::sample::select(vec!["exec", "read", "browser", "message", "automations", "web_fetch"]), fields in prop::collection::btree_map(keys(), values(), 0..4)) {
        let mut more: Map<String, Value> = fields.into_iter().collect();
        let plain = of(tool, Value::Object(more.clone()));
        more.insert("zz_surprise".to_owned(), json!(1));
        let with = of(tool, Value::Object(more));
        prop_assert!(with.class >= plain.class && with.unknown);
    }

    #[test]
    fn a_name_that_destroys_is_never_green(before in "[a-z]{0,6}", after in "[a-z]{0,6}", verb in prop::sample::select(vec!["delete", "send", "pay", "remove", "destroy", "create", "execute", "löschen", "überweisen"])) {
        let name = format!("{before}_{verb}_{after}");
        prop_assert!(of(&name, json!({})).class > Green, "{}", name);
    }
}
