//! A letter: written so that no word of it becomes a head, and read so that a person or a model can follow it. Pure.

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_parser::{MessageParser, MimeHeaders};
use policy::host::Host;
use std::fmt;

/// Whom a letter is to or from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    pub name: String,
    pub address: String,
}

/// What is to be sent or kept as a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    pub to: Vec<Mailbox>,
    pub cc: Vec<Mailbox>,
    pub bcc: Vec<Mailbox>,
    pub subject: String,
    pub body: String,
    /// The id of the message that this one answers.
    pub answers: Option<String>,
}

/// All recipients of one letter.
pub const RECIPIENTS_MAX: usize = 50;
const SUBJECT_CHARS_MAX: usize = 400;
const BODY_BYTES_MAX: usize = 256 * 1024;
const NAME_CHARS_MAX: usize = 120;
const LOCAL_BYTES_MAX: usize = 64;
const ID_BYTES_MAX: usize = 250;
/// Of a head that is shown.
const SHOWN_CHARS_MAX: usize = 400;
const ATTACHMENTS_SHOWN: usize = 20;

impl Mailbox {
    /// `anna@example.org`, or `Anna Muster <anna@example.org>`.
    pub fn parse(text: &str) -> Option<Mailbox> {
        let (name, address) = match text.trim().strip_suffix('>').and_then(|rest| rest.split_once('<')) {
            Some((name, address)) => (name.trim().trim_matches('"'), address),
            None => ("", text.trim()),
        };
        let (local, domain) = address.rsplit_once('@')?;
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte));
        let host = Host::parse(domain).ok()?;
        let domain = host.name().filter(|name| name.contains('.'))?;
        let is_name = name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(|letter| letter.is_control() || "<>\"\\".contains(letter));
        let is_sound = is_name && local.len() <= LOCAL_BYTES_MAX && local.split('.').all(is_word);
        is_sound.then(|| Mailbox { name: name.to_owned(), address: format!("{local}@{domain}") })
    }

    pub fn domain(&self) -> &str {
        self.address.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() { f.write_str(&self.address) } else { write!(f, "{} <{}>", self.name, self.address) }
    }
}

impl Letter {
    /// What is wrong with it, without a word of it.
    pub fn fault(&self) -> Option<&'static str> {
        let count = self.recipients().len();
        match () {
            () if count > RECIPIENTS_MAX => Some("it has more than 50 recipients"),
            () if self.subject.chars().count() > SUBJECT_CHARS_MAX => Some("its subject is too long"),
            () if self.subject.chars().any(char::is_control) => Some("its subject is more than one line"),
            () if self.body.len() > BODY_BYTES_MAX => Some("its body is larger than 256 KiB"),
            () if self.body.contains('\0') => Some("its body is no text"),
            () if self.answers.as_deref().is_some_and(|id| bare_id(id).is_none()) => Some("`answers` is no id of a message"),
            () => None,
        }
    }

    /// The addresses, each once.
    pub fn recipients(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for mailbox in self.to.iter().chain(&self.cc).chain(&self.bcc) {
            if !all.contains(&mailbox.address) {
                all.push(mailbox.address.clone());
            }
        }
        all
    }

    /// As it travels. Whom a blind copy goes to stands only in a draft, for whoever sends it.
    pub fn written(&self, from: &Mailbox, message_id: &str, now_ms: i64, is_draft: bool) -> Vec<u8> {
        let list = |mailboxes: &[Mailbox]| Address::new_list(mailboxes.iter().map(address).collect());
        let mut letter = MessageBuilder::new()
            .from(address(from))
            .subject(self.subject.clone())
            .date(Date::new(now_ms / 1000))
            .message_id(MessageId::new(message_id.to_owned()))
            .text_body(self.body.clone());
        if !self.to.is_empty() {
            letter = letter.to(list(&self.to));
        }
        if !self.cc.is_empty() {
            letter = letter.cc(list(&self.cc));
        }
        if is_draft && !self.bcc.is_empty() {
            letter = letter.bcc(list(&self.bcc));
        }
        if let Some(id) = self.answers.as_deref().and_then(bare_id) {
            letter = letter.in_reply_to(MessageId::new(id.to_owned())).references(MessageId::new(id.to_owned()));
        }
        // Memory takes it.
        letter.write_to_vec().unwrap_or_default()
    }
}

fn address(mailbox: &Mailbox) -> Address<'static> {
    Address::new_address(Some(mailbox.name.clone()).filter(|name| !name.is_empty()), mailbox.address.clone())
}

/// `<a@b>` without its brackets.
fn bare_id(id: &str) -> Option<&str> {
    let id = id.trim();
    let bare = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id);
    let is_sound = bare.len() <= ID_BYTES_MAX && bare.contains('@') && bare.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>,;\"".contains(&byte));
    is_sound.then_some(bare)
}

/// A message or its head, as somebody reads it: who, when, what about, and where it is whole its text.
pub fn shown(message: &[u8], with_text: bool) -> String {
    let Some(message) = MessageParser::default().parse(message) else { return "[this message cannot be read]".to_owned() };
    let mut lines = Vec::new();
    let people = |of: Option<&mail_parser::Address<'_>>| {
        let one = |person: &mail_parser::Addr<'_>| match (&person.name, &person.address) {
            (Some(name), Some(address)) => format!("{name} <{address}>"),
            (name, address) => name.as_ref().or(address.as_ref()).map_or_else(String::new, ToString::to_string),
        };
        of.map(|of| of.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    let date = message.date().map(|date| date.to_rfc3339());
    for (name, value) in [
        ("from", people(message.from())),
        ("to", people(message.to())),
        ("cc", people(message.cc())),
        ("date", date),
        ("subject", message.subject().map(str::to_owned)),
        ("message-id", message.message_id().map(|id| format!("<{id}>"))),
    ] {
        // A head in a head would be a line of ours.
        let value: Option<String> =
            value.map(|value| value.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(SHOWN_CHARS_MAX).collect());
        lines.extend(value.map(|value| format!("{name}: {value}")));
    }
    if with_text {
        for part in message.attachments().take(ATTACHMENTS_SHOWN) {
            let name: String = part.attachment_name().unwrap_or("unnamed").chars().filter(|letter| !letter.is_control()).take(100).collect();
            lines.push(format!("attachment: {name} ({} bytes)", part.len()));
        }
        let text = message.body_text(0).map(|text| text.trim().replace("\r\n", "\n")).filter(|text| !text.is_empty());
        lines.push(format!("\n{}", text.as_deref().unwrap_or("[it has no text]")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn an_address_is_one_address_or_none() {
        for (text, shown) in [
            ("anna@example.org", "anna@example.org"),
            (" Anna Muster <anna.m+x@Example.ORG> ", "Anna Muster <anna.m+x@example.org>"),
            ("\"Größe, Anna\" <a@bücher.example>", "Größe, Anna <a@xn--bcher-kva.example>"),
        ] {
            assert_eq!(mailbox(text).to_string(), shown);
        }
        for text in [
            "",
            "anna",
            "anna@",
            "@example.org",
            "anna@localhost",
            "anna@[127.0.0.1]",
            "anna@127.0.0.1",
            "a b@example.org",
            "a@example.org, b@example.org",
            "a@example.org>\r\nRCPT TO:<b@example.org",
            "a\r\nBcc: b@example.org <a@example.org>",
            "<a@example.org",
            "x <a@example.org> y",
            "\"a b\"@example.org",
            "größe@example.org",
            "group: a@example.org;",
            "a..b@example.org",
        ] {
            assert_eq!(Mailbox::parse(text), None, "{text:?}");
        }
    }

    fn letter() -> Letter {
        Letter {
            to: vec![mailbox("Bert Größe <bert@example.net>")],
            cc: vec![mailbox("cc@example.net")],
            bcc: vec![mailbox("bcc@example.net"), mailbox("bert@example.net")],
            subject: "Grüße aus Köln".to_owned(),
            body: "Hallo Bert,\n.\nviele Grüße\n".to_owned(),
            answers: Some("<x1@example.net>".to_owned()),
        }
    }

    #[test]
    fn a_letter_that_was_written_reads_the_same() {
        let from = mailbox("Anna <anna@example.org>");
        let bytes = letter().written(&from, "id1@example.org", 1_795_140_000_000, false);
        let text = String::from_utf8(bytes.clone()).expect("a letter travels as ASCII");
        assert!(text.is_ascii() && !text.contains("bcc@example.net"), "{text}");
        let read = shown(&bytes, true);
        assert_eq!(
            read,
            "from: Anna <anna@example.org>\nto: Bert Größe <bert@example.net>\ncc: cc@example.net\ndate: 2026-11-20T02:00:00Z\n\
             subject: Grüße aus Köln\nmessage-id: <id1@example.org>\n\nHallo Bert,\n.\nviele Grüße"
        );
        assert!(text.contains("In-Reply-To: <x1@example.net>") && text.contains("References: <x1@example.net>"), "{text}");
        let draft = String::from_utf8(letter().written(&from, "id1@example.org", 0, true)).unwrap();
        assert!(draft.contains("bcc@example.net"), "{draft}");
        assert_eq!(letter().recipients(), ["bert@example.net", "cc@example.net", "bcc@example.net"]);
    }

    #[test]
    fn what_no_letter_can_be_is_said() {
        assert_eq!(letter().fault(), None);
        for wrong in [
            Letter { subject: "a\r\nBcc: x@example.org".to_owned(), ..letter() },
            Letter { subject: "a".repeat(SUBJECT_CHARS_MAX + 1), ..letter() },
            Letter { body: "a".repeat(BODY_BYTES_MAX + 1), ..letter() },
            Letter { body: "\0".to_owned(), ..letter() },
            Letter { answers: Some("<a@b>\r\nX: y".to_owned()), ..letter() },
            Letter { answers: Some("<a@b> <c@d>".to_owned()), ..letter() },
            Letter { to: (0..=RECIPIENTS_MAX).map(|n| mailbox(&format!("a{n}@example.org"))).collect(), ..letter() },
        ] {
            assert!(wrong.fault().is_some(), "{:?}", wrong.subject.len());
        }
    }

    #[test]
    fn a_message_of_anybody_is_told() {
        let message = b"From: =?utf-8?Q?J=C3=B6rg?= <j@example.net>\r\nSubject: a\r\n b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<p>Hello <b>you</b></p>\r\n--x\r\nContent-Type: application/pdf; name=\"bill.pdf\"\r\nContent-Disposition: attachment\r\n\r\nabc\r\n--x--\r\n";
        let text = shown(message, true);
        assert!(text.starts_with("from: J\u{f6}rg <j@example.net>\nsubject: a b\nattachment: bill.pdf (3 bytes)\n\nHello you"), "{text}");
        assert_eq!(shown(message, false), "from: Jörg <j@example.net>\nsubject: a b");
    }

    #[test]
    fn a_message_that_is_built_to_hurt_is_told_like_any_other() {
        let nested = |count: usize| {
            let begin: String = (0..count).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")).collect();
            begin + "\r\nx\r\n"
        };
        for (name, text) in [
            ("messages in messages", "Content-Type: message/rfc822\r\n\r\n".repeat(30_000)),
            ("parts in parts", nested(15_000)),
            ("comments in comments", format!("From: {}a@example.org\r\n\r\nx", "(".repeat(500_000))),
            ("groups in groups", format!("To: {}\r\n\r\nx", "a:".repeat(250_000))),
            ("many heads", "A: b\r\n".repeat(100_000)),
            ("tags in tags", format!("Content-Type: text/html\r\n\r\n{}", "<b>".repeat(300_000))),
            ("open tags", format!("Content-Type: text/html\r\n\r\n{}", "<!--<".repeat(200_000))),
            ("words", format!("Subject: {}\r\n\r\n", "=?utf-8?q?=".repeat(90_000))),
            ("dates", format!("Date: {}\r\n\r\n", "1 ".repeat(300_000))),
        ] {
            // As little room as a thread of the agent has.
            let look = std::thread::Builder::new().stack_size(2 << 20).spawn(move || shown(text.as_bytes(), true)).unwrap();
            assert!(look.join().is_ok(), "{name}");
        }
    }

    proptest! {
        /// Whatever a model writes, the letter has the heads that were meant and its recipients are those that were shown.
        #[test]
        fn no_word_becomes_a_head(subject in "\\PC{0,80}", body in "[^\\x00]{0,300}", name in "[^<>\"\\\\\\p{Cc}]{0,40}") {
            let from = mailbox("anna@example.org");
            let to = Mailbox::parse(&format!("{name} <bert@example.net>"));
            prop_assume!(to.is_some());
            let letter = Letter { to: to.into_iter().collect(), subject, body, ..Letter::default() };
            prop_assume!(letter.fault().is_none());
            let bytes = letter.written(&from, "id1@example.org", 0, false);
            let parsed = MessageParser::default().parse(&bytes).unwrap();
            let heads: Vec<String> = parsed.headers().iter().map(|head| head.name().to_ascii_lowercase()).collect();
            let known = ["from", "to", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding"];
            prop_assert!(heads.iter().all(|head| known.contains(&head.as_str())), "{heads:?}");
            prop_assert_eq!(parsed.to().unwrap().iter().count(), 1);
            prop_assert_eq!(parsed.to().unwrap().first().unwrap().address().unwrap(), "bert@example.net");
        }

        #[test]
        fn any_bytes_are_told(message in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = shown(&message, true);
        }
    }
}
