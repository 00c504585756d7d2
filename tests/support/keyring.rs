//! A shop's keys of a test's own, made and rotated as an operator does it.

use std::process::Command;

use farmgate_shared::edge_auth::EdgeKey;

use crate::env;
use crate::process;
use crate::shop::Folder;

/// What `farmgate-origin keygen` wrote, and `rotate` changes.
#[derive(Debug)]
pub struct Keyring {
    folder: Folder,
}

impl Keyring {
    pub async fn make() -> Keyring {
        let keyring = Keyring { folder: Folder::create() };
        let (is_success, said) = keyring.run("keygen", &[]).await;
        assert!(is_success, "{said}");
        keyring
    }

    /// One step of a rotation: whether it was done, and what was said.
    pub async fn rotate(&self, step: &[&str]) -> (bool, String) {
        self.run("rotate", step).await
    }

    async fn run(&self, verb: &str, more: &[&str]) -> (bool, String) {
        let mut command = Command::new(env::origin_binary());
        command.arg(verb).arg("--dir").arg(&self.folder.path).args(more);
        process::try_run(&mut command, &[]).await
    }

    /// The origin's settings.
    pub fn origin(&self) -> Vec<(String, String)> {
        env::read_settings(&self.folder.path.join("origin.env"))
    }

    /// The edge's variables.
    pub fn edge(&self) -> Vec<(String, String)> {
        env::read_settings(&self.folder.path.join("edge.env"))
    }

    /// The key that the edge signs with.
    pub fn edge_key(&self) -> EdgeKey {
        let key = env::read_setting(&self.folder.path.join("edge.env"), "EDGE_KEY");
        EdgeKey::parse(&key).expect("EDGE_KEY is kid=hex")
    }
}
