//! How dangerous a call is. The order is the danger, so the class of a whole is the maximum of its parts.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Looks only, and only at what the assistant may see.
    Green,
    /// Changes something that the assistant owns and that can be undone.
    Yellow,
    /// Changes something else, cannot be undone, or could not be understood.
    Red,
    /// Money, identity, the safety system itself, or everything at once.
    CriticalRed,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::Green, Class::Yellow, Class::Red, Class::CriticalRed];

    pub fn name(self) -> &'static str {
        match self {
            Class::Green => "green",
            Class::Yellow => "yellow",
            Class::Red => "red",
            Class::CriticalRed => "critical_red",
        }
    }

    pub fn parse(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }
}
