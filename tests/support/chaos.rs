//! The cable to a server, which a test can pull out and put back, which can lose what the server says, and at which a test
//! can listen to what the server is told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections to MySQL or Redis while it is plugged in.
#[derive(Debug)]
pub struct Cable {
    url: String,
    state: watch::Sender<State>,
    carried: Arc<Carried>,
}

/// What came through.
#[derive(Debug, Default)]
struct Carried {
    /// Pieces of what the server said that were lost.
    lost: AtomicU64,
    /// What the server was told since somebody listens, by connection.
    heard: Mutex<Vec<Vec<u8>>>,
}

impl Carried {
    fn heard(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection.
    fn one_more(&self) -> usize {
        let mut heard = self.heard();
        heard.push(Vec::new());
        heard.len() - 1
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_out: bool,
    is_deaf: bool,
    /// Somebody listens.
    is_overheard: bool,
    /// How often it was pulled out: connections end with the next time.
    pulls: u32,
}

impl Cable {
    /// A cable to the server at `url` (`scheme://[user@]host:port[/…]`).
    pub async fn to(url: &str) -> Cable {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, server) = authority.rsplit_once('@').map_or(("", authority), |(user, at)| (user, at));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("a bound socket has an address");
        let at = if user.is_empty() { "" } else { "@" };
        let state = watch::Sender::new(State::default());
        let carried = Arc::default();
        tokio::spawn(carry(listener, server.to_owned(), state.subscribe(), Arc::clone(&carried)));
        Cable { url: format!("{scheme}://{user}{at}{here}{path}"), state, carried }
    }

    /// Where the origin is to look for the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks every connection and refuses new ones.
    pub fn pull(&self) {
        self.state.send_modify(|state| {
            state.is_out = true;
            state.pulls += 1;
        });
    }

    /// What the server says is lost from now on, and stays so on the connections that it spoke on; it hears as before.
    pub fn deafen(&self) {
        self.state.send_modify(|state| state.is_deaf = true);
    }

    /// How much of what the server said was lost so far, in pieces.
    pub fn lost(&self) -> u64 {
        self.carried.lost.load(Ordering::Relaxed)
    }

    /// From now on what the server is told is kept.
    pub fn listen(&self) {
        self.state.send_modify(|state| state.is_overheard = true);
    }

    /// What it was told since then, by connection. One that is at hand begins in the middle of nothing: nobody is asked
    /// anything at the moment when a test begins to listen.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.carried.heard().clone()
    }

    /// Lets connections and everything through again.
    pub fn plug(&self) {
        self.state.send_modify(|state| {
            state.is_out = false;
            state.is_deaf = false;
        });
    }
}

/// Ends with the cable.
async fn carry(
    listener: TcpListener,
    server: String,
    mut cable: watch::Receiver<State>,
    carried: Arc<Carried>,
) {
    loop {
        let near = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = cable.wait_for(|_| false) => return,
        };
        let Ok((near, _)) = near else { return };
        let (server, mut state, carried) = (server.clone(), cable.clone(), Arc::clone(&carried));
        let line = carried.one_more();
        tokio::spawn(async move {
            let State { is_out, pulls, .. } = *state.borrow();
            if is_out {
                return;
            }
            let Ok(far) = TcpStream::connect(&server).await else { return };
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            let (told, replies) = (state.clone(), state.clone());
            let hear = |bytes: &[u8]| {
                if told.borrow().is_overheard {
                    carried.heard()[line].extend_from_slice(bytes);
                }
                false
            };
            // TCP never goes on behind something that it has lost.
            let is_broken_off = AtomicBool::new(false);
            let is_lost = |_: &[u8]| {
                let is_lost = is_broken_off.load(Ordering::Relaxed)
                    || replies.borrow().is_deaf
                    || replies.borrow().pulls != pulls;
                carried.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
                is_broken_off.store(is_lost, Ordering::Relaxed);
                is_lost
            };
            // Whichever ends first ends all: the streams close when they are dropped here.
            tokio::select! {
                () = copy(from_near, to_far, hear) => {}
                () = copy(from_far, to_near, is_lost) => {}
                _ = state.wait_for(|state| state.pulls != pulls) => {}
            }
        });
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_lost: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) if is_lost(&buffer[..read]) => {}
            Ok(read) => {
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
