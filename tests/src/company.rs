//! A company that signs policy bundles: its root keys, the keys that sign bundles, and somebody who has neither.

use policy::Level;
use policy::bundle::{BundleKey, Content, DAY_MS, Draft, FORMAT, File, KeyDocument, Levels, PublicKey, Roots, Signed, Signer, Trust};
use ring::signature::{Ed25519KeyPair, KeyPair};

pub struct Company {
    pub fleet: &'static str,
    pub now_ms: i64,
    /// The keys that the newest key document lets sign.
    pub keys: KeyDocument,
}

/// A key that is drawn from a number, so that a test can name it.
pub struct Key(pub u8);

/// Roots are 1 to 3.
pub const BUNDLE_KEY: u8 = 11;
pub const NEXT_BUNDLE_KEY: u8 = 12;
pub const STRANGER: u8 = 99;

impl Key {
    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.0; 32]).expect("32 bytes are a seed")
    }
}

impl Signer for Key {
    fn public(&self) -> PublicKey {
        PublicKey::new(self.pair().public_key().as_ref().try_into().expect("a key has 32 bytes"))
    }

    fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.pair().sign(statement).as_ref().try_into().expect("a signature has 64 bytes")
    }
}

impl Company {
    pub fn at(now_ms: i64) -> Company {
        let bundle_keys = [BUNDLE_KEY, NEXT_BUNDLE_KEY].map(|seed| BundleKey { key: Key(seed).public(), expires_ms: now_ms + 89 * DAY_MS }).to_vec();
        let keys = KeyDocument {
            format: FORMAT,
            fleet: "acme".to_owned(),
            version: 1,
            issued_ms: now_ms,
            expires_ms: now_ms + 300 * DAY_MS,
            roots: Company::roots(),
            bundle_keys,
            bundle_threshold: 1,
            revoked: Vec::new(),
            versions_from: 0,
            must: Vec::new(),
        };
        Company { fleet: "acme", now_ms, keys }
    }

    pub fn roots() -> Roots {
        Roots { keys: [1, 2, 3].map(|seed| Key(seed).public()).to_vec(), threshold: 2 }
    }

    pub fn trust(&self) -> Trust {
        Trust::pinned(self.fleet, Company::roots())
    }

    pub fn key_document(&self) -> Signed {
        let mut signed = Signed::new(&self.keys);
        [1, 3].iter().for_each(|seed| signed.sign_keys(&Key(*seed)));
        signed
    }

    /// The rules that come with the agents, at a level.
    pub fn draft(&self, version: i64, level: Level) -> Draft {
        Draft {
            fleet: self.fleet.to_owned(),
            channel: "stable".to_owned(),
            version,
            days: 30,
            min_agent: "0.1.0".to_owned(),
            tenants: Vec::new(),
            must: Vec::new(),
            content: Content { levels: Levels { default: level, ..Levels::default() }, ..shipped::content() },
        }
    }

    pub fn bundle(&self, version: i64, level: Level) -> String {
        self.signed(&self.draft(version, level), BUNDLE_KEY)
    }

    pub fn signed(&self, draft: &Draft, by: u8) -> String {
        let mut file = File::seal(draft, self.now_ms, vec![self.key_document()]);
        file.sign(&Key(by));
        file.text()
    }
}
