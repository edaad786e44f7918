//! What both protocols of mail are made of: lines, and pieces of a length that was announced. Bounded in each direction
//! that a server decides about.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A conversation with a server.
pub struct Lines {
    wire: Box<dyn Wire>,
    /// Read and not yet looked at.
    heard: Vec<u8>,
    /// What the server may still say.
    left: usize,
}

/// Longer lines are nothing that a server of mail says; what is long comes as a piece.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Said by a server in one conversation: a message, and the heads of some.
const HEARD_BYTES_MAX: usize = 4 * 1024 * 1024;
const PIECE_BYTES: usize = 8 * 1024;

impl Lines {
    pub fn new(wire: impl Wire + 'static) -> Lines {
        Lines { wire: Box::new(wire), heard: Vec::new(), left: HEARD_BYTES_MAX }
    }

    /// One line without its end.
    pub async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(at) = self.heard[looked..].iter().position(|byte| *byte == b'\n').map(|at| looked + at) {
                let mut line: Vec<u8> = self.heard.drain(..=at).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            looked = self.heard.len();
            if looked > LINE_BYTES_MAX {
                return Err(io::Error::other("a line is too long"));
            }
            self.read().await?;
        }
    }

    pub async fn piece(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count > self.left + self.heard.len() {
            return Err(io::Error::other("a piece is too large"));
        }
        while self.heard.len() < count {
            self.read().await?;
        }
        Ok(self.heard.drain(..count).collect())
    }

    async fn read(&mut self) -> io::Result<()> {
        self.heard.reserve(PIECE_BYTES);
        let count = self.wire.read_buf(&mut self.heard).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.checked_sub(count).ok_or_else(|| io::Error::other("the server says too much"))?;
        Ok(())
    }

    pub async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await
    }

    /// To speak another way from here on. What the server has said already would be taken for a part of that: `Err`.
    pub fn into_wire(self) -> io::Result<Box<dyn Wire>> {
        if self.heard.is_empty() { Ok(self.wire) } else { Err(io::Error::other("the server spoke before it was its turn")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(said: Vec<u8>) -> Lines {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let _ = theirs.write_all(&said).await;
        });
        Lines::new(ours)
    }

    #[tokio::test]
    async fn lines_and_pieces_are_read_as_they_come() {
        let mut wire = lines(b"one\r\ntwo\n\r\n12345rest\r\n".to_vec()).await;
        assert_eq!((wire.line().await.unwrap(), wire.line().await.unwrap(), wire.line().await.unwrap()), (b"one".to_vec(), b"two".to_vec(), Vec::new()));
        assert_eq!((wire.piece(5).await.unwrap(), wire.line().await.unwrap()), (b"12345".to_vec(), b"rest".to_vec()));
        assert_eq!(wire.line().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(lines(b"+OK\r\nmore".to_vec()).await.into_wire().is_ok(), "nothing was read yet");
        let mut early = lines(b"+OK\r\nmore".to_vec()).await;
        early.line().await.unwrap();
        assert!(early.into_wire().is_err());
    }

    #[tokio::test]
    async fn a_server_that_says_too_much_is_not_heard_out() {
        assert!(lines(vec![b'a'; 2 * LINE_BYTES_MAX]).await.line().await.is_err());
        assert!(lines(Vec::new()).await.piece(HEARD_BYTES_MAX + 1).await.is_err());
        let mut wire = lines(b"0123456\n".repeat(HEARD_BYTES_MAX / 8 + 1024)).await;
        let mut count = 0;
        while wire.line().await.is_ok() {
            count += 1;
        }
        assert!(count <= HEARD_BYTES_MAX / 8, "{count}");
    }
}
