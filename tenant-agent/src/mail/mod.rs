//! The mailboxes that an assistant may use: letters sent by SMTP, drafts kept and mail read by IMAP.
//!
//! The operator names the servers, so no list is asked about them; addresses inside a private network are closed to them
//! like to everybody else. The password is a secret of the vault that is bound to the server, and goes to nobody else.
//! Nothing here marks, moves or deletes what is in a mailbox. What may be sent is not decided here.

mod imap;
pub mod letter;
mod line;
mod sent;
mod smtp;

use crate::outlet::{Outlet, is_bound, within};
use crate::vault::Vault;
use imap::Imap;
pub use imap::Wanted;
use letter::{Letter, Mailbox};
use line::{Lines, Wire};
use policy::Digest;
use policy::host::Target;
use ring::digest::{Context as Hash, SHA256};
use sent::Standing;
use service::store::StoreError;
use service::text::Language;
use service::{Clock, SecretString, Store};
use smtp::Delivered;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// As the operator set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub from: Mailbox,
    pub user: String,
    /// Under this name the password lies in the vault.
    pub secret: String,
    pub smtp: Option<Server>,
    pub imap: Option<Server>,
    /// Left out: the folder that the server calls so.
    pub drafts: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub target: Target,
    pub tls: Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Encrypted from the first byte.
    Implicit,
    /// Encrypted after a word in the clear.
    Starttls,
}

impl Tls {
    pub const NAMES: &[&str] = &["implicit", "starttls"];

    pub fn parse(name: &str) -> Option<Tls> {
        match name {
            "implicit" => Some(Tls::Implicit),
            "starttls" => Some(Tls::Starttls),
            _ => None,
        }
    }
}

pub struct Post {
    pub accounts: Vec<Account>,
    pub vault: Vault,
    pub outlet: Arc<Outlet>,
    pub store: Store,
    pub clock: Clock,
}

pub(crate) struct Login {
    user: String,
    password: SecretString,
}

/// One conversation with a server, from the first look at its name on.
const TALK_MS: u64 = 90_000;
/// Heads that a search shows.
pub const FOUND_MAX: usize = 25;
const REFUSAL_CHARS_MAX: usize = 200;
/// The folder of drafts where the server names none.
const DRAFTS: &str = "Drafts";

/// Why nothing came of it. For a model to read: no word of a secret, and of a server's words a few.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no mail account `{0}`")]
    Account(String),
    #[error("this account has no server for that")]
    Server,
    #[error("{0}")]
    Letter(&'static str),
    #[error("`{0}` is no address that mail can go to")]
    Address(String),
    #[error("the account's password `{name}` is not in the vault")]
    NoSecret { name: String },
    #[error(
        "the account's password `{name}` is not bound to {host} and `{tool}`; whoever runs this machine can bind it: tenant-agent vault bind {name} --host {host} --tool {tool}"
    )]
    Unbound { name: String, host: String, tool: String },
    #[error("{0}")]
    Unreachable(String),
    #[error("the mail server offers no encrypted connection, so nothing was said to it")]
    Unencrypted,
    #[error("the mail server takes no login that is known here")]
    LoginWay,
    #[error("the mail server did not take the account's name and password")]
    Login,
    #[error("the mail server said no: {said}")]
    Refused { said: String },
    #[error("the mail server broke off")]
    Broken(#[from] io::Error),
    #[error("the mail server said something that cannot be read")]
    Unreadable,
    #[error("the mail server did not answer in time")]
    Late,
    #[error("exactly this letter was sent with this approval already; one approval sends one letter")]
    Sent,
    #[error("exactly this letter may have been sent before, and nobody can say whether it was. Tell the user to look into the folder of what was sent")]
    Unclear,
    #[error("there is no such message")]
    Missing,
    #[error("the records cannot be written")]
    Store(#[from] StoreError),
    #[error("the vault cannot be read")]
    Vault(#[from] crate::vault::VaultError),
}

impl Error {
    fn refused(said: &str) -> Error {
        Error::Refused { said: said.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(REFUSAL_CHARS_MAX).collect() }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// Who lets a letter out: what one is counted by.
pub struct Leave<'a> {
    /// The yes of a person, or the call where none was needed.
    pub key: &'a str,
    pub digest: Digest,
    pub is_asked: bool,
}

impl Post {
    pub fn account(&self, name: Option<&str>) -> Result<&Account> {
        let wanted = name.filter(|name| !name.is_empty());
        let found = self.accounts.iter().find(|account| wanted.is_none_or(|name| account.name == name));
        found.ok_or_else(|| Error::Account(wanted.unwrap_or("…").chars().take(60).collect()))
    }

    /// Sends a letter, once. Returns its id.
    pub async fn send(&self, account: &Account, letter: &Letter, tool: &str, leave: Leave<'_>) -> Result<String> {
        sendable(letter)?;
        let server = account.smtp.as_ref().ok_or(Error::Server)?;
        let login = self.login(account, server, tool).await?;
        let id = message_id(&account.from, leave.key, &leave.digest);
        let bytes = letter.written(&account.from, &id, self.clock.wall_ms(), false);
        let recipients = letter.recipients();
        // Only what this attempt wrote down may be taken back by it.
        let is_intended = AtomicBool::new(false);
        let intend = async {
            self.intend(&leave).await?;
            is_intended.store(true, Ordering::Relaxed);
            Ok(())
        };
        let deliver = smtp::deliver(&self.outlet, server, &login, &account.from.address, &recipients, &bytes, intend);
        let delivered = within(&self.clock, TALK_MS, deliver).await;
        let note = async |is_sent: bool| {
            let key = leave.key.to_owned();
            self.store.write(move |tx| Ok::<_, StoreError>(sent::note(tx, &key, is_sent)?)).await
        };
        match delivered {
            Some(Delivered::Sent) => note(true).await.map(|()| id).map_err(Error::Store),
            Some(Delivered::Not(error)) => {
                if is_intended.load(Ordering::Relaxed) {
                    note(false).await?;
                }
                Err(error)
            }
            None if !is_intended.load(Ordering::Relaxed) => Err(Error::Late),
            // It stays as it was written down.
            Some(Delivered::Unclear) | None => Err(Error::Unclear),
        }
    }

    async fn intend(&self, leave: &Leave<'_>) -> Result<()> {
        let (key, digest, is_asked, now_ms) = (leave.key.to_owned(), leave.digest, leave.is_asked, self.clock.wall_ms());
        let intended = self.store.write(move |tx| Ok::<_, StoreError>(sent::intend(tx, &key, &digest, is_asked, now_ms)?)).await?;
        intended.map_err(|standing| match standing {
            Standing::Sent => Error::Sent,
            Standing::Unclear => Error::Unclear,
        })
    }

    /// Keeps a letter as a draft. Returns the folder's name.
    pub async fn draft(&self, account: &Account, letter: &Letter, tool: &str) -> Result<String> {
        if let Some(fault) = letter.fault() {
            return Err(Error::Letter(fault));
        }
        let id = message_id(&account.from, &service::random::token(), &Digest::of(letter.body.as_bytes()));
        let bytes = letter.written(&account.from, &id, self.clock.wall_ms(), true);
        let named = account.drafts.clone();
        self.talk(account, tool, async |imap| {
            let folder = match named {
                Some(folder) => folder,
                None => imap.folders().await?.into_iter().find(|folder| folder.is_drafts).map_or_else(|| DRAFTS.to_owned(), |folder| folder.name),
            };
            imap.append_draft(&folder, &bytes).await?;
            Ok(folder)
        })
        .await
    }

    pub async fn folders(&self, account: &Account, tool: &str) -> Result<Vec<String>> {
        self.talk(account, tool, async |imap| Ok(imap.folders().await?.into_iter().map(|folder| folder.name).collect())).await
    }

    /// The newest that fit, as somebody reads a list.
    pub async fn search(&self, account: &Account, folder: &str, wanted: &Wanted, tool: &str) -> Result<String> {
        self.talk(account, tool, async |imap| {
            imap.look_into(folder).await?;
            let (uids, all) = imap.search(wanted, FOUND_MAX).await?;
            if uids.is_empty() {
                return Ok("Nothing was found.".to_owned());
            }
            let found = imap.heads(&uids).await?;
            let mut text = if all > found.len() { format!("The newest {} of {all}:\n", found.len()) } else { String::new() };
            for found in found {
                let unseen = if found.is_seen { "" } else { " (unread)" };
                let _ = write!(text, "\nuid {}{unseen}\n{}\n", found.uid, letter::shown(&found.text, false));
            }
            Ok(text)
        })
        .await
    }

    pub async fn message(&self, account: &Account, folder: &str, uid: u32, tool: &str) -> Result<String> {
        self.talk(account, tool, async |imap| {
            imap.look_into(folder).await?;
            let found = imap.message(uid).await?.ok_or(Error::Missing)?;
            let cut = if found.text.len() >= imap::MESSAGE_BYTES_MAX { "\n[its end is left out]" } else { "" };
            Ok(format!("{}{cut}", letter::shown(&found.text, true)))
        })
        .await
    }

    /// One conversation with the account's mailbox.
    async fn talk<T>(&self, account: &Account, tool: &str, work: impl AsyncFnOnce(&mut Imap) -> Result<T>) -> Result<T> {
        let server = account.imap.as_ref().ok_or(Error::Server)?;
        let login = self.login(account, server, tool).await?;
        let talk = async {
            let mut imap = Imap::open(&self.outlet, server, &login).await?;
            let done = work(&mut imap).await?;
            imap.close().await;
            Ok(done)
        };
        within(&self.clock, TALK_MS, talk).await.unwrap_or(Err(Error::Late))
    }

    /// The password, when it is for this server and this tool.
    async fn login(&self, account: &Account, server: &Server, tool: &str) -> Result<Login> {
        let name = account.secret.clone();
        let bindings = self.vault.bindings().await?;
        let is_for = bindings
            .get(&name)
            .is_some_and(|bound| is_bound(&bound.hosts, &server.target.host) && (bound.tools.is_empty() || bound.tools.iter().any(|bound| bound == tool)));
        match self.vault.value(&name).await? {
            None => Err(Error::NoSecret { name }),
            Some(_) if !is_for => Err(Error::Unbound { name, host: server.target.host.to_string(), tool: tool.to_owned() }),
            Some(password) => Ok(Login { user: account.user.clone(), password }),
        }
    }
}

fn sendable(letter: &Letter) -> Result<()> {
    match letter.fault() {
        Some(fault) => Err(Error::Letter(fault)),
        None if letter.recipients().is_empty() => Err(Error::Letter("it has no recipient")),
        None => Ok(()),
    }
}

/// The same for the same letter of the same yes, so that a server that was given it twice can tell.
fn message_id(from: &Mailbox, key: &str, digest: &Digest) -> String {
    let mut hash = Hash::new(&SHA256);
    hash.update(key.as_bytes());
    hash.update(digest.to_string().as_bytes());
    let hex: String = hash.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}@{}", from.domain())
}

impl Server {
    async fn connect(&self, outlet: &Outlet) -> Result<Lines> {
        let unreachable = |refused: crate::outlet::Refused| Error::Unreachable(refused.message(Language::En));
        let stream = outlet.reach(&self.target).await.map_err(unreachable)?;
        match self.tls {
            Tls::Implicit => Ok(Lines::new(outlet.private(&self.target, stream).await.map_err(unreachable)?)),
            Tls::Starttls => Ok(Lines::new(stream)),
        }
    }

    /// After the word that asks for it.
    async fn encrypt(&self, outlet: &Outlet, lines: Lines) -> Result<Lines> {
        let wire: Box<dyn Wire> = lines.into_wire()?;
        let private = outlet.private(&self.target, wire).await.map_err(|refused| Error::Unreachable(refused.message(Language::En)))?;
        Ok(Lines::new(private))
    }
}
