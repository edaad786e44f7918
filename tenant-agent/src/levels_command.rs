//! `tenant-agent levels …`: what each assistant may do, as a table, and changing it from the machine.

use anyhow::Context;
use clap::{Args, Subcommand};
use policy::{Change, Choices, Level};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use tenant_agent::console::{self, Verb};

#[derive(Subcommand)]
pub enum LevelsCommand {
    /// Show level and gates of each assistant, and how far the company lets the tenant go.
    Show,
    /// Change one thing. What makes nothing looser holds at once. Whatever loosens is a question that an owner answers on
    /// their page, with a signature; its number is printed.
    Set(Set),
}

#[derive(Args)]
pub struct Set {
    /// The assistant's name; may be left out where there is one.
    #[arg(long)]
    assistant: Option<String>,
    #[command(flatten)]
    what: What,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// L1 asks before every change, L2 before dangerous calls, L3 also runs what the rules let it.
    #[arg(long, value_parser = ["L1", "L2", "L3"])]
    level: Option<String>,
    /// Whether L3 asks before dangerous calls, too.
    #[arg(long, value_parser = ["on", "off"])]
    ask_red: Option<String>,
    /// Let this tool reach other people without a question for that alone.
    #[arg(long, value_name = "TOOL")]
    open: Option<String>,
    /// Ask before this tool reaches other people.
    #[arg(long, value_name = "TOOL")]
    lock: Option<String>,
}

impl What {
    fn change(&self) -> Change {
        let gate = |tool: &str, open| Change::Gate { tool: tool.to_owned(), open };
        match (&self.level, &self.ask_red, &self.open, &self.lock) {
            // clap has checked the names, and that there is one of them.
            (Some(level), ..) => Change::Level { to: Level::parse(level).unwrap_or(Level::L1) },
            (_, Some(ask), ..) => Change::AskRed { ask: ask == "on" },
            (.., Some(tool), _) => gate(tool, true),
            (.., tool) => gate(tool.as_deref().unwrap_or_default(), false),
        }
    }
}

/// The console's answer, and the same for people.
pub async fn run(command: &LevelsCommand, socket: &Path) -> anyhow::Result<(Value, String)> {
    let verb = match command {
        LevelsCommand::Show => Verb::Levels {},
        LevelsCommand::Set(Set { assistant, what }) => Verb::LevelSet { assistant: assistant.clone(), change: what.change() },
    };
    let answer = console::say(socket, &verb).await?;
    let text = match (answer["message"].as_str(), answer["approval"].as_str()) {
        (Some(message), _) => message.to_owned(),
        (_, Some(approval)) => format!("an owner has to decide: question {approval} waits on the approvals page"),
        _ => match answer["assistants"].as_array() {
            Some(assistants) => table(assistants, &answer["paused"]),
            None => table(std::slice::from_ref(&answer["assistant"]), &Value::Null),
        },
    };
    Ok((answer, text))
}

/// What the tenant of the running agent has chosen.
pub async fn choices(socket: &Path) -> anyhow::Result<Choices> {
    #[derive(Deserialize)]
    struct Line {
        assistant: String,
        change: Change,
    }
    let answer = console::say(socket, &Verb::Levels {}).await?;
    let lines: Vec<Line> = serde_json::from_value(answer["choices"].clone()).context("the tenant's choices are unreadable")?;
    let mut choices = Choices::default();
    lines.iter().for_each(|line| choices.make(&line.assistant, &line.change));
    Ok(choices)
}

fn table(assistants: &[Value], paused: &Value) -> String {
    let mut text = format!("{:<20} {:<6} {:<5} {:<8} GATES", "ASSISTANT", "LEVEL", "MOST", "ASK RED");
    for assistant in assistants {
        let of = |field: &str| assistant[field].as_str().unwrap_or("-").to_owned();
        let ask = if assistant["ask_red"] == true { "yes" } else { "no" };
        let gates = assistant["gates"].as_array().cloned().unwrap_or_default();
        let gate = |gate: &Value| {
            let how = if gate["held"] == true {
                "held"
            } else if gate["open"] == true {
                "open"
            } else {
                "locked"
            };
            format!("{} {how}", gate["tool"].as_str().unwrap_or_default())
        };
        let gates = gates.iter().map(gate).collect::<Vec<_>>().join(", ");
        // A string takes every write.
        let _ = write!(text, "\n{:<20} {:<6} {:<5} {ask:<8} {gates}", of("name"), of("level"), of("level_most"));
        if paused.as_array().is_some_and(|paused| paused.iter().any(|pause| pause["assistant"] == assistant["id"])) {
            text.push_str("\n  paused: `tenant-agent resume` lets it go on");
        }
    }
    text
}
