//! A server of mail, played: SMTP takes letters, IMAP shows folders. It speaks strictly, as a server does that trusts
//! nobody: a login in the clear, a wrong order or a word that it does not know is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub const USER: &str = "anna@example.org";

#[derive(Clone)]
pub struct Mailbox(Arc<Inner>);

struct Inner {
    password: String,
    tls: Arc<ServerConfig>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sent: Vec<Sent>,
    folders: BTreeMap<String, Vec<Message>>,
    manners: MailManners,
    said: Vec<String>,
}

/// A letter that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub from: String,
    pub to: Vec<String>,
    pub letter: String,
}

#[derive(Clone)]
struct Message {
    flags: String,
    text: String,
}

/// How it misbehaves.
#[derive(Clone, Default)]
pub struct MailManners {
    /// Nobody is told of STARTTLS.
    pub hides_tls: bool,
    /// Words that come before it is encrypted, as of somebody between.
    pub speaks_early: bool,
    /// This recipient is refused.
    pub refuses: String,
    /// The letter is taken, and then nothing more is said.
    pub is_silent_at_the_end: bool,
    /// The letter is not taken.
    pub is_full: bool,
    /// What it says never ends.
    pub never_ends: bool,
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct Talk {
    wire: Box<dyn Wire>,
    heard: Vec<u8>,
    is_private: bool,
}

impl Mailbox {
    pub fn new(password: &str, tls: Arc<ServerConfig>) -> Mailbox {
        let folders = [("INBOX", vec![]), ("Entw&APw-rfe", vec![]), ("Sent", vec![])].map(|(name, messages)| (name.to_owned(), messages));
        let state = State { folders: folders.into(), ..State::default() };
        Mailbox(Arc::new(Inner { password: password.to_owned(), tls, state: Mutex::new(state) }))
    }

    pub fn behave(&self, manners: MailManners) {
        self.state().manners = manners;
    }

    /// Puts a message into the inbox.
    pub fn receive(&self, text: &str) {
        let message = Message { flags: String::new(), text: text.replace('\n', "\r\n") };
        self.state().folders.get_mut("INBOX").expect("it is there").push(message);
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.state().sent.clone()
    }

    /// The flags and texts of a folder, by its name on the wire.
    pub fn folder(&self, name: &str) -> Vec<(String, String)> {
        self.state().folders.get(name).into_iter().flatten().map(|message| (message.flags.clone(), message.text.clone())).collect()
    }

    /// Every line that a client said.
    pub fn said(&self) -> Vec<String> {
        self.state().said.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// SMTP, encrypted from the first byte or after `STARTTLS`.
    pub async fn smtp(self, stream: TcpStream, implicit: bool) {
        if let Ok(mut talk) = self.begin(stream, implicit).await {
            let _ = self.smtp_talk(&mut talk).await;
        }
    }

    pub async fn imap(self, stream: TcpStream, implicit: bool) {
        if let Ok(mut talk) = self.begin(stream, implicit).await {
            let _ = self.imap_talk(&mut talk).await;
        }
    }

    async fn begin(&self, stream: TcpStream, implicit: bool) -> io::Result<Talk> {
        let wire: Box<dyn Wire> = if implicit { Box::new(TlsAcceptor::from(self.0.tls.clone()).accept(stream).await?) } else { Box::new(stream) };
        Ok(Talk { wire, heard: Vec::new(), is_private: implicit })
    }

    async fn encrypt(&self, talk: &mut Talk) -> io::Result<()> {
        let plain = std::mem::replace(&mut talk.wire, Box::new(tokio::io::empty()));
        talk.wire = Box::new(TlsAcceptor::from(self.0.tls.clone()).accept(plain).await?);
        talk.is_private = true;
        Ok(())
    }

    async fn smtp_talk(&self, talk: &mut Talk) -> io::Result<()> {
        talk.say("220 mail.example.org ready").await?;
        let (mut is_in, mut from, mut to) = (false, None::<String>, Vec::new());
        loop {
            let line = talk.line().await?;
            self.state().said.push(line.clone());
            let manners = self.state().manners.clone();
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match word.to_ascii_uppercase().as_str() {
                "EHLO" if manners.never_ends => loop {
                    talk.say("250-MORE").await?;
                },
                "EHLO" => {
                    talk.say("250-mail.example.org").await?;
                    if !talk.is_private && !manners.hides_tls {
                        talk.say("250-STARTTLS").await?;
                    }
                    if talk.is_private {
                        talk.say("250-AUTH LOGIN PLAIN").await?;
                    }
                    talk.say("250 8BITMIME").await?;
                }
                "STARTTLS" if !talk.is_private => {
                    talk.say(if manners.speaks_early { "220 go on\r\n250 and more" } else { "220 go on" }).await?;
                    self.encrypt(talk).await?;
                }
                "AUTH" if !talk.is_private => talk.say("538 encrypt first").await?,
                "AUTH" => {
                    let expected = STANDARD.encode(format!("\0{USER}\0{}", self.0.password));
                    is_in = rest == format!("PLAIN {expected}");
                    if rest.eq_ignore_ascii_case("LOGIN") {
                        talk.say("334 VXNlcm5hbWU6").await?;
                        let user = talk.line().await?;
                        talk.say("334 UGFzc3dvcmQ6").await?;
                        is_in = user == STANDARD.encode(USER) && talk.line().await? == STANDARD.encode(&self.0.password);
                    }
                    talk.say(if is_in { "235 welcome" } else { "535 no" }).await?;
                }
                "MAIL" if is_in && from.is_none() => {
                    from = rest.to_ascii_uppercase().starts_with("FROM:<").then(|| between(rest));
                    talk.say(if from.is_some() { "250 ok" } else { "501 no" }).await?;
                }
                "RCPT" if from.is_some() => {
                    let address = between(rest);
                    if address == manners.refuses {
                        talk.say("550 nobody of this name").await?;
                    } else {
                        to.push(address);
                        talk.say("250 ok").await?;
                    }
                }
                "DATA" if !to.is_empty() => {
                    talk.say("354 go on").await?;
                    let mut letter = Vec::new();
                    loop {
                        let line = talk.line().await?;
                        if line == "." {
                            break;
                        }
                        letter.push(line.strip_prefix('.').unwrap_or(&line).to_owned());
                    }
                    if manners.is_full {
                        talk.say("452 the disk is full").await?;
                        continue;
                    }
                    let sent = Sent { from: from.take().unwrap_or_default(), to: std::mem::take(&mut to), letter: letter.join("\n") };
                    self.state().sent.push(sent);
                    if manners.is_silent_at_the_end {
                        return Ok(());
                    }
                    talk.say("250 taken").await?;
                }
                "RSET" | "NOOP" => talk.say("250 ok").await?,
                "QUIT" => return talk.say("221 bye").await,
                _ => talk.say("503 not now").await?,
            }
        }
    }

    async fn imap_talk(&self, talk: &mut Talk) -> io::Result<()> {
        talk.say("* OK [CAPABILITY IMAP4rev1] ready").await?;
        let (mut is_in, mut folder) = (false, None::<String>);
        loop {
            let (line, texts) = talk.command().await?;
            self.state().said.push(line.clone());
            let mut words = line.splitn(3, ' ');
            let (tag, word, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_ascii_uppercase(), words.next().unwrap_or_default());
            let manners = self.state().manners.clone();
            let done = format!("{tag} OK done");
            match word.as_str() {
                "CAPABILITY" => talk.say(&format!("* CAPABILITY IMAP4rev1 STARTTLS\r\n{done}")).await?,
                "STARTTLS" if !talk.is_private && !manners.hides_tls => {
                    talk.say(&if manners.speaks_early { format!("{done}\r\n* OK early") } else { done }).await?;
                    self.encrypt(talk).await?;
                }
                "LOGIN" if talk.is_private => {
                    is_in = arguments(rest, &texts) == [USER, &self.0.password];
                    talk.say(&if is_in { done } else { format!("{tag} NO [AUTHENTICATIONFAILED] no") }).await?;
                }
                "LIST" if is_in && manners.never_ends => loop {
                    talk.say("* LIST () \"/\" \"more\"").await?;
                },
                "LIST" if is_in => {
                    let folders: Vec<String> = self.state().folders.keys().cloned().collect();
                    for name in folders {
                        let flags = if name.starts_with("Entw") { "\\HasNoChildren \\Drafts" } else { "\\HasNoChildren" };
                        talk.say(&format!("* LIST ({flags}) \"/\" \"{name}\"")).await?;
                    }
                    talk.say("* LIST (\\Noselect) \"/\" \"[All]\"").await?;
                    talk.say(&done).await?;
                }
                "EXAMINE" | "SELECT" if is_in => {
                    let name = arguments(rest, &texts).concat();
                    let count = self.state().folders.get(&name).map(Vec::len);
                    folder = count.map(|_| name);
                    talk.say(
                        &count.map_or(format!("{tag} NO no such folder"), |count| format!("* {count} EXISTS\r\n* FLAGS (\\Seen)\r\n{tag} OK [READ-ONLY] done")),
                    )
                    .await?;
                }
                "UID" if is_in && folder.is_some() => {
                    let messages = self.state().folders.get(folder.as_deref().unwrap_or_default()).cloned().unwrap_or_default();
                    let answer = if rest.to_ascii_uppercase().starts_with("SEARCH") { searched(&messages, rest, &texts) } else { fetched(&messages, rest) };
                    talk.say(&format!("{answer}{done}")).await?;
                }
                "APPEND" if is_in => {
                    let [name, letter] = [texts.first(), texts.last()].map(|text| text.cloned().unwrap_or_default());
                    // A client may write the folder as a word.
                    let name = if texts.len() < 2 { arguments(rest, &[])[0].clone() } else { name };
                    let flags = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(flags, _)| flags).to_owned();
                    let there = self.state().folders.get_mut(&name).map(|messages| messages.push(Message { flags, text: letter }));
                    talk.say(&if there.is_some() { done } else { format!("{tag} NO [TRYCREATE] no such folder") }).await?;
                }
                "LOGOUT" => return talk.say(&format!("* BYE\r\n{done}")).await,
                _ => talk.say(&format!("{tag} BAD not now")).await?,
            }
        }
    }
}

impl Talk {
    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.wire.write_all(format!("{text}\r\n").as_bytes()).await?;
        self.wire.flush().await
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        match self.wire.read(&mut piece).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.heard.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }

    /// A command with the texts that came by their length; `{}` stands where they were.
    async fn command(&mut self) -> io::Result<(String, Vec<String>)> {
        let (mut line, mut texts) = (String::new(), Vec::new());
        loop {
            let part = self.line().await?;
            let length = part
                .strip_suffix('}')
                .and_then(|part| part.rsplit_once('{'))
                .and_then(|(before, length)| Some((before.to_owned(), length.parse::<usize>().ok()?)));
            let Some((before, length)) = length else { return Ok((line + &part, texts)) };
            self.say("+ go on").await?;
            while self.heard.len() < length {
                self.read().await?;
            }
            texts.push(String::from_utf8_lossy(&self.heard.drain(..length).collect::<Vec<u8>>()).into_owned());
            line += &before;
            line += "{}";
        }
    }
}

fn between(text: &str) -> String {
    text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(String::new(), |(address, _)| address.to_owned())
}

/// The arguments, quoted, as words, or by their length.
fn arguments(rest: &str, texts: &[String]) -> Vec<String> {
    let mut texts = texts.iter();
    let mut found = Vec::new();
    let mut left = rest.trim();
    while !left.is_empty() {
        let (word, behind) = match left.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => left.split_once(' ').unwrap_or((left, "")),
        };
        found.push(if word == "{}" { texts.next().cloned().unwrap_or_default() } else { word.to_owned() });
        left = behind.trim_start();
    }
    found
}

fn searched(messages: &[Message], rest: &str, texts: &[String]) -> String {
    let wanted = arguments(rest, texts);
    let fits = |message: &Message| {
        wanted.windows(2).all(|pair| match pair[0].to_ascii_uppercase().as_str() {
            "FROM" => head(message, "From:").contains(&pair[1]),
            "SUBJECT" => head(message, "Subject:").contains(&pair[1]),
            "TEXT" => message.text.contains(&pair[1]),
            _ => true,
        }) && (!rest.contains("UNSEEN") || !message.flags.contains("Seen"))
    };
    let uids: Vec<String> = messages.iter().enumerate().filter(|(_, message)| fits(message)).map(|(at, _)| (at + 1).to_string()).collect();
    format!("* SEARCH {}\r\n", uids.join(" "))
}

fn head<'a>(message: &'a Message, name: &str) -> &'a str {
    message.text.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with(name)).unwrap_or_default()
}

fn fetched(messages: &[Message], rest: &str) -> String {
    let set = rest.split(' ').nth(1).unwrap_or_default();
    let mut answer = String::new();
    for uid in set.split(',').filter_map(|uid| uid.parse::<usize>().ok()) {
        let Some(message) = messages.get(uid - 1) else { continue };
        let heads = message.text.split_once("\r\n\r\n").map_or(message.text.as_str(), |(heads, _)| heads);
        let (name, text) = match rest.contains("HEADER.FIELDS") {
            true => ("BODY[HEADER.FIELDS (FROM TO CC SUBJECT DATE MESSAGE-ID)]", format!("{heads}\r\n\r\n")),
            false => ("BODY[]<0>", message.text.clone()),
        };
        answer += &format!("* {uid} FETCH (UID {uid} FLAGS ({}) {name} {{{}}}\r\n{text})\r\n", message.flags, text.len());
    }
    answer
}
