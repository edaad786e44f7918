//! The law in force on this host. Until a signed bundle has arrived, these are the rules that come with the agent.

use anyhow::Context;
use policy::{Gate, Level, Rules};

pub struct Bundle {
    pub rules: Rules,
}

/// Read when the agent starts, so a rule that is edited rebuilds nothing else.
const COMPILED_IN: &str = include_str!("../../policy/rules/tools.toml");

impl Bundle {
    pub fn compiled_in() -> anyhow::Result<Bundle> {
        let rules = Rules::parse(COMPILED_IN).context("the rules that come with this agent are not usable")?;
        Ok(Bundle { rules })
    }

    /// What is set for an assistant and a tool: the default level, and every way to other people locked.
    pub fn gate(&self) -> Gate {
        Gate { level: Level::L2, external_unlocked: false, ask_red: false }
    }
}
