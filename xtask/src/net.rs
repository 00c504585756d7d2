//! Health probes over plain sockets: enough of HTTP, MySQL's greeting and Redis's PING to know
//! that a server answers. Every probe ends within two seconds.

use anyhow::{Context as _, Result, anyhow, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A test's own server answers when a busy machine lets it.
const LIMIT: Duration = Duration::from_secs(if cfg!(test) { 20 } else { 2 });

/// The status of `GET url`, where url is `http://host:port/path`.
pub fn http_status(url: &str) -> Result<u16> {
    let rest = url.strip_prefix("http://").ok_or_else(|| anyhow!("not an http address: {url}"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let mut stream = connect(host)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 64];
    let mut length = 0;
    while length < "HTTP/1.1 200".len() {
        match stream.read(&mut head[length..])? {
            0 => bail!("{url} closed the connection"),
            n => length += n,
        }
    }
    let line = String::from_utf8_lossy(&head[..length]);
    let status = line.split(' ').nth(1).and_then(|s| s.get(..3)?.parse().ok());
    status.ok_or_else(|| anyhow!("{url} does not speak HTTP"))
}

/// MySQL speaks first: four bytes of frame and protocol version 10. A server that still starts
/// keeps silent; one that refuses us sends an error packet instead.
pub fn mysql_greets(host: &str) -> Result<()> {
    let mut stream = connect(host)?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    if head[4] != 10 {
        bail!("{host} is no MySQL server that takes connections");
    }
    Ok(())
}

/// A Redis that still loads its data answers `-LOADING`; one that wants a password is alive.
pub fn redis_answers(host: &str) -> Result<()> {
    let mut stream = connect(host)?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply)?;
    if &reply != b"+PONG" && &reply != b"-NOAU" {
        bail!("{host} is no Redis that is ready");
    }
    Ok(())
}

pub fn accepts(host: &str) -> bool {
    connect(host).is_ok()
}

/// `host:port` of a URL such as `mysql://user:word@host:port/name`.
pub fn authority(url: &str, default_port: u16) -> Result<String> {
    let rest = url.split_once("://").ok_or_else(|| anyhow!("not a URL: {url}"))?.1;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    if host.is_empty() {
        bail!("the URL names no host");
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { host.to_owned() } else { format!("{host}:{default_port}") })
}

fn connect(host: &str) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> =
        host.to_socket_addrs().with_context(|| format!("{host} is not an address"))?.collect();
    let mut last = anyhow!("{host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_write_timeout(Some(LIMIT))?;
                return Ok(stream);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_authority_of_a_url_is_host_and_port() {
        assert_eq!(authority("mysql://root@127.0.0.1:13306/farmgate", 3306).unwrap(), "127.0.0.1:13306");
        assert_eq!(authority("mysql://u:p%40w@db/farmgate?a=b", 3306).unwrap(), "db:3306");
        assert_eq!(authority("redis://[::1]:1", 6379).unwrap(), "[::1]:1");
        assert!(authority("mysql:///farmgate", 3306).is_err());
        assert!(authority("farmgate", 3306).is_err());
    }

    fn answer_once(reply: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(reply).unwrap();
            // Until the prober hangs up: closing with unread bytes would reset the connection.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        host
    }

    #[test]
    fn a_status_line_is_read() {
        let host = answer_once(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(http_status(&format!("http://{host}/readyz")).unwrap(), 503);
    }

    #[test]
    fn an_error_packet_is_not_a_greeting() {
        assert!(mysql_greets(&answer_once(b"\x10\0\0\0\xff")).is_err());
        assert!(mysql_greets(&answer_once(b"\x4a\0\0\0\x0a")).is_ok());
    }

    #[test]
    fn a_loading_redis_is_not_ready() {
        assert!(redis_answers(&answer_once(b"-LOADING Redis is loading")).is_err());
        assert!(redis_answers(&answer_once(b"+PONG\r\n")).is_ok());
    }
}
