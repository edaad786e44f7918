//! A letter given to a server that sends it: as much of SMTP as that takes.
//!
//! Nobody's password goes out before the connection is encrypted. Either every recipient is taken, or nothing is sent.
//! [`deliver`] tells three ends apart: sent, surely not sent, and the one of which nobody can say.

use super::line::Lines;
use super::{Error, Login, Server, Tls};
use crate::outlet::Outlet;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What became of a letter.
#[derive(Debug)]
pub enum Delivered {
    Sent,
    Not(Error),
    /// It was handed over whole, and no answer came.
    Unclear,
}

/// Lines of one reply.
const REPLY_LINES_MAX: usize = 100;
/// What a client calls itself that has no name in the world.
const OWN_NAME: &str = "[127.0.0.1]";

struct Reply {
    code: u16,
    lines: Vec<String>,
}

/// `intend` comes after the server has taken sender and recipients, and before the first word of the letter.
pub async fn deliver(
    outlet: &Outlet,
    server: &Server,
    login: &Login,
    from: &str,
    to: &[String],
    letter: &[u8],
    intend: impl Future<Output = Result<(), Error>>,
) -> Delivered {
    let mut smtp = match open(outlet, server, login).await {
        Ok(smtp) => smtp,
        Err(error) => return Delivered::Not(error),
    };
    match smtp.hand_over(from, to, letter, intend).await {
        Ok(()) => {}
        Err(error) => return Delivered::Not(error),
    }
    // From here on only the server knows.
    let reply = match smtp.lines.say(b".\r\n").await {
        Ok(()) => smtp.reply().await,
        Err(error) => Err(error.into()),
    };
    match reply {
        Ok(reply) if reply.is_done() => {
            let _ = smtp.lines.say(b"QUIT\r\n").await;
            Delivered::Sent
        }
        Ok(reply) => Delivered::Not(reply.refusal()),
        Err(_) => Delivered::Unclear,
    }
}

async fn open(outlet: &Outlet, server: &Server, login: &Login) -> Result<Smtp, Error> {
    let mut smtp = Smtp { lines: server.connect(outlet).await? };
    smtp.expect_greeting().await?;
    let mut offers = smtp.hello().await?;
    if server.tls == Tls::Starttls {
        if !offers.iter().any(|offer| offer.eq_ignore_ascii_case("STARTTLS")) {
            return Err(Error::Unencrypted);
        }
        smtp.done("STARTTLS").await?;
        smtp = Smtp { lines: server.encrypt(outlet, smtp.lines).await? };
        // What was offered before may have been somebody else's words.
        offers = smtp.hello().await?;
    }
    smtp.log_in(&offers, login).await?;
    Ok(smtp)
}

struct Smtp {
    lines: Lines,
}

impl Smtp {
    async fn expect_greeting(&mut self) -> Result<(), Error> {
        let reply = self.reply().await?;
        if reply.code == 220 { Ok(()) } else { Err(reply.refusal()) }
    }

    /// What the server offers.
    async fn hello(&mut self) -> Result<Vec<String>, Error> {
        let reply = self.done(&format!("EHLO {OWN_NAME}")).await?;
        Ok(reply.lines.into_iter().skip(1).collect())
    }

    async fn log_in(&mut self, offers: &[String], login: &Login) -> Result<(), Error> {
        let ways = offers.iter().find_map(|offer| offer.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("AUTH")).map(|(_, ways)| ways));
        let has = |way: &str| ways.is_some_and(|ways| ways.split_whitespace().any(|word| word.eq_ignore_ascii_case(way)));
        // The server needs the password.
        let reply = if has("PLAIN") {
            let plain = Zeroizing::new(format!("\0{}\0{}", login.user, login.password.expose()));
            self.command(&Zeroizing::new(format!("AUTH PLAIN {}", STANDARD.encode(plain.as_bytes())))).await?
        } else if has("LOGIN") {
            self.command("AUTH LOGIN").await?;
            self.command(&STANDARD.encode(&login.user)).await?;
            self.command(&Zeroizing::new(STANDARD.encode(login.password.expose()))).await?
        } else {
            return Err(Error::LoginWay);
        };
        if reply.code == 235 { Ok(()) } else { Err(Error::Login) }
    }

    /// Everything but the line that ends the letter.
    async fn hand_over(&mut self, from: &str, to: &[String], letter: &[u8], intend: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        self.done(&format!("MAIL FROM:<{from}>")).await?;
        for address in to {
            self.done(&format!("RCPT TO:<{address}>")).await?;
        }
        intend.await?;
        let reply = self.command("DATA").await?;
        if reply.code != 354 {
            return Err(reply.refusal());
        }
        Ok(self.lines.say(&stuffed(letter)).await?)
    }

    async fn done(&mut self, line: &str) -> Result<Reply, Error> {
        let reply = self.command(line).await?;
        if reply.is_done() { Ok(reply) } else { Err(reply.refusal()) }
    }

    async fn command(&mut self, line: &str) -> Result<Reply, Error> {
        self.lines.say(&Zeroizing::new([line.as_bytes(), b"\r\n"].concat())).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, Error> {
        let mut lines = Vec::new();
        while lines.len() < REPLY_LINES_MAX {
            let line = String::from_utf8_lossy(&self.lines.line().await?).into_owned();
            let code = line.get(..3).and_then(|code| code.parse().ok()).filter(|code| (200..600).contains(code)).ok_or(Error::Unreadable)?;
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if !goes_on {
                return Ok(Reply { code, lines });
            }
        }
        Err(Error::Unreadable)
    }
}

impl Reply {
    fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    fn refusal(&self) -> Error {
        Error::refused(&format!("{} {}", self.code, self.lines.join(" ")))
    }
}

/// Lines as the protocol has them; one that begins with a dot gets another one, so that none ends the letter.
fn stuffed(letter: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(letter.len() + 64);
    for line in letter.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            stuffed.push(b'.');
        }
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        stuffed.extend_from_slice(bare.strip_suffix(b"\r").unwrap_or(bare));
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_letter_ends_it() {
        for (letter, expected) in
            [("a\r\nb", "a\r\nb\r\n"), (".\n..b\n", "..\r\n...b\r\n"), ("a\n.\r\nQUIT\r\n", "a\r\n..\r\nQUIT\r\n"), ("", ""), ("\n", "\r\n")]
        {
            assert_eq!(String::from_utf8(stuffed(letter.as_bytes())).unwrap(), expected, "{letter:?}");
        }
    }
}
