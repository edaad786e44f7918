//! Files that a command runs, held to what a person said yes to.
//!
//! A shell opens a script by its path, a moment after it was looked at. So each is looked at once more when everything is
//! ready: what is in it, and which file it is. That it is still this very file, unchanged, is asked again in the last moment
//! before the shell begins, and once more when it has ended: whoever exchanged it in between is found out. A file that was
//! changed or exchanged and put back has another time of change, which nobody but root can set.

use crate::target;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub struct Pins(Vec<Pin>);

struct Pin {
    /// As the kernel takes it: nothing is asked for between fork and exec.
    path: CString,
    seen: Identity,
}

/// Which file it is, and when something about it was last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    size: i64,
}

impl Pins {
    /// `None`: one of them is not what the yes was for.
    pub fn of(files: &[(PathBuf, String)]) -> Option<Pins> {
        files.iter().map(|(file, digest)| Pin::of(file, digest)).collect::<Option<_>>().map(Pins)
    }

    /// Whether each is still the file that was looked at. System calls only.
    pub fn hold(&self) -> bool {
        self.0.iter().all(|pin| identity(&pin.path) == Some(pin.seen))
    }
}

impl Pin {
    fn of(file: &Path, digest: &str) -> Option<Pin> {
        let path = CString::new(file.as_os_str().as_bytes()).ok()?;
        // Before the look, so that what happens during it is seen.
        let seen = identity(&path)?;
        (target::content(file).as_deref() == Some(digest)).then_some(Pin { path, seen })
    }
}

#[expect(unsafe_code, reason = "the standard library asks for memory to name a path, which nobody may between fork and exec")]
fn identity(path: &CString) -> Option<Identity> {
    let mut about: libc::stat = unsafe { std::mem::zeroed() };
    // Links are followed, as the shell does.
    let found = unsafe { libc::stat(path.as_ptr(), &raw mut about) } == 0;
    let identity = Identity {
        device: about.st_dev as u64,
        inode: about.st_ino as u64,
        changed: (about.st_ctime as i64, about.st_ctime_nsec as i64),
        size: about.st_size as i64,
    };
    found.then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Digest;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_was_exchanged_does_not_hold_even_when_it_was_put_back() {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let (script, other, link) = (folder.join("build.sh"), folder.join("other.sh"), folder.join("link.sh"));
        let digest = Digest::of(b"echo one").to_string();
        let fresh = || {
            let _ = std::fs::remove_file(&script);
            let _ = std::fs::remove_file(&link);
            std::fs::write(&script, "echo one").unwrap();
            std::fs::write(&other, "echo two").unwrap();
            symlink(&script, &link).unwrap();
            Pins::of(&[(script.clone(), digest.clone()), (link.clone(), digest.clone())]).unwrap()
        };
        assert!(fresh().hold());
        type Deed<'a> = &'a dyn Fn();
        let written: Deed = &|| std::fs::write(&script, "echo two").unwrap();
        let renamed: Deed = &|| std::fs::rename(&other, &script).unwrap();
        let gone: Deed = &|| std::fs::remove_file(&script).unwrap();
        let led: Deed = &|| {
            std::fs::remove_file(&link).unwrap();
            symlink(&other, &link).unwrap();
        };
        let and_back: Deed = &|| {
            let away = folder.join("away");
            std::fs::rename(&script, &away).unwrap();
            std::fs::rename(&away, &script).unwrap();
        };
        let same_text: Deed = &|| std::fs::write(&script, "echo one").unwrap();
        for (name, deed) in
            [("written", written), ("renamed", renamed), ("gone", gone), ("led elsewhere", led), ("and back", and_back), ("same text", same_text)]
        {
            let pins = fresh();
            // The clock of a file system moves in steps.
            soon_later(&pins);
            deed();
            assert!(!pins.hold(), "{name}");
        }
        std::fs::write(&script, "echo two").unwrap();
        assert!(Pins::of(&[(script.clone(), digest)]).is_none(), "another text is another file");
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Until a change would have another time.
    fn soon_later(pins: &Pins) {
        let probe = std::env::temp_dir().join(service::random::token());
        let last = pins.0.iter().map(|pin| pin.seen.changed).max();
        loop {
            std::fs::write(&probe, "x").unwrap();
            let name = CString::new(probe.as_os_str().as_bytes()).unwrap();
            if identity(&name).map(|seen| seen.changed) > last {
                break;
            }
        }
        std::fs::remove_file(probe).unwrap();
    }
}
