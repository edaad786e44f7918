//! Where the vault's key lies: a systemd credential (from a file, a TPM, or both), or a 0600 file beside the store.
//!
//! The store says by id which key it is sealed with, and the key is looked for under every name that it may have. So a
//! rotation may be killed anywhere: before the store's commit the old key is found, after it the new one. A key that was
//! drawn for a rotation that never was is left lying: another process may be in the middle of that rotation.

use super::VaultError;
use super::seal::{KEY_BYTES, Key, key_bytes};
use anyhow::{Context, anyhow};
use service::{config, random};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Both places.
pub(super) struct KeyPlace {
    folder: PathBuf,
    credentials: Option<PathBuf>,
}

/// A key and the name it was found under.
pub(super) struct Found {
    pub(super) key: Arc<Key>,
    pub(super) name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Credential,
    NextCredential,
    File,
    NextFile,
}

/// In the order in which a new vault takes one.
const NAMES: [Name; 4] = [Name::Credential, Name::NextCredential, Name::File, Name::NextFile];

impl KeyPlace {
    pub(super) fn new(folder: &Path, credentials: Option<&Path>) -> KeyPlace {
        KeyPlace { folder: folder.to_owned(), credentials: credentials.map(Path::to_owned) }
    }

    /// The key with this id, or for a vault that has none yet the first one, made when there is none at all.
    pub(super) fn find(&self, id: Option<&str>) -> Result<Found, VaultError> {
        let mut seen = Vec::new();
        for name in NAMES {
            let Some(found) = self.read(name)? else { continue };
            if id.is_none_or(|id| found.key.id() == id) {
                return self.settled(found);
            }
            seen.push(format!("`{}` is {}", self.path(name).unwrap_or_default().display(), found.key.id()));
        }
        match id {
            Some(id) => Err(VaultError::KeyWrong { id: id.to_owned(), seen: if seen.is_empty() { "there is none".into() } else { seen.join(", ") } }),
            None => self.make(Name::File),
        }
    }

    /// The key to rotate to from the one that was found under `current`. One in a file is drawn; a credential is
    /// written by whoever runs systemd, so it must be there.
    pub(super) fn next(&self, current: &Found) -> Result<Found, VaultError> {
        for name in [Name::Credential, Name::NextCredential] {
            match self.read(name)? {
                Some(found) if found.key.id() != current.key.id() => return Ok(found),
                _ => {}
            }
        }
        match current.name {
            Name::File | Name::NextFile => self.make(Name::NextFile),
            Name::Credential | Name::NextCredential => Err(VaultError::KeyFixed),
        }
    }

    /// The store is sealed with this key now, so it gets its lasting name. A key that credentials have taken the place of
    /// stays in its file: it may be that of a copy of the store, and whoever moved deletes it.
    pub(super) fn settled(&self, found: Found) -> Result<Found, VaultError> {
        if found.name != Name::NextFile {
            return Ok(found);
        }
        let (file, next) = (self.folder.join("vault.key"), self.folder.join("vault.key.next"));
        match std::fs::rename(&next, &file).and_then(|()| std::fs::File::open(&self.folder)?.sync_all()) {
            Ok(()) => {}
            // Another start was here first.
            Err(error) if error.kind() == ErrorKind::NotFound && self.read(Name::File)?.is_some_and(|file| file.key.id() == found.key.id()) => {}
            Err(error) => return Err(anyhow!(error).context(format!("giving the vault key `{}` its name", next.display())).into()),
        }
        Ok(Found { name: Name::File, ..found })
    }

    pub(super) fn path(&self, name: Name) -> Option<PathBuf> {
        match name {
            Name::Credential => self.credentials.as_ref().map(|folder| folder.join("vault-key")),
            Name::NextCredential => self.credentials.as_ref().map(|folder| folder.join("vault-key-next")),
            Name::File => Some(self.folder.join("vault.key")),
            Name::NextFile => Some(self.folder.join("vault.key.next")),
        }
    }

    fn make(&self, name: Name) -> Result<Found, VaultError> {
        let bytes = Zeroizing::new(random::bytes::<KEY_BYTES>());
        let path = self.path(name).context("a file has a path")?;
        config::write_private(&path, bytes.as_slice())?;
        Ok(Found { key: Arc::new(Key::new(&bytes)), name })
    }

    fn read(&self, name: Name) -> Result<Option<Found>, VaultError> {
        let Some(path) = self.path(name).filter(|path| path.exists()) else { return Ok(None) };
        let bytes = Zeroizing::new(match name {
            // systemd hands credentials to this unit alone, with modes of its own.
            Name::Credential | Name::NextCredential => std::fs::read(&path).with_context(|| format!("reading the credential `{}`", path.display()))?,
            Name::File | Name::NextFile => config::read_private(&path)?,
        });
        let bytes = key_bytes(&bytes)
            .ok_or_else(|| anyhow!("the vault key `{}` must be {KEY_BYTES} bytes, not {}: put the right file back", path.display(), bytes.len()))?;
        Ok(Some(Found { key: Arc::new(Key::new(&bytes)), name }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn folder() -> Folder {
        let folder = std::env::temp_dir().join(format!("gatehouse-key-{}", random::token()));
        std::fs::create_dir_all(folder.join("credentials")).unwrap();
        Folder(folder)
    }

    #[test]
    fn the_key_is_found_wherever_a_rotation_was_killed() {
        let folder = folder();
        let place = KeyPlace::new(&folder.0, None);
        let old = place.find(None).unwrap();
        assert_eq!(old.name, Name::File);
        let new = place.next(&old).unwrap();
        assert_ne!(new.key.id(), old.key.id());
        // Before the commit the old key is the one, and the next rotation draws over the new one.
        assert_eq!(place.find(Some(old.key.id())).unwrap().name, Name::File);
        let newer = place.next(&old).unwrap();
        assert_ne!(newer.key.id(), new.key.id());
        // After the commit the new key takes the place of the old one, as often as somebody looks.
        for _ in 0..2 {
            let found = place.find(Some(newer.key.id())).unwrap();
            assert_eq!((found.key.id(), found.name), (newer.key.id(), Name::File));
        }
        assert_eq!(place.settled(newer).unwrap().name, Name::File, "another start was here first");
        assert!(!folder.0.join("vault.key.next").exists());
        let error = place.find(Some(old.key.id())).err().unwrap().to_string();
        assert!(error.contains(old.key.id()) && error.contains("vault.key"), "{error}");
    }

    #[test]
    fn a_credential_is_followed_and_never_written() {
        let folder = folder();
        let credentials = folder.0.join("credentials");
        let place = KeyPlace::new(&folder.0, Some(&credentials));
        let file = place.find(None).unwrap();
        std::fs::write(credentials.join("vault-key"), [1; KEY_BYTES]).unwrap();
        assert_eq!(place.find(Some(file.key.id())).unwrap().name, Name::File, "the vault is still sealed with the file");
        let credential = place.next(&file).unwrap();
        assert_eq!(credential.name, Name::Credential);
        assert!(matches!(place.next(&credential), Err(VaultError::KeyFixed)));
        std::fs::write(credentials.join("vault-key-next"), [2; KEY_BYTES]).unwrap();
        assert_eq!(place.next(&credential).unwrap().name, Name::NextCredential);
        std::fs::write(credentials.join("vault-key"), [3; 31]).unwrap();
        assert!(place.find(None).err().unwrap().to_string().contains("must be 32 bytes, not 31"));
    }
}
