//! What the demo says: progress on standard error while it starts, the addresses on standard output once it runs.

use super::Story;
use crate::providers::local::{AGENT_MISSING, AGENT_SILENT, AgentState, Local};
use serde_json::json;
use service::text::{Language, sentence};
use service::{Clock, SecretString};
use std::path::Path;
use wire::fleet::{GatewayState, Severity, Step, StepState, TenantView};

/// What a waiting person sees: each step as it changes, and a sign of life in between.
pub struct Progress {
    clock: Clock,
    began_ms: u64,
    said_ms: u64,
    steps: Vec<Step>,
}

/// Silence longer than this worries people.
const SIGN_OF_LIFE_MS: u64 = 5_000;
/// What to say in the chat, and a word about it. The scripted model understands each.
pub const OFFERS: [(&str, &str); 4] = [
    ("Say hello and tell me what you can do.", ""),
    ("Read the file notes.md in the workspace.", ""),
    ("Write a haiku into the file haiku.md.", ""),
    ("Run the command: find . -name '*.tmp' -delete", "it asks for your approval first"),
];
/// The reason of a gateway that is not ready yet, which the step's name says already.
const GATEWAY_STARTING: &str = "gateway_starting";

impl Progress {
    pub fn new(clock: Clock) -> Progress {
        let now = clock.now().mono_ms;
        Progress { clock, began_ms: now, said_ms: now, steps: Vec::new() }
    }

    pub fn say(&mut self, what: &str) {
        self.said_ms = self.clock.now().mono_ms;
        eprintln!("      {:>4} s  {what}", self.secs());
    }

    pub fn secs(&self) -> u64 {
        (self.clock.now().mono_ms - self.began_ms) / 1_000
    }

    /// Returns when nothing was said for a while.
    pub async fn silence(&self) {
        self.clock.sleep((self.said_ms + SIGN_OF_LIFE_MS).saturating_sub(self.clock.now().mono_ms)).await;
    }

    /// Says what is different from the last look.
    pub fn look(&mut self, steps: &[Step]) {
        for line in differences(&self.steps, steps) {
            self.say(&line);
        }
        self.steps = steps.to_vec();
    }

    /// Says what is waited for.
    pub fn alive(&mut self, view: Option<&TenantView>) {
        let what = waited_for(&self.steps, view);
        self.say(&format!("still at it: {what} …"));
    }
}

/// A tenant that was in service before goes through no step while its gateway starts: then the gateway's own word counts.
fn waited_for(steps: &[Step], view: Option<&TenantView>) -> String {
    let gateway = view.map(|view| &view.gateway);
    let reason = gateway.and_then(|gateway| gateway.reason.as_deref());
    let open = steps.iter().find(|step| step.state != StepState::Done);
    let is_starting = reason == Some(GATEWAY_STARTING) || gateway.is_some_and(|gateway| gateway.state == GatewayState::Starting);
    let what = match open {
        Some(step) if step.name != "gateway" => return sentence(Language::En, &format!("step.{}", step.name)).to_owned(),
        _ if is_starting => "OpenClaw starts",
        Some(_) => sentence(Language::En, "step.gateway"),
        None => "the agent's first report",
    };
    let reason = reason.filter(|code| *code != GATEWAY_STARTING).map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{what}{reason}")
}

/// What is new about the agent's process. `before` is the last state that was looked at and is not a start.
pub fn agent_news(before: &AgentState, now: &AgentState) -> Option<&'static str> {
    match now {
        AgentState::Absent | AgentState::Starting => None,
        _ if before == now => None,
        AgentState::Down { code } => Some(match *code {
            AGENT_SILENT => "the agent does not answer; asking it again",
            AGENT_MISSING => "the agent could not be started; trying again",
            _ => "the agent ended; starting it again",
        }),
        AgentState::Refused => Some("the agent refuses its configuration; it stays ended"),
        AgentState::Up { .. } => matches!(before, AgentState::Down { .. } | AgentState::Refused).then_some("the agent runs again"),
    }
}

fn differences(before: &[Step], now: &[Step]) -> Vec<String> {
    let was = |step: &Step| before.iter().find(|other| other.name == step.name);
    let news = now.iter().filter(|step| match was(step) {
        Some(other) => other != *step,
        // What an earlier life left is no news at the first look.
        None => !before.is_empty() || step.state == StepState::Running,
    });
    news.filter(|step| step.state != StepState::Waiting)
        .map(|step| {
            let key = format!("step.{}", step.name);
            let title = sentence(Language::En, &key);
            match (step.state, &step.error) {
                (StepState::Running, _) => format!("{title} …"),
                (StepState::Failed, Some(code)) => format!("{title}: failed ({code})"),
                (state, _) => format!("{title}: {}", if state == StepState::Done { "done" } else { "failed" }),
            }
        })
        .collect()
}

/// The tenant's first owner's way in.
pub enum OwnerLink {
    Fresh(String),
    OwnerExists,
    /// The agent gave none; why.
    Missing(String),
}

/// All that a person needs now.
pub struct Addresses<'a> {
    pub story: &'a Story,
    pub dashboard_url: String,
    pub operator_password: SecretString,
    pub tenant_url: String,
    pub owner_link: OwnerLink,
    pub public_url: String,
    pub model_url: Option<String>,
    pub agent_pid: Option<u32>,
}

impl Addresses<'_> {
    /// One line. It is what somebody who asked for JSON gets instead of the text, the one-time password included.
    pub fn json(&self, gateway: &str) -> String {
        let owner_link = match &self.owner_link {
            OwnerLink::Fresh(link) => Some(link),
            OwnerLink::OwnerExists | OwnerLink::Missing(_) => None,
        };
        json!({
            "dashboard_url": self.dashboard_url,
            "operator_password": self.operator_password.expose(),
            "tenant_url": self.tenant_url,
            "owner_link": owner_link,
            "state_folder": self.story.folder,
            "public_url": self.public_url,
            "model_url": self.model_url,
            "hub_pid": std::process::id(),
            "agent_pid": self.agent_pid,
            "gateway": gateway,
        })
        .to_string()
    }

    pub fn text(&self, heading: &str, local: &Local, tenant: &str) -> String {
        let (link, about) = match &self.owner_link {
            OwnerLink::Fresh(link) => (link.as_str(), "a link for one use: it makes you the owner".to_owned()),
            OwnerLink::OwnerExists => (self.tenant_url.as_str(), "the owner exists: log in with your name and password".to_owned()),
            OwnerLink::Missing(why) => (self.tenant_url.as_str(), format!("no link for the owner yet: {why}")),
        };
        let mut lines = vec![
            String::new(),
            heading.to_owned(),
            String::new(),
            format!("  Assistant   {link}"),
            format!("              {about}"),
            format!("  Dashboard   {}", self.dashboard_url),
            // Showing it once is what it is for.
            format!("              password, works once: {}", self.operator_password.expose()),
            format!("              another one: {}", self.story.password_command()),
            String::new(),
        ];
        if local.has_gateway() {
            lines.push("  Try in the chat".to_owned());
            lines.extend(OFFERS.map(|(offer, about)| format!("    {offer:<34} {about}").trim_end().to_owned()));
            lines.push(String::new());
        } else {
            lines.extend(["  The chat has no assistant: neither --node nor --openclaw was given.".to_owned(), String::new()]);
        }
        lines.extend([
            format!("  Model       {}", self.story.model_about()),
            format!("  State       {}", self.story.folder.display()),
            format!("  Logs        {}", local.log(tenant).display()),
        ]);
        lines.extend(local.has_gateway().then(|| format!("              {}", local.gateway_log(tenant).display())));
        lines.extend([String::new(), "  Ctrl-C stops everything; what was said and decided is kept. --fresh begins anew.".to_owned(), String::new()]);
        lines.join("\n")
    }
}

/// Why the assistant is not ready, as far as anybody knows, and where to look.
pub fn trouble(view: &TenantView, local: &Local) -> String {
    let mut lines = vec!["The assistant is not ready; the demo goes on, and it becomes ready when it can.".to_owned()];
    for step in view.steps.iter().filter(|step| step.state == StepState::Failed) {
        let code = step.error.as_deref().unwrap_or("unknown");
        lines.push(format!("  {}: {}", sentence(Language::En, &format!("step.{}", step.name)), reason(code)));
    }
    let findings = view.findings.iter().filter(|finding| finding.severity == Severity::Fail).map(|finding| finding.code.as_str());
    let mut codes: Vec<&str> = findings.chain(view.gateway.reason.as_deref()).collect();
    codes.dedup();
    lines.extend(codes.into_iter().map(|code| format!("  The agent says: {}", reason(code))));
    lines.push(format!("  Look at {}", local.log(&view.name).display()));
    if local.has_gateway() {
        lines.push(format!("      and {}", local.gateway_log(&view.name).display()));
    }
    lines.join("\n")
}

fn reason(code: &str) -> String {
    let told = ["finding", "error"].iter().map(|family| format!("{family}.{code}")).find_map(|key| {
        let text = sentence(Language::En, &key);
        (text != key).then(|| text.to_owned())
    });
    told.unwrap_or_else(|| format!("it failed ({code})"))
}

/// A path as a shell takes it.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '~');
    if !text.is_empty() && text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, state: StepState, error: Option<&str>) -> Step {
        Step { name: name.into(), state, error: error.map(str::to_owned) }
    }

    #[test]
    fn a_step_is_told_when_it_changes_and_only_then() {
        use StepState::{Done, Failed, Running, Waiting};
        let check = |before: &[Step], now: &[Step], expected: &[&str]| assert_eq!(differences(before, now), expected);
        check(&[], &[step("allocate", Running, None), step("enrol", Waiting, None)], &["Allocate …"]);
        check(&[], &[step("allocate", Done, None), step("enrol", Failed, Some("enrol_failed"))], &[]);
        check(&[step("start", Running, None)], &[step("start", Running, None)], &[]);
        check(&[step("start", Running, None)], &[step("start", Done, None), step("gateway", Running, None)], &["Start agent: done", "Start gateway …"]);
        check(&[step("start", Running, None)], &[step("start", Failed, Some("agent_died"))], &["Start agent: failed (agent_died)"]);
        check(&[step("start", Failed, None)], &[step("start", Waiting, None)], &[]);
    }

    #[test]
    fn what_is_waited_for_has_its_own_name() {
        use StepState::{Done, Running};
        let id: wire::TenantId = service::random::id();
        let view = |state: &str, reason: Option<&str>| -> TenantView {
            serde_json::from_value(json!({
                "id": id, "name": "alice", "url": "", "state": "ready", "steps": [], "presence": "online",
                "last_seen_ms": null, "agent_version": null, "gateway": { "state": state, "reason": reason },
                "usage_today": { "day_ms": 0, "calls": 0, "partial": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0 },
                "approvals": [], "findings": []
            }))
            .unwrap()
        };
        let check = |steps: &[Step], view: Option<&TenantView>, expected: &str| assert_eq!(waited_for(steps, view), expected);
        let served = [step("start", Done, None), step("gateway", Done, None)];
        let starting = view("starting", Some("gateway_starting"));
        check(&served, Some(&starting), "OpenClaw starts");
        check(&served, Some(&view("ready", None)), "the agent's first report");
        check(&[], None, "the agent's first report");
        check(&[step("gateway", Running, None)], Some(&starting), "OpenClaw starts");
        check(&[step("gateway", Running, None)], Some(&view("down", Some("gateway_down"))), "Start gateway (gateway_down)");
        check(&[step("enrol", Running, None)], Some(&starting), "Enrol");
    }

    #[test]
    fn an_agent_that_ends_is_told_of_once_and_so_is_its_return() {
        let up = |pid| AgentState::Up { pid, since_ms: 0 };
        let died = AgentState::Down { code: "agent_died" };
        for (before, now, expected) in [
            (AgentState::Absent, AgentState::Starting, None),
            (AgentState::Absent, up(1), None),
            (up(1), died.clone(), Some("the agent ended; starting it again")),
            (died.clone(), died.clone(), None),
            (died.clone(), up(2), Some("the agent runs again")),
            (up(1), AgentState::Down { code: AGENT_SILENT }, Some("the agent does not answer; asking it again")),
            (up(1), AgentState::Refused, Some("the agent refuses its configuration; it stays ended")),
        ] {
            assert_eq!(agent_news(&before, &now), expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn a_path_survives_a_shell() {
        for (path, expected) in [("/a/b-c.d_e", "/a/b-c.d_e"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'"), ("/$(x)", "'/$(x)'")] {
            assert_eq!(shell_word(Path::new(path)), expected);
        }
    }
}
