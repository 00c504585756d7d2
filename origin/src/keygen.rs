//! `farmgate-origin keygen`: makes the shop's own secrets, once. Never overwrites, since a lost data key is lost data;
//! [`crate::rotate`] exchanges those that can be.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use farmgate_shared::edge_auth::hex;
use farmgate_shared::token::PublicKeys;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::users::session::public_key;

/// A fresh Ed25519 key pair.
#[derive(Debug)]
pub struct SigningKey {
    /// PKCS#8.
    pub pem: String,
    pub public: Vec<u8>,
}

/// Makes a key pair for session tokens.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_signing_key() -> anyhow::Result<SigningKey> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("the system gave no randomness"))?;
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let text = BASE64.encode(pkcs8.as_ref());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    Ok(SigningKey { pem, public: pair.public_key().as_ref().to_vec() })
}

const FILES: [&str; 4] = ["jwt.pem", "jwks.json", "origin.env", "edge.env"];

/// Writes `jwt.pem`, `jwks.json`, `origin.env` and `edge.env` into `dir`; where all of them are, they stay.
///
/// # Errors
/// When only some of them are there, or one cannot be written.
pub fn run(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    if FILES.iter().all(|name| dir.join(name).exists()) {
        println!("keys are in {} already and stay as they are", dir.display());
        return Ok(());
    }
    for name in FILES {
        ensure!(
            !dir.join(name).exists(),
            "{} is there already; keys are never overwritten",
            dir.join(name).display()
        );
    }
    let signing = new_signing_key()?;
    let kid = new_kid()?;
    let keys = PublicKeys { keys: vec![public_key(&kid, &signing.public)?] };
    let jwks = serde_json::to_string(&keys)?;
    let edge_key = new_edge_key()?;
    let data_key = format!("data-{}={}", random_hex::<4>()?, random_hex::<32>()?);
    let index_key = random_hex::<32>()?;
    let pem_file = dir.join("jwt.pem");

    write_private(&pem_file, &signing.pem)?;
    write_private(&dir.join("jwks.json"), &format!("{jwks}\n"))?;
    write_private(
        &dir.join("origin.env"),
        &format!(
            "FARMGATE_JWT__KID={kid}\nFARMGATE_JWT__PRIVATE_KEY_FILE={}\nFARMGATE_EDGE__KEYS={edge_key}\n\
             FARMGATE_CRYPTO__DATA_KEYS={data_key}\nFARMGATE_CRYPTO__INDEX_KEY={index_key}\n",
            pem_file.display()
        ),
    )?;
    write_private(&dir.join("edge.env"), &format!("EDGE_KEY={edge_key}\nJWT_JWKS={jwks}\n"))?;
    println!("keys written to {}", dir.display());
    Ok(())
}

/// An id for a signing key.
pub fn new_kid() -> anyhow::Result<String> {
    Ok(format!("jwt-{}", random_hex::<4>()?))
}

/// A key for an edge, `kid=hex`.
pub fn new_edge_key() -> anyhow::Result<String> {
    Ok(format!("edge-{}={}", random_hex::<4>()?, random_hex::<32>()?))
}

fn random_hex<const BYTES: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gave no randomness"))?;
    Ok(hex(&bytes))
}

/// Writes a new file that its owner alone may read.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, gone at its end.
    struct Scratch(std::path::PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn keys_are_made_once_and_are_private() {
        let scratch = Scratch(std::env::temp_dir().join(format!("farmgate-keygen-{}", std::process::id())));
        let dir = scratch.0.as_path();
        run(dir).unwrap();
        let first = fs::read_to_string(dir.join("origin.env")).unwrap();
        run(dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join("origin.env")).unwrap(), first);
        #[cfg(unix)]
        for name in FILES {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&fs::metadata(dir.join(name)).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::remove_file(dir.join("edge.env")).unwrap();
        assert!(run(dir).is_err(), "half a set is never completed with other keys");
    }
}
