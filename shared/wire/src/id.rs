//! Typed ids: a prefix that says what it names, and 128 random bits.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

/// What an id names. The prefix is part of the text, so that an id in a log says what it is.
pub trait Kind {
    const PREFIX: &'static str;
}

pub struct Id<K> {
    bits: u128,
    kind: PhantomData<fn() -> K>,
}

macro_rules! kinds {
    ($($name:ident $marker:ident $prefix:literal)*) => {$(
        pub enum $marker {}
        impl Kind for $marker {
            const PREFIX: &'static str = $prefix;
        }
        pub type $name = Id<$marker>;
    )*};
}

kinds! {
    TenantId Tenant "ten"
    HostId Host "hst"
    AssistantId Assistant "ast"
    PersonId Person "per"
    OperatorId Operator "opr"
    ApprovalId Approval "apr"
    AuditId Audit "aud"
    DeviceId Device "dev"
}

impl<K> Id<K> {
    pub fn new(random: u128) -> Id<K> {
        Id { bits: random, kind: PhantomData }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct NotAnId {
    expected: &'static str,
}

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an id of the form `{}_` and 32 lower-case hex digits", self.expected)
    }
}

impl std::error::Error for NotAnId {}

impl<K: Kind> FromStr for Id<K> {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Id<K>, NotAnId> {
        let hex = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .filter(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        let bits = hex.and_then(|hex| u128::from_str_radix(hex, 16).ok()).ok_or(NotAnId { expected: K::PREFIX })?;
        Ok(Id::new(bits))
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:032x}", K::PREFIX, self.bits)
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id<K>, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

// Written out, because a derive would ask for the same of the marker.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Id<K> {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Id<K>) -> bool {
        self.bits == other.bits
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Id<K>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Id<K>) -> Ordering {
        self.bits.cmp(&other.bits)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = TenantId::new(0xabc);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::from_str::<TenantId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        let as_host = id.to_string().replace("ten", "hst");
        for bad in [as_host.as_str(), "", "ten_", "ten_ABC", &id.to_string()[..35], &format!("{id}0"), &format!("{id}").replace("ten_0", "ten_+")] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }
}
