//! Choosing ports on 127.0.0.1: the usual one when it is free, else any other that is.

use anyhow::{Context as _, Result};
use std::net::{Ipv4Addr, TcpListener};

/// Holds every port it gave out until it is dropped, so that two parts never get the same one.
/// Drop it just before the parts start.
#[derive(Debug, Default)]
pub struct Ports {
    held: Vec<TcpListener>,
}

impl Ports {
    /// `usual` 0 means any free port.
    pub fn choose(&mut self, usual: u16) -> Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, usual))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("no free port on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        self.held.push(listener);
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests start processes meanwhile, which hold our sockets for an instant before they are
    /// replaced by their program: what is free is therefore asked for more than once.
    fn at_last(holds: impl Fn() -> bool) -> bool {
        let begun = std::time::Instant::now();
        while begun.elapsed().as_secs() < 60 {
            if holds() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = other.local_addr().unwrap().port();
        let chosen = Ports::default().choose(taken).unwrap();
        assert_ne!(chosen, taken);
        assert!(at_last(|| TcpListener::bind((Ipv4Addr::LOCALHOST, chosen)).is_ok()));
    }

    #[test]
    fn the_usual_port_is_used_when_it_is_free() {
        let free = {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listener.local_addr().unwrap().port()
        };
        assert!(at_last(|| Ports::default().choose(free).unwrap() == free));
    }

    #[test]
    fn two_parts_never_get_the_same_port() {
        let mut ports = Ports::default();
        let first = ports.choose(0).unwrap();
        assert_ne!(ports.choose(first).unwrap(), first);
    }
}
