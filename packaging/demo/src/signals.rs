//! Ctrl-C, a polite kill, a closed terminal: noted here, acted on by whoever waits for a child.
//!
//! std has no signals and this crate takes no dependencies, so three functions of the C library are declared by hand.
//! Ignoring the signals would be simpler, but children inherit that; a handler falls back to the default on exec.

#![expect(unsafe_code, reason = "signal, kill and prctl of the C library; std offers none of them")]

use std::ffi::{c_int, c_ulong};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicI32, Ordering};

pub const SIGHUP: i32 = 1;
pub const SIGINT: i32 = 2;
pub const SIGTERM: i32 = 15;
const IGNORED: usize = 1;
const PARENT_DEATH: c_int = 1;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn kill(process: c_int, number: c_int) -> c_int;
    fn prctl(option: c_int, value: c_ulong) -> c_int;
}

static NOTED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(number: c_int) {
    NOTED.store(number, Ordering::SeqCst);
}

pub fn watch() {
    for number in [SIGHUP, SIGINT, SIGTERM] {
        // SAFETY: the handler stores to an atomic and does nothing else, which is allowed in a signal handler.
        unsafe {
            if signal(number, note as *const () as usize) == IGNORED {
                // Started under nohup, or in the background of a script: what was ignored stays ignored.
                signal(number, IGNORED);
            }
        }
    }
}

/// The signal that asked us to end, if one did.
pub fn asked() -> Option<i32> {
    Some(NOTED.load(Ordering::SeqCst)).filter(|number| *number != 0)
}

/// Asks a child to end. A terminal has told it already; asking twice does no harm.
pub fn end(child: &Child) {
    // SAFETY: the child is not reaped while it is borrowed, so its id cannot belong to anybody else.
    unsafe { kill(child.id() as c_int, SIGTERM) };
}

/// A child that outlives us would go on writing into a folder, or on ports, that the next start wants.
pub fn tie(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only prctl runs, which is a plain system call.
    unsafe {
        command.pre_exec(|| {
            prctl(PARENT_DEATH, SIGTERM as c_ulong);
            Ok(())
        })
    }
}
