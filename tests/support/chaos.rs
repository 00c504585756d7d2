//! The cable to Redis, which a test can pull out and put back.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections to the tests' Redis while it is plugged in.
#[derive(Debug)]
pub struct RedisCable {
    url: String,
    plugged: watch::Sender<bool>,
}

impl RedisCable {
    /// A cable to the server at `redis_url` (`redis://host:port[/db]`).
    pub async fn to(redis_url: &str) -> RedisCable {
        let rest = redis_url.strip_prefix("redis://").expect("a redis:// URL");
        let (server, db) = rest.split_once('/').unwrap_or((rest, "0"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}/{db}", listener.local_addr().expect("a bound socket has an address"));
        let plugged = watch::Sender::new(true);
        tokio::spawn(carry(listener, server.to_owned(), plugged.subscribe()));
        RedisCable { url, plugged }
    }

    /// Where the origin is to look for Redis.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks every connection and refuses new ones.
    pub fn pull(&self) {
        self.plugged.send_replace(false);
    }

    /// Lets connections through again.
    pub fn plug(&self) {
        self.plugged.send_replace(true);
    }
}

async fn carry(listener: TcpListener, server: String, plugged: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (server, mut plugged) = (server.clone(), plugged.clone());
        tokio::spawn(async move {
            if !*plugged.borrow() {
                return;
            }
            let Ok(mut far) = TcpStream::connect(&server).await else { return };
            // Whichever ends first ends both: the streams close when they are dropped here.
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = plugged.wait_for(|plugged| !plugged) => {}
            }
        });
    }
}
