//! A lean HTTP/1.1 client for one connection: it sends prepared bytes and reads one reply. It shares two processor cores
//! with what it measures, so it does nothing that a measurement does not need. It speaks to the servers of this
//! benchmark alone, which all name the length of what they send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any server here may take; past it the request failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any reply here.
const MOST_BYTES: usize = 1 << 20;

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// The connection could not be made, or broke.
    Broken(String),
    /// Not HTTP/1.1 with a content-length.
    Malformed,
    /// Nothing came in time.
    Silent,
}

impl std::fmt::Display for HttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HttpError::Broken(cause) => write!(f, "the connection broke: {cause}"),
            HttpError::Malformed => f.write_str("the reply is malformed"),
            HttpError::Silent => f.write_str("no reply came in time"),
        }
    }
}

impl std::error::Error for HttpError {}

impl From<std::io::Error> for HttpError {
    fn from(error: std::io::Error) -> HttpError {
        HttpError::Broken(error.to_string())
    }
}

/// One kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back. Borrows the connection's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    pub status: u16,
    /// The status line and the header lines, as they came.
    pub head: &'a [u8],
    pub body: &'a [u8],
}

/// Where a reply's parts stand, once its head is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    body_length: usize,
}

impl Connection {
    /// # Errors
    /// [`HttpError::Broken`] when nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Connection, HttpError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends one request and reads its whole reply.
    ///
    /// # Errors
    /// Any [`HttpError`]; the connection is of no use afterwards.
    pub async fn send(&mut self, request: &[u8]) -> Result<Reply<'_>, HttpError> {
        let Ok(head) = timeout(PATIENCE, self.exchange(request)).await else { return Err(HttpError::Silent) };
        let head = head?;
        let body = self.buffer.get(head.length..head.length + head.body_length);
        let lines = self.buffer.get(..head.length);
        Ok(Reply {
            status: head.status,
            head: lines.ok_or(HttpError::Malformed)?,
            body: body.ok_or(HttpError::Malformed)?,
        })
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Head, HttpError> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let mut head = None;
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(HttpError::Broken("closed by the server".to_owned()));
            }
            if head.is_none() {
                head = read_head(&self.buffer)?;
            }
            if let Some(head) = head
                && self.buffer.len() >= head.length + head.body_length
            {
                return Ok(head);
            }
            if self.buffer.len() > MOST_BYTES {
                return Err(HttpError::Malformed);
            }
        }
    }
}

/// The head of a reply; `None` while it is incomplete.
fn read_head(bytes: &[u8]) -> Result<Option<Head>, HttpError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| HttpError::Malformed)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|rest| rest.get(..3)?.parse().ok()).ok_or(HttpError::Malformed)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some(Head { status, length: end + 4, body_length: length.ok_or(HttpError::Malformed)? }))
}

/// The value of the first `"<name>":"…"` in a JSON body, for values that hold no escapes; the whole body is not parsed.
#[must_use]
pub fn text_field<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let body = std::str::from_utf8(body).ok()?;
    let marker = format!("\"{name}\":\"");
    let start = body.find(&marker)? + marker.len();
    body.get(start..)?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let whole = b"HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\ncontent-length: 12\r\n\r\n{";
        let head = read_head(whole).unwrap().unwrap();
        assert_eq!((head.status, head.body_length, head.length), (409, 12, whole.len() - 1));
        assert_eq!(read_head(&whole[..whole.len() - 3]), Ok(None));
    }

    #[test]
    fn a_reply_of_unknown_length_is_refused() {
        assert_eq!(read_head(b"HTTP/1.1 200 OK\r\n\r\n"), Err(HttpError::Malformed));
        assert_eq!(read_head(b"SSH-2.0 200\r\ncontent-length: 1\r\n\r\n"), Err(HttpError::Malformed));
    }

    #[test]
    fn the_slug_is_found_in_a_body() {
        let body = r#"{"code":409,"message":"库存不足","error":"out_of_stock","request_id":"r"}"#.as_bytes();
        assert_eq!(text_field(body, "error"), Some("out_of_stock"));
        assert_eq!(text_field(body, "details"), None);
    }

    #[tokio::test]
    async fn replies_that_come_in_pieces_are_put_together() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                let mut request = [0; 4];
                stream.read_exact(&mut request).await.unwrap();
                for piece in ["HTTP/1.1 200 OK\r\ncontent-le", "ngth: 5\r\n\r\nhe", "llo"] {
                    stream.write_all(piece.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut connection = Connection::open(address).await.unwrap();
        for _ in 0..2 {
            let reply = connection.send(b"ping").await.unwrap();
            assert_eq!((reply.status, reply.body), (200, &b"hello"[..]));
        }
        server.await.unwrap();
        assert!(matches!(connection.send(b"ping").await, Err(HttpError::Broken(_))));
    }
}
