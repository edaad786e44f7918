//! Files, opened where they were judged to lead and nowhere else.
//!
//! A path arrives here as the place that the law looked at: absolute, without a link in it. It is opened that way, with
//! the kernel refusing every link that has come meanwhile, and from then on only what is open is touched.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A file that is read or changed as text.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Folders that a new file needs above it.
const FOLDERS_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileError {
    #[error("there is no such file")]
    Missing,
    #[error("this is a folder")]
    Folder,
    #[error("this is no ordinary file")]
    Special,
    #[error("the file is larger than {FILE_BYTES_MAX} bytes: look at parts of it with a command")]
    Large,
    #[error("the file is not text")]
    Binary,
    #[error("the path no longer leads where it led when the call was allowed")]
    Moved,
    #[error("the system refused: {0}")]
    System(String),
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> FileError {
        match error {
            Errno::NOENT | Errno::NOTDIR => FileError::Missing,
            Errno::LOOP => FileError::Moved,
            Errno::ISDIR => FileError::Folder,
            error => FileError::System(std::io::Error::from(error).kind().to_string()),
        }
    }
}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> FileError {
        FileError::System(error.kind().to_string())
    }
}

type Result<T> = std::result::Result<T, FileError>;

/// The whole text of the file at `place`.
pub fn read(place: &Path) -> Result<String> {
    // Without waiting: a pipe would hold us until somebody writes into it.
    let file = open(place, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let about = fstat(&file)?;
    match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(FileError::Folder),
        _ => return Err(FileError::Special),
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::Large);
    }
    String::from_utf8(bytes).map_err(|_| FileError::Binary)
}

/// Puts `bytes` in the place of whatever is at `place`, or leaves that as it was.
pub fn write(place: &Path, bytes: &[u8]) -> Result<()> {
    let (Some(above), Some(name)) = (place.parent(), place.file_name()) else { return Err(FileError::Folder) };
    let above = folder_made(above, 0)?;
    let mode = match rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) => match FileType::from_raw_mode(about.st_mode) {
            FileType::RegularFile => Mode::from_raw_mode(about.st_mode & 0o777),
            FileType::Directory => return Err(FileError::Folder),
            FileType::Symlink => return Err(FileError::Moved),
            _ => return Err(FileError::Special),
        },
        Err(Errno::NOENT) => Mode::from_raw_mode(0o644),
        Err(error) => return Err(error.into()),
    };
    let beside = format!(".{}.gatehouse", service::random::token());
    let made = openat2(&above, beside.as_str(), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, mode, ResolveFlags::BENEATH)?;
    let written = filled(made, bytes, mode).and_then(|()| Ok(renameat(&above, beside.as_str(), &above, name)?));
    if written.is_err() {
        let _ = unlinkat(&above, beside.as_str(), AtFlags::empty());
    }
    written
}

fn filled(file: OwnedFd, bytes: &[u8], mode: Mode) -> Result<()> {
    // The mask of this process must not take from what was there.
    rustix::fs::fchmod(&file, mode)?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

/// Replaces the one occurrence of `before`; says how many there are when it is not one.
pub fn replaced(text: &str, before: &str, after: &str) -> std::result::Result<String, usize> {
    match text.matches(before).count() {
        1 if !before.is_empty() => Ok(text.replacen(before, after, 1)),
        count => Err(if before.is_empty() { 0 } else { count }),
    }
}

/// A folder, to run something in.
pub fn folder(place: &Path) -> Result<OwnedFd> {
    open(place, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn open(place: &Path, flags: OFlags) -> Result<OwnedFd> {
    Ok(openat2(CWD, place, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS)?)
}

/// The folder at `place`, made with the folders above it where it is missing.
fn folder_made(place: &Path, depth: usize) -> Result<OwnedFd> {
    match folder(place) {
        Err(FileError::Missing) if depth < FOLDERS_MAX => {}
        found => return found,
    }
    let (Some(above), Some(name)) = (place.parent(), place.file_name()) else { return Err(FileError::Missing) };
    let above = folder_made(above, depth + 1)?;
    match mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    below(&above, name)
}

fn below(above: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(above.as_fd(), name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_path_that_became_a_link_is_not_followed() {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::fs::write(folder.join("real/a"), "secret").unwrap();
        symlink(folder.join("real/a"), folder.join("link")).unwrap();
        symlink(folder.join("real"), folder.join("way")).unwrap();
        for moved in ["link", "way/a"] {
            assert_eq!(read(&folder.join(moved)), Err(FileError::Moved), "{moved}");
            assert_eq!(write(&folder.join(moved), b"x"), Err(FileError::Moved), "{moved}");
        }
        assert_eq!(write(&folder.join("way/new/b"), b"x"), Err(FileError::Moved));
        assert!(matches!(super::folder(&folder.join("way")), Err(FileError::Moved)));
        assert_eq!(std::fs::read_to_string(folder.join("real/a")).unwrap(), "secret");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_is_written_whole_and_keeps_its_mode() {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a/b/c.sh");
        write(&file, b"one").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
        write(&file, b"two").unwrap();
        assert_eq!((read(&file).as_deref(), file.metadata().unwrap().permissions().mode() & 0o777), (Ok("two"), 0o750));
        assert_eq!(std::fs::read_dir(folder.join("a/b")).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!((read(&folder.join("a")), write(&folder.join("a"), b"x")), (Err(FileError::Folder), Err(FileError::Folder)));
        assert_eq!((read(&folder.join("no")), read(Path::new("/dev/null"))), (Err(FileError::Missing), Err(FileError::Special)));
        std::fs::write(folder.join("binary"), [0xff, 0xfe]).unwrap();
        assert_eq!(read(&folder.join("binary")), Err(FileError::Binary));
        std::fs::File::create(folder.join("large")).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(read(&folder.join("large")), Err(FileError::Large));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_what_is_there_once_is_replaced() {
        assert_eq!(replaced("a b c", "b", "x"), Ok("a x c".to_owned()));
        for (before, count) in [("z", 0), ("", 0), ("a", 2)] {
            assert_eq!(replaced("a a", before, "x"), Err(count));
        }
    }
}
