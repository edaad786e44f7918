//! A secret in memory: wiped when dropped, without a way to print it by accident, in a process that leaves no copies.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::fmt;
use zeroize::Zeroizing;

#[derive(Clone)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    pub fn new(value: String) -> SecretString {
        SecretString(Zeroizing::new(value))
    }

    /// The value itself. Every caller says why it needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString")
    }
}

/// What the system lets this process keep to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// No core dump is written, and no other process of this user may look into the memory.
    pub undumpable: bool,
    /// Nothing of it is written to swap.
    pub locked: bool,
}

/// Keeps this process's memory to itself, as far as the system allows. For the start of a process that holds secrets.
///
/// Locking counts the whole address space against the limit, and a process over its limit gets no more memory. So memory
/// is locked only where there is no limit (`LimitMEMLOCK=infinity`, or the capability `CAP_IPC_LOCK`), page by page as it
/// is used, which adds nothing to what the process takes.
pub fn keep_memory() -> Memory {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let undumpable = setrlimit(Resource::Core, none).is_ok() & set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
    // `None` is no limit.
    let unlimited = getrlimit(Resource::Memlock).current.is_none() || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let locked = unlimited && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok();
    Memory { undumpable, locked }
}
