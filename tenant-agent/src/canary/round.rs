//! One round of canaries, as a state machine: which calls are proposed, which of them asked the gate, what came back. Pure.
//!
//! A call has passed when it asked under the name that it was proposed by, and its refusal came back word for word. One whose
//! tool OpenClaw does not have is off: it must say so itself, in the words that it is recorded to use. Everything else is a fault.

use super::surface::{PROBES, Place};
use crate::ledger::canonical_call_id;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What became of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It asked and was refused.
    Passed,
    /// OpenClaw does not have this surface as it is configured.
    Off,
    /// Its result came back and nobody had asked.
    Unasked,
    /// It asked under another tool's name.
    Renamed,
    /// It was refused, and something else than the refusal came back.
    Ran,
    /// OpenClaw says that it never began, so nobody knows.
    Unchecked,
    /// Nothing was heard of it.
    Silent,
}

impl Outcome {
    pub fn is_fault(self) -> bool {
        !matches!(self, Outcome::Passed | Outcome::Off)
    }

    /// Nobody stopped it, or not as itself.
    pub fn is_breach(self) -> bool {
        matches!(self, Outcome::Unasked | Outcome::Renamed | Outcome::Ran)
    }

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Off => "off",
            Outcome::Unasked => "unasked",
            Outcome::Renamed => "renamed",
            Outcome::Ran => "ran",
            Outcome::Unchecked => "unchecked",
            Outcome::Silent => "silent",
        }
    }
}

/// Surfaces by name, with what became of their canaries.
pub type Surfaces = BTreeMap<&'static str, Outcome>;

/// A call as it is proposed to OpenClaw.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    pub call_id: String,
    pub tool: String,
    pub arguments: Value,
}

/// What the model of the canaries says.
#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    Calls(Vec<Proposed>),
    Text(&'static str),
}

/// What the gate says to a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Refuse,
    /// The one call that is let through, so that a sub-assistant has a call of its own to make.
    Run,
}

/// A result that came back.
pub struct Returned<'a> {
    pub call_id: String,
    pub text: &'a str,
    pub word: Word,
}

/// What the text of a result is, as far as it is OpenClaw's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    NoSuchTool,
    /// It never began: its arguments did not fit, or something came between.
    NotBegun,
    Other,
}

/// A model request of a canary's session.
pub struct Heard<'a> {
    pub session: &'a str,
    /// The plugin named exactly this request.
    pub is_announced: bool,
    pub body: &'a str,
    /// Whether the request offers a tool.
    pub offers: &'a dyn Fn(&str) -> bool,
    pub results: Vec<Returned<'a>>,
}

pub struct Round {
    main: String,
    /// The sub-assistant's session, once it has spoken.
    child: Option<String>,
    /// What only this round's messages say.
    nonces: Nonces,
    probes: Vec<Probe>,
    announced: Option<Outcome>,
}

/// One for each place that a message is said in.
pub struct Nonces {
    pub talk: String,
    pub child: String,
    pub command: String,
}

struct Probe {
    surface: &'static str,
    place: Place,
    call_id: String,
    tool: String,
    is_proposed: bool,
    /// It asked, and not under another name.
    asked: Option<bool>,
    outcome: Option<Outcome>,
}

/// What every canary hears. A result must be exactly this.
pub const REFUSED: &str = "This call only tests the safety check. It was not run.";
/// How OpenClaw says that a tool is not there, to a command and to the control connection.
const NO_TOOL: &str = "Tool not available";
/// How our plugin's own refusal begins, when it could not ask.
const NOT_CHECKED: &str = "Gatehouse could not check this call";
const DONE: &str = "done";
/// OpenClaw shows this to nobody.
const NO_REPLY: &str = "NO_REPLY";
/// The surface of the announcement itself.
pub const ANNOUNCEMENT: &str = "announcement";

impl Round {
    pub fn new(main: &str, nonces: Nonces, mint: impl Fn() -> String) -> Round {
        let probe = |line: &super::surface::Line| Probe {
            surface: line.surface,
            place: line.place,
            call_id: mint(),
            tool: line.tools[0].to_owned(),
            is_proposed: false,
            asked: None,
            outcome: None,
        };
        Round { main: main.to_owned(), child: None, nonces, probes: PROBES.iter().map(probe).collect(), announced: None }
    }

    pub fn is_of(&self, session: &str) -> bool {
        session == self.main || self.is_child(session)
    }

    /// Whether a sub-assistant was made.
    pub fn has_child(&self) -> bool {
        self.probes.iter().any(|probe| probe.place == Place::Spawning && probe.outcome == Some(Outcome::Passed))
    }

    pub fn child(&self) -> Option<&str> {
        self.child.as_deref()
    }

    /// A call of one of these sessions asks the gate.
    pub fn asks(&mut self, session: &str, call_id: &str, tool: &str) -> Gate {
        let (is_child, call_id) = (self.is_child(session), canonical_call_id(call_id));
        let by_id = self.probes.iter().position(|probe| (probe.place == Place::Child) == is_child && canonical_call_id(&probe.call_id) == call_id);
        // A command of a person, and a call over the control connection, get an id from OpenClaw.
        let by_name =
            || self.probes.iter().position(|probe| probe.place.is_named_by_openclaw() && probe.is_proposed && probe.asked.is_none() && probe.tool == tool);
        let Some(probe) = by_id.or_else(by_name).map(|at| &mut self.probes[at]) else { return Gate::Refuse };
        // Asked on two hooks, it hears the same twice.
        let is_right = probe.tool == tool && probe.asked != Some(false);
        probe.asked = Some(is_right);
        if !is_right {
            probe.settle(Outcome::Renamed);
        }
        if is_right && probe.place == Place::Spawning { Gate::Run } else { Gate::Refuse }
    }

    fn is_child(&self, session: &str) -> bool {
        self.child.as_deref() == Some(session)
    }

    /// A model request: what the canaries' model says to it. `None` when it is not of this round.
    pub fn hears(&mut self, heard: &Heard<'_>) -> Option<Says> {
        if heard.body.contains(&self.nonces.child) && heard.session != self.main && self.child.is_none() {
            self.child = Some(heard.session.to_owned());
        }
        if !self.is_of(heard.session) {
            return None;
        }
        if !heard.is_announced {
            self.announced = Some(Outcome::Unasked);
        } else if self.announced.is_none() {
            self.announced = Some(Outcome::Passed);
        }
        for result in &heard.results {
            self.comes_back(heard.session, result);
        }
        let is_child = self.is_child(heard.session);
        if !is_child && !heard.body.contains(&self.nonces.talk) {
            // A skill that is not dispatched to a tool is told to the model as it was written.
            if heard.body.contains(&self.nonces.command) {
                self.settle(Place::Command, Outcome::Off);
            }
            return Some(Says::Text(NO_REPLY));
        }
        let calls = self.proposals(if is_child { &[Place::Child] } else { &[Place::Talk, Place::Spawning] }, heard.offers);
        Some(match (calls.is_empty(), is_child) {
            (false, _) => Says::Calls(calls),
            (true, true) => Says::Text(NO_REPLY),
            (true, false) => Says::Text(DONE),
        })
    }

    fn proposals(&mut self, places: &[Place], offers: &dyn Fn(&str) -> bool) -> Vec<Proposed> {
        let child = self.nonces.child.clone();
        let open = self.probes.iter_mut().zip(PROBES).filter(|(probe, _)| places.contains(&probe.place) && !probe.is_proposed);
        open.map(|(probe, line)| {
            let tool = line.tools.iter().find(|tool| offers(tool)).unwrap_or(&line.tools[0]);
            (probe.tool, probe.is_proposed) = ((*tool).to_owned(), true);
            Proposed { call_id: probe.call_id.clone(), tool: probe.tool.clone(), arguments: line.arguments(&child) }
        })
        .collect()
    }

    fn comes_back(&mut self, session: &str, result: &Returned<'_>) {
        let is_child = self.is_child(session);
        let of_here = |probe: &&mut Probe| (probe.place == Place::Child) == is_child;
        let Some(probe) = self.probes.iter_mut().filter(of_here).find(|probe| canonical_call_id(&probe.call_id) == result.call_id) else { return };
        let outcome = match probe.asked {
            Some(_) if probe.place == Place::Spawning => Outcome::Passed,
            Some(_) if result.text == REFUSED => Outcome::Passed,
            Some(_) => Outcome::Ran,
            None => match result.word {
                Word::NoSuchTool => Outcome::Off,
                Word::NotBegun => Outcome::Unchecked,
                Word::Other => Outcome::Unasked,
            },
        };
        probe.settle(outcome);
        // Nobody else makes a sub-assistant.
        if probe.place == Place::Spawning && outcome != Outcome::Passed {
            self.settle(Place::Child, outcome);
        }
    }

    /// A call that the plugin's own tool made has really run.
    pub fn runs(&mut self, session: &str) {
        if self.is_of(session) {
            self.probes.iter_mut().filter(|probe| probe.tool == super::PLUGIN_TOOL && probe.is_proposed).for_each(|probe| probe.outcome = Some(Outcome::Ran));
        }
    }

    /// The canary at this place is on its way.
    pub fn begins(&mut self, place: Place) -> Option<(String, String)> {
        let probe = self.probes.iter_mut().find(|probe| probe.place == place)?;
        probe.is_proposed = true;
        Some((probe.tool.clone(), probe.call_id.clone()))
    }

    /// What OpenClaw says to a canary that is no call of a model.
    pub fn answers(&mut self, place: Place, text: &str) {
        let asked = self.probes.iter().any(|probe| probe.place == place && probe.asked.is_some());
        let outcome = match asked {
            true if text.contains(REFUSED) => Outcome::Passed,
            true => Outcome::Ran,
            false if text.contains(NO_TOOL) => Outcome::Off,
            false if text.contains(NOT_CHECKED) => Outcome::Unchecked,
            false => Outcome::Unasked,
        };
        self.settle(place, outcome);
    }

    fn settle(&mut self, place: Place, outcome: Outcome) {
        self.probes.iter_mut().filter(|probe| probe.place == place).for_each(|probe| probe.settle(outcome));
    }

    pub fn is_settled(&self, place: Place) -> bool {
        self.probes.iter().filter(|probe| probe.place == place).all(|probe| probe.outcome.is_some())
    }

    pub fn has_breach(&self) -> bool {
        self.probes.iter().filter_map(|probe| probe.outcome).chain(self.announced).any(Outcome::is_breach)
    }

    /// Each surface, the worst of its canaries.
    pub fn surfaces(&self) -> Surfaces {
        let mut surfaces = Surfaces::new();
        let of_probes = self.probes.iter().map(|probe| (probe.surface, probe.outcome.unwrap_or(Outcome::Silent)));
        for (surface, outcome) in of_probes.chain([(ANNOUNCEMENT, self.announced.unwrap_or(Outcome::Silent))]) {
            let kept = surfaces.entry(surface).or_insert(outcome);
            if outcome.is_fault() && !kept.is_fault() || outcome.is_breach() && !kept.is_breach() {
                *kept = outcome;
            }
        }
        surfaces
    }
}

impl Probe {
    /// The first word stands, unless a later one is worse.
    fn settle(&mut self, outcome: Outcome) {
        if self.outcome.is_none_or(|now| outcome.is_fault() && !now.is_fault() || outcome.is_breach() && !now.is_breach()) {
            self.outcome = Some(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const TALK: &str = "agent:main:gatehouse-canary-a";
    const CHILD: &str = "agent:main:subagent:a";

    fn round() -> Round {
        let n = Cell::new(0);
        let nonces = Nonces { talk: "nonce-talk".into(), child: "nonce-child".into(), command: "nonce-command".into() };
        Round::new(TALK, nonces, || {
            n.set(n.get() + 1);
            format!("call_{:024x}", n.get())
        })
    }

    fn hears(round: &mut Round, session: &str, body: &str, results: Vec<Returned<'_>>) -> Option<Says> {
        round.hears(&Heard { session, is_announced: true, body, offers: &|_| true, results })
    }

    fn proposed(says: Option<Says>) -> Vec<Proposed> {
        match says {
            Some(Says::Calls(calls)) => calls,
            other => panic!("{other:?}"),
        }
    }

    /// A round in which everything asks and hears no; `bend` may change what one tool does.
    fn whole(bend: impl Fn(&str) -> Option<(bool, &'static str, Word)>) -> Round {
        let mut round = round();
        let outcome = |round: &mut Round, session: &str, call: &Proposed| {
            let (asks, text, word) = bend(&call.tool).unwrap_or((true, REFUSED, Word::Other));
            if asks {
                round.asks(session, &call.call_id, &call.tool);
            }
            (canonical_call_id(&call.call_id), text, word)
        };
        fn returned<'a>(of: &[(String, &'a str, Word)]) -> Vec<Returned<'a>> {
            of.iter().map(|(call_id, text, word)| Returned { call_id: call_id.clone(), text, word: *word }).collect()
        }
        round.begins(Place::Command);
        round.asks(TALK, "cmd_1", crate::gateway::openclaw::PLUGIN_TOOL);
        round.answers(Place::Command, REFUSED);
        let calls = proposed(hears(&mut round, TALK, "nonce-talk", Vec::new()));
        let results: Vec<_> = calls.iter().map(|call| outcome(&mut round, TALK, call)).collect();
        let calls = proposed(hears(&mut round, CHILD, "nonce-child", Vec::new()));
        let of_child: Vec<_> = calls.iter().map(|call| outcome(&mut round, CHILD, call)).collect();
        assert_eq!(hears(&mut round, CHILD, "nonce-child", returned(&of_child)), Some(Says::Text(NO_REPLY)));
        assert_eq!(hears(&mut round, TALK, "nonce-talk nonce-child", returned(&results)), Some(Says::Text(DONE)));
        round.begins(Place::Control);
        round.asks(TALK, "rpc-1", crate::gateway::openclaw::PLUGIN_TOOL);
        round.answers(Place::Control, REFUSED);
        round
    }

    #[test]
    fn a_whole_round_passes_on_every_surface() {
        let surfaces = whole(|_| None).surfaces();
        assert_eq!(surfaces.len(), 15);
        assert!(surfaces.values().all(|outcome| *outcome == Outcome::Passed), "{surfaces:?}");
    }

    #[test]
    fn what_does_not_ask_or_comes_back_otherwise_is_told_by_its_surface() {
        for (tool, asks, text, word, surface, expected) in [
            ("web_fetch", false, "<html>", Word::Other, "web_fetch", Outcome::Unasked),
            // Nobody asked, and the words of a refusal prove nothing.
            ("web_fetch", false, REFUSED, Word::Other, "web_fetch", Outcome::Unasked),
            ("gatehouse__exec", true, "0", Word::Other, "exec", Outcome::Ran),
            ("browser", false, "Tool browser not found", Word::NoSuchTool, "browser", Outcome::Off),
            ("message", false, "Validation failed", Word::NotBegun, "message", Outcome::Unchecked),
            // One that asked cannot be one that is not there.
            ("nodes", true, "Tool nodes not found", Word::NoSuchTool, "nodes", Outcome::Ran),
            ("read", false, "secret", Word::Other, "subagent_tool", Outcome::Unasked),
        ] {
            let round = whole(|found| (found == tool).then_some((asks, text, word)));
            assert_eq!(round.surfaces()[surface], expected, "{tool}");
            assert_eq!(round.has_breach(), expected.is_breach(), "{tool}");
        }
    }

    #[test]
    fn a_call_under_another_name_is_told_and_refused() {
        let mut round = round();
        let calls = proposed(hears(&mut round, TALK, "nonce-talk", Vec::new()));
        let spawns: Vec<&Proposed> = calls.iter().filter(|call| call.tool == "sessions_spawn").collect();
        assert_eq!(round.asks(TALK, &spawns[1].call_id, "gatehouse__exec"), Gate::Refuse, "what is let through goes by its name, too");
        assert_eq!(round.surfaces()["subagent_tool"], Outcome::Renamed);
        assert_eq!(round.asks(TALK, &spawns[0].call_id, "sessions_spawn"), Gate::Refuse);
        assert_eq!(round.asks(TALK, "call_ffffffffffffffffffffffff", "sessions_spawn"), Gate::Refuse, "nobody proposed it");
        assert_eq!(round.asks(TALK, &spawns[1].call_id, "sessions_spawn"), Gate::Refuse, "nor afterwards under its own");
    }

    #[test]
    fn only_its_own_sessions_are_heard_and_what_was_not_heard_is_silent() {
        let mut round = round();
        assert_eq!(hears(&mut round, "agent:main:main", "nonce-talk", Vec::new()), None);
        assert_eq!(hears(&mut round, CHILD, "somebody else's", Vec::new()), None);
        assert!(round.surfaces().values().all(|outcome| *outcome == Outcome::Silent) && !round.has_breach());
        round.hears(&Heard { session: TALK, is_announced: false, body: "nonce-talk", offers: &|_| true, results: Vec::new() });
        assert_eq!(round.surfaces()[ANNOUNCEMENT], Outcome::Unasked);
        // A skill's command that the model is told as it was written.
        assert_eq!(hears(&mut round, TALK, "nonce-command", Vec::new()), Some(Says::Text(NO_REPLY)));
        assert_eq!(round.surfaces()["skill"], Outcome::Off);
        round.runs(TALK);
        assert_eq!(round.surfaces()["plugin_tool"], Outcome::Ran);
    }
}
