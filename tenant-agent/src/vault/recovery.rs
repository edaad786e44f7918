//! The tenant's recovery key, and what only it opens.
//!
//! The agent keeps the public half, so it makes backups without being able to read them. The key itself is shown once;
//! nobody else has it. X25519 with a fresh key for each backup, HKDF-SHA-256, AES-256-GCM. The header of a backup is
//! bound into its seal.

use super::VaultError;
use super::seal::{self, KEY_BYTES, Key};
use anyhow::anyhow;
use ring::digest::{SHA256, digest};
use ring::hkdf;
use serde::{Deserialize, Serialize};
use service::{SecretString, random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// 160 bits: more than X25519 is worth, and eight groups of five with its check.
const SEED_BYTES: usize = 20;
const CHECK_BYTES: usize = 5;
const GROUP_CHARS: usize = 5;
/// Says what it is, to people and to nets that look for secrets.
const MARK: &str = "GHR1";
/// Crockford's: no letter that is read as a digit.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const FORMAT: &str = "gatehouse-vault-backup";
const VERSION: u32 = 1;

pub struct RecoveryKey(Zeroizing<[u8; SEED_BYTES]>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryPublic(pub(super) [u8; KEY_BYTES]);

impl RecoveryKey {
    pub fn draw() -> RecoveryKey {
        RecoveryKey(Zeroizing::new(random::bytes()))
    }

    /// As people type it: any case, with or without dashes and spaces, O for 0, I and L for 1.
    pub fn parse(text: &str) -> Result<RecoveryKey, VaultError> {
        let mut chars: Zeroizing<Vec<u8>> = Zeroizing::new(Vec::with_capacity(TEXT_BYTES_MAX));
        for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-').take(TEXT_BYTES_MAX) {
            chars.push(match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            });
        }
        let whole = (SEED_BYTES + CHECK_BYTES) * 8 / 5;
        let body = chars.strip_prefix(MARK.as_bytes()).filter(|body| body.len() == whole).unwrap_or(&chars);
        let bytes = (body.len() == whole).then(|| from_letters(body)).flatten().ok_or(VaultError::RecoveryKeyMalformed)?;
        let (seed, check) = bytes.split_first_chunk::<SEED_BYTES>().ok_or(VaultError::RecoveryKeyMalformed)?;
        if check != check_of(seed).as_slice() {
            return Err(VaultError::RecoveryKeyMalformed);
        }
        Ok(RecoveryKey(Zeroizing::new(*seed)))
    }

    /// As it is shown.
    pub fn text(&self) -> SecretString {
        let mut bytes = Zeroizing::new([0; SEED_BYTES + CHECK_BYTES]);
        bytes[..SEED_BYTES].copy_from_slice(self.0.as_slice());
        bytes[SEED_BYTES..].copy_from_slice(&check_of(&self.0));
        let letters = to_letters(bytes.as_slice());
        let mut text = String::with_capacity(TEXT_BYTES_MAX);
        text.push_str(MARK);
        for group in letters.chunks(GROUP_CHARS) {
            text.push('-');
            text.extend(group.iter().map(|letter| char::from(*letter)));
        }
        SecretString::new(text)
    }

    pub fn public(&self) -> RecoveryPublic {
        RecoveryPublic(PublicKey::from(&self.secret()).to_bytes())
    }

    fn secret(&self) -> StaticSecret {
        StaticSecret::from(*derived(&[], self.0.as_slice(), b"gatehouse-recovery-key-v1"))
    }
}

/// A mark, 40 letters and their dashes, and room for a person's spaces.
const TEXT_BYTES_MAX: usize = 64;

impl RecoveryPublic {
    /// Which key it is.
    pub fn id(&self) -> String {
        let text = [b"gatehouse-recovery-id-v1\n".as_slice(), &self.0].concat();
        seal::hex(&digest(&SHA256, &text).as_ref()[..6])
    }
}

/// A backup as it lies in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    format: String,
    version: u32,
    pub tenant: String,
    pub made_ms: i64,
    /// Values in it.
    pub count: u64,
    /// Of the recovery key that opens it.
    pub recovery_key: String,
    ephemeral: String,
    sealed: String,
}

impl Backup {
    pub(super) fn seal(public: &RecoveryPublic, tenant: &str, made_ms: i64, count: u64, content: &[u8]) -> anyhow::Result<Backup> {
        let ephemeral = StaticSecret::from(*Zeroizing::new(random::bytes::<KEY_BYTES>()));
        let mut backup = Backup {
            format: FORMAT.to_owned(),
            version: VERSION,
            tenant: tenant.to_owned(),
            made_ms,
            count,
            recovery_key: public.id(),
            ephemeral: random::base64url(PublicKey::from(&ephemeral).as_bytes()),
            sealed: String::new(),
        };
        let key = shared(&ephemeral, &PublicKey::from(public.0), PublicKey::from(&ephemeral).as_bytes(), &public.0)
            .ok_or_else(|| anyhow!("the recovery key is unusable"))?;
        backup.sealed = random::base64url(&key.seal(&backup.header(), content)?);
        Ok(backup)
    }

    pub fn parse(text: &str) -> Result<Backup, VaultError> {
        let backup: Backup = serde_json::from_str(text).map_err(|_| VaultError::BackupMalformed)?;
        if backup.format != FORMAT || backup.version != VERSION {
            return Err(VaultError::BackupMalformed);
        }
        Ok(backup)
    }

    pub(super) fn open(&self, key: &RecoveryKey) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let public = key.public();
        if public.id() != self.recovery_key {
            return Err(VaultError::RecoveryKeyWrong { wanted: self.recovery_key.clone(), given: public.id() });
        }
        let ephemeral = random::from_base64url(&self.ephemeral).and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok()).ok_or(VaultError::BackupMalformed)?;
        let sealed = random::from_base64url(&self.sealed).ok_or(VaultError::BackupMalformed)?;
        let opening = shared(&key.secret(), &PublicKey::from(ephemeral), &ephemeral, &public.0).ok_or(VaultError::BackupDamaged)?;
        opening.open(&self.header(), &sealed).ok_or(VaultError::BackupDamaged)
    }

    /// Everything but the seal, so that none of it can be changed.
    fn header(&self) -> String {
        serde_json::json!([self.format, self.version, self.tenant, self.made_ms, self.count, self.recovery_key, self.ephemeral]).to_string()
    }
}

fn shared(ours: &StaticSecret, theirs: &PublicKey, ephemeral: &[u8], public: &[u8]) -> Option<Key> {
    let shared = ours.diffie_hellman(theirs);
    // A point of small order would make a key that everybody knows.
    let sound = shared.was_contributory();
    sound.then(|| Key::new(&derived(&[ephemeral, public].concat(), shared.as_bytes(), b"gatehouse-vault-backup-v1")))
}

fn derived(salt: &[u8], secret: &[u8], about: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let about = [about];
    extracted.expand(&about, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut_slice())).expect("32 bytes are what HKDF-SHA-256 gives at once");
    key
}

fn check_of(seed: &[u8; SEED_BYTES]) -> [u8; CHECK_BYTES] {
    let text = Zeroizing::new([b"gatehouse-recovery-check-v1\n".as_slice(), seed].concat());
    let hash = digest(&SHA256, &text);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.as_ref()[..CHECK_BYTES]);
    check
}

/// Five bytes are eight letters.
fn to_letters(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut letters = Zeroizing::new(Vec::with_capacity(bytes.len() * 8 / 5));
    for group in bytes.chunks(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        letters.extend((0..8).rev().map(|at| LETTERS[(bits >> (at * 5) & 31) as usize]));
    }
    letters
}

fn from_letters(letters: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(letters.len() * 5 / 8));
    for group in letters.chunks(8) {
        let mut bits = 0_u64;
        for letter in group {
            bits = bits << 5 | LETTERS.iter().position(|known| known == letter)? as u64;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_recovery_key_is_typed_as_people_type() {
        let key = RecoveryKey::draw();
        let text = key.text().expose().to_owned();
        assert_eq!((text.len(), text.matches('-').count()), (4 + 8 * 6, 8));
        let squeezed = text.replace('-', "").to_lowercase();
        let misread = text[5..].replace('0', "o").replace('1', "l");
        let spaced = format!("  {}\n", text.replace('-', " "));
        for typed in [text.as_str(), &squeezed, &misread, &spaced, &text[5..]] {
            assert_eq!(RecoveryKey::parse(typed).unwrap().public(), key.public(), "{typed}");
        }
        let mut one_wrong = text.clone().into_bytes();
        one_wrong[12] = if one_wrong[12] == b'7' { b'8' } else { b'7' };
        let one_wrong = String::from_utf8(one_wrong).unwrap();
        for typed in ["", "x", &text[..40], &format!("{text}A"), one_wrong.as_str(), &text.replace('-', "ü"), &"A".repeat(100_000)] {
            assert!(matches!(RecoveryKey::parse(typed), Err(VaultError::RecoveryKeyMalformed)), "{}", typed.len());
        }
    }

    #[test]
    fn a_backup_opens_with_its_key_only_and_only_unchanged() {
        let (key, other) = (RecoveryKey::draw(), RecoveryKey::draw());
        let backup = Backup::seal(&key.public(), "ten_a", 5, 1, b"content").unwrap();
        let text = serde_json::to_string(&backup).unwrap();
        assert_eq!(Backup::parse(&text).unwrap().open(&key).unwrap().as_slice(), b"content");
        assert!(matches!(backup.open(&other), Err(VaultError::RecoveryKeyWrong { .. })));
        for (field, value) in [("tenant", "\"ten_b\""), ("made_ms", "6"), ("count", "2")] {
            let mut changed: serde_json::Value = serde_json::from_str(&text).unwrap();
            changed[field] = serde_json::from_str(value).unwrap();
            assert!(matches!(Backup::parse(&changed.to_string()).unwrap().open(&key), Err(VaultError::BackupDamaged)), "{field}");
        }
        // One that says it is for the other key does not open with that either.
        let mut changed: serde_json::Value = serde_json::from_str(&text).unwrap();
        changed["recovery_key"] = other.public().id().into();
        assert!(matches!(Backup::parse(&changed.to_string()).unwrap().open(&other), Err(VaultError::BackupDamaged)));
        changed["recovery_key"] = key.public().id().into();
        changed["ephemeral"] = random::base64url(&[0; KEY_BYTES]).into();
        assert!(matches!(Backup::parse(&changed.to_string()).unwrap().open(&key), Err(VaultError::BackupDamaged)));
        for text in ["", "{}", "[]", &text[..text.len() / 2], &text.replace(FORMAT, "other"), &text.replace("\"version\":1", "\"version\":2")] {
            assert!(matches!(Backup::parse(text), Err(VaultError::BackupMalformed)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn letters_say_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 25)) {
            prop_assert_eq!(from_letters(&to_letters(&bytes)).unwrap().to_vec(), bytes);
        }

        #[test]
        fn any_text_is_a_key_or_is_not(text in ".{0,80}") {
            let _ = RecoveryKey::parse(&text);
            let _ = Backup::parse(&text);
        }
    }
}
