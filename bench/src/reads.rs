//! The load of reads: a fixed number of connections, each asking again as soon as it was answered. Promises that whoever
//! is compared is asked the same way, and that an answer counts only with status 200 and the length that was agreed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::contest::{Slice, in_turns};
use crate::http::Connection;
use crate::procs::{Processes, cpu_between};
use crate::sign::Signer;
use crate::stats::{milliseconds, percentile};

/// What is asked.
#[derive(Debug)]
pub enum Requests {
    /// These bytes, one after the other, again and again.
    Prepared(Vec<Vec<u8>>),
    /// These paths in the same way, each call signed anew.
    Signed(Signer, Vec<String>),
}

impl Requests {
    fn write(&self, out: &mut Vec<u8>, number: usize) {
        out.clear();
        match self {
            Requests::Prepared(all) => {
                out.extend_from_slice(all.get(number % all.len().max(1)).map_or(&[][..], Vec::as_slice));
            }
            Requests::Signed(signer, paths) => {
                let path = paths.get(number % paths.len().max(1)).map_or("/", String::as_str);
                out.extend_from_slice(&signed(signer, path));
            }
        }
    }
}

/// `GET <path>` without any signature, with these further header lines.
#[must_use]
pub fn plain(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{lines}\r\n").into_bytes()
}

/// The same, signed as the edge does it for its cache: as nobody.
#[must_use]
pub fn signed(signer: &Signer, path: &str) -> Vec<u8> {
    let lines = signer.headers("GET", path, b"", None);
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\n{lines}\r\n").into_bytes()
}

/// One contestant with one kind of read.
#[derive(Debug, Clone)]
pub struct Reads {
    /// `<load> <contestant>`, as it stands in the report.
    pub name: &'static str,
    pub address: SocketAddr,
    pub requests: Arc<Requests>,
    /// Of each answer's body, in bytes; `None` where answers differ.
    pub length: Option<usize>,
    pub connections: usize,
    next: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Tally {
    answered: u64,
    in_time: u64,
    took_us: Vec<u32>,
    failed: BTreeMap<String, u64>,
}

impl Reads {
    #[must_use]
    pub fn new(
        name: &'static str,
        address: SocketAddr,
        requests: Requests,
        length: Option<usize>,
        connections: usize,
    ) -> Reads {
        let next = Arc::new(AtomicUsize::new(0));
        Reads { name, address, requests: Arc::new(requests), length, connections, next }
    }

    /// Asks for `time`, and says what it cost every process meanwhile.
    ///
    /// # Errors
    /// When a server is gone.
    pub async fn slice(&self, time: Duration, processes: &Processes) -> Result<Slice> {
        let before = processes.read()?;
        let tally = self.run(time).await?;
        let after = processes.read()?;
        let each = |whole: f64| (tally.answered > 0).then(|| whole / tally.answered as f64);
        let cpu = cpu_between(&before, &after).into_iter();
        Ok(Slice {
            per_second: tally.in_time as f64 / time.as_secs_f64(),
            p50_ms: percentile(&tally.took_us, 50).map(milliseconds),
            p99_ms: percentile(&tally.took_us, 99).map(milliseconds),
            cpu_us: cpu.filter_map(|(name, seconds)| Some((name, each(seconds * 1e6)?))).collect(),
            counted: tally.answered,
            failed: tally.failed,
            rss_mib: after.iter().map(|(name, usage)| (name.clone(), usage.rss_mib)).collect(),
            ..Slice::default()
        })
    }

    async fn run(&self, time: Duration) -> Result<Tally> {
        let mut open = Vec::new();
        for _ in 0..self.connections {
            open.push(Connection::open(self.address).await?);
        }
        let end = Instant::now() + time;
        let mut askers = JoinSet::new();
        for connection in open {
            let reads = self.clone();
            askers.spawn(async move { reads.keep_asking(connection, end).await });
        }
        let mut whole = Tally::default();
        while let Some(part) = askers.join_next().await {
            let part = part?;
            whole.answered += part.answered;
            whole.in_time += part.in_time;
            whole.took_us.extend(part.took_us);
            for (said, times) in part.failed {
                *whole.failed.entry(said).or_default() += times;
            }
        }
        whole.took_us.sort_unstable();
        Ok(whole)
    }

    async fn keep_asking(&self, mut connection: Connection, end: Instant) -> Tally {
        let mut tally = Tally::default();
        let mut request = Vec::with_capacity(1024);
        while Instant::now() < end {
            self.requests.write(&mut request, self.next.fetch_add(1, Ordering::Relaxed));
            let sent = Instant::now();
            let outcome = match connection.send(&request).await {
                Ok(reply) if reply.status != 200 => Err((format!("status {}", reply.status), false)),
                Ok(reply) if self.length.is_some_and(|length| length != reply.body.len()) => {
                    Err((format!("a body of {} bytes", reply.body.len()), false))
                }
                Ok(_) => Ok(()),
                Err(error) => Err((error.to_string(), true)),
            };
            let answered = Instant::now();
            match outcome {
                Ok(()) => {
                    tally.answered += 1;
                    tally.in_time += u64::from(answered <= end);
                    let took = u32::try_from((answered - sent).as_micros()).unwrap_or(u32::MAX);
                    tally.took_us.push(took);
                }
                Err((said, is_broken)) => {
                    *tally.failed.entry(said).or_default() += 1;
                    if is_broken {
                        match Connection::open(self.address).await {
                            Ok(new) => connection = new,
                            Err(_) => break,
                        }
                    }
                }
            }
        }
        tally
    }
}

/// Every contestant in turn, round after round, each round beginning with another one, after a warm-up of all. Progress
/// goes to stderr.
///
/// # Errors
/// When a server is gone.
pub async fn rounds(
    contests: &[Reads],
    (warm_up, time, rounds): (Duration, Duration, usize),
    processes: &Processes,
) -> Result<BTreeMap<String, Vec<Slice>>> {
    for contest in contests {
        eprintln!("warming up: {}", contest.name);
        contest.slice(warm_up, processes).await.context(contest.name)?;
    }
    let slice = async |contest: &Reads| contest.slice(time, processes).await;
    in_turns(contests, rounds, |contest| contest.name, slice).await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every request of any connection with the next of these, over and over.
    async fn server(replies: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut bytes = [0; 2048];
                    for reply in replies.iter().cycle() {
                        if !matches!(stream.read(&mut bytes).await, Ok(1..)) {
                            return;
                        }
                        let head = format!("HTTP/1.1 {reply}");
                        if stream.write_all(head.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn only_whole_answers_of_the_agreed_length_are_counted() {
        let address = server(&[
            "200 OK\r\ncontent-length: 2\r\n\r\nok",
            "200 OK\r\ncontent-length: 3\r\n\r\nbig",
            "503 Away\r\ncontent-length: 2\r\n\r\nno",
        ])
        .await;
        let requests = Requests::Prepared(vec![plain("/", &[])]);
        let reads = Reads::new("x", address, requests, Some(2), 1);
        let processes = Processes::new(BTreeMap::from([("me".to_owned(), std::process::id())])).unwrap();
        let (slice, long, away) = loop {
            let slice = reads.slice(Duration::from_millis(200), &processes).await.unwrap();
            let failed = |why: &str| slice.failed.get(why).copied();
            // On a machine that stands still, a slice may end before the server has said all three.
            if let (Some(long), Some(away)) = (failed("a body of 3 bytes"), failed("status 503")) {
                break (slice, long, away);
            }
        };
        assert!(slice.counted >= 1 && long + 1 >= slice.counted && away + 1 >= long, "{slice:?}");
        assert!(slice.cpu_us.contains_key("me") && slice.p50_ms.is_some());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error() {
        let requests = Requests::Prepared(vec![plain("/", &[])]);
        let reads = Reads::new("x", "127.0.0.1:1".parse().unwrap(), requests, None, 1);
        let processes = Processes::new(BTreeMap::new()).unwrap();
        assert!(rounds(&[reads], (Duration::ZERO, Duration::ZERO, 1), &processes).await.is_err());
    }

    #[test]
    fn prepared_requests_take_turns() {
        let requests = Requests::Prepared(vec![b"a".to_vec(), b"b".to_vec()]);
        let mut out = Vec::new();
        let written: Vec<Vec<u8>> = (0..3)
            .map(|number| {
                requests.write(&mut out, number);
                out.clone()
            })
            .collect();
        assert_eq!(written, [b"a", b"b", b"a"]);
    }
}
