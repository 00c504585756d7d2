//! `farmgate-origin rotate`: exchanges the key that signs tokens and the key of the edge in the files that `keygen` wrote.
//! Promises that a shop whose origins and edges are restarted with the new files after each step, in any order, refuses
//! no good token and no edge: what is new is known everywhere before it is used, and what is old is good until nothing
//! of it is left. A step that was cut off can be given again.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use farmgate_shared::token::{LEEWAY_SECONDS, PublicKey, PublicKeys};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::clock::{Clock, shanghai_rfc3339};
use crate::keygen::{new_edge_key, new_kid, new_signing_key, write_private};
use crate::users::session::public_key;

/// Where a rotation stands; there while one is under way.
const STATE: &str = "rotation.json";
const KID: &str = "FARMGATE_JWT__KID";
const PRIVATE_KEY_FILE: &str = "FARMGATE_JWT__PRIVATE_KEY_FILE";
const PUBLIC_KEYS_FILE: &str = "FARMGATE_JWT__PUBLIC_KEYS_FILE";
const EDGE_KEYS: &str = "FARMGATE_EDGE__KEYS";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum RotateStep {
    /// 1: makes new keys. Both are accepted from now on, the old ones still sign.
    Add,
    /// 2: the new keys sign, both are accepted.
    Switch,
    /// 3: only the new keys are accepted. Refused while tokens of the old key may live.
    Drop {
        /// Ends the sessions of the old key at once: for a key that somebody else may have.
        #[arg(long)]
        now: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Rotation {
    /// The new keys sign since then, in seconds since 1970; absent before step 2.
    signing_since: Option<u64>,
    old: Keys,
    new: Keys,
}

/// The keys of one generation.
#[derive(Debug, Serialize, Deserialize)]
struct Keys {
    private_key_file: String,
    public: PublicKey,
    /// `kid=hex`.
    edge: String,
}

/// Does one step in `dir`, and says what to do next.
///
/// # Errors
/// When it is not this step's turn, or a file cannot be read or written.
pub fn run(dir: &Path, step: RotateStep, ttl_seconds: u64, clock: &dyn Clock) -> anyhow::Result<()> {
    let dir = dir.canonicalize().with_context(|| format!("there is no {}", dir.display()))?;
    let state = dir.join(STATE);
    let under_way: Option<Rotation> = if state.exists() {
        Some(serde_json::from_str(&read(&state)?).with_context(|| format!("reading {}", state.display()))?)
    } else {
        None
    };
    match (step, under_way) {
        (RotateStep::Add, None) => {
            let rotation = begin(&dir)?;
            store(&dir, &rotation)?;
            println!("{} and an edge's key were added to {}", rotation.new.public.kid, dir.display());
        }
        (RotateStep::Add, Some(rotation)) => {
            ensure!(rotation.signing_since.is_none(), "the last rotation is not over: `drop` ends it");
            store(&dir, &rotation)?;
            println!("{} was added before; all files are written again", rotation.new.public.kid);
        }
        (RotateStep::Switch, Some(mut rotation)) => {
            rotation.signing_since.get_or_insert(clock.unix_seconds());
            store(&dir, &rotation)?;
            println!("{} signs from the next start on", rotation.new.public.kid);
        }
        (RotateStep::Drop { now }, Some(rotation)) => {
            let since =
                rotation.signing_since.context("the new key does not sign yet: `switch` comes first")?;
            let ended = since + ttl_seconds + LEEWAY_SECONDS;
            if clock.unix_seconds() < ended && !now {
                bail!(
                    "sessions of {} may live until {}; `drop --now` ends them",
                    rotation.old.public.kid,
                    shown(ended)
                );
            }
            finish(&dir, &rotation)?;
            println!("{} is accepted no more from the next start on", rotation.old.public.kid);
        }
        (RotateStep::Switch | RotateStep::Drop { .. }, None) => {
            bail!("no rotation is under way in {}: `add` begins one", dir.display())
        }
    }
    println!("next: restart every origin with origin.env and every edge with edge.env");
    Ok(())
}

/// Makes the new keys. Nothing refers to them until the state is stored.
fn begin(dir: &Path) -> anyhow::Result<Rotation> {
    let origin = read(&dir.join("origin.env"))?;
    let setting = |name: &str| line(&origin, name).with_context(|| format!("origin.env has no {name}"));
    let old_kid = setting(KID)?;
    let published: PublicKeys = serde_json::from_str(&read(&dir.join("jwks.json"))?).context("jwks.json")?;
    let public = published.keys.into_iter().find(|key| key.kid == old_kid);
    let edge = setting(EDGE_KEYS)?;
    ensure!(!edge.contains(','), "origin.env has several {EDGE_KEYS} already: leave the one that signs");
    let old = Keys {
        private_key_file: setting(PRIVATE_KEY_FILE)?.to_owned(),
        public: public.with_context(|| format!("jwks.json has no {old_kid}"))?,
        edge: edge.to_owned(),
    };
    let (signing, kid) = (new_signing_key()?, new_kid()?);
    let file = dir.join(format!("{kid}.pem"));
    write_private(&file, &signing.pem)?;
    let new = Keys {
        private_key_file: file.display().to_string(),
        public: public_key(&kid, &signing.public)?,
        edge: new_edge_key()?,
    };
    Ok(Rotation { signing_since: None, old, new })
}

/// Writes the state and the files that follow from it.
fn store(dir: &Path, rotation: &Rotation) -> anyhow::Result<()> {
    replace(&dir.join(STATE), &serde_json::to_string_pretty(rotation)?)?;
    let (first, second) = match rotation.signing_since {
        None => (&rotation.old, &rotation.new),
        Some(_) => (&rotation.new, &rotation.old),
    };
    write_files(dir, first, Some(second))
}

/// Leaves the new keys alone. The state goes last, so that a step that was cut off can be given again.
fn finish(dir: &Path, rotation: &Rotation) -> anyhow::Result<()> {
    write_files(dir, &rotation.new, None)?;
    let old = Path::new(&rotation.old.private_key_file);
    if old.exists() {
        fs::remove_file(old).with_context(|| format!("removing {}", old.display()))?;
    }
    fs::remove_file(dir.join(STATE)).context("removing the rotation's state")
}

/// `signs` signs, `other` is accepted too.
fn write_files(dir: &Path, signs: &Keys, other: Option<&Keys>) -> anyhow::Result<()> {
    let generations = || std::iter::once(signs).chain(other);
    let public = PublicKeys { keys: generations().map(|keys| keys.public.clone()).collect() };
    let jwks = serde_json::to_string(&public)?;
    let edge_keys: Vec<&str> = generations().map(|keys| keys.edge.as_str()).collect();
    let jwks_file = dir.join("jwks.json");
    replace(&jwks_file, &format!("{jwks}\n"))?;
    let mut origin = read(&dir.join("origin.env"))?;
    for (name, value) in [
        (KID, &signs.public.kid),
        (PRIVATE_KEY_FILE, &signs.private_key_file),
        (PUBLIC_KEYS_FILE, &jwks_file.display().to_string()),
        (EDGE_KEYS, &edge_keys.join(",")),
    ] {
        origin = with_line(&origin, name, value);
    }
    replace(&dir.join("origin.env"), &origin)?;
    let edge = read(&dir.join("edge.env"))?;
    let edge = with_line(&with_line(&edge, "EDGE_KEY", &signs.edge), "JWT_JWKS", &jwks);
    replace(&dir.join("edge.env"), &edge)
}

/// The value in a file of `NAME=value` lines.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// The file with this line instead of the one of the same name, or with one more; what an operator wrote stays.
fn with_line(text: &str, name: &str, value: &str) -> String {
    let is_it = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
    let (mut lines, mut is_there) = (Vec::new(), false);
    for line in text.lines() {
        if is_it(line) {
            is_there = true;
            lines.push(format!("{name}={value}"));
        } else {
            lines.push(line.to_owned());
        }
    }
    if !is_there {
        lines.push(format!("{name}={value}"));
    }
    lines.join("\n") + "\n"
}

/// Puts a whole file in the place of the one that was there, or leaves that one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let aside = path.with_extension("new");
    if aside.exists() {
        fs::remove_file(&aside)?;
    }
    write_private(&aside, text)?;
    fs::rename(&aside, path).with_context(|| format!("writing {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn shown(second: u64) -> String {
    let moment =
        i64::try_from(second).ok().and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok());
    moment.map_or_else(|| second.to_string(), shanghai_rfc3339)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::keygen;

    const TTL: u64 = 3600;

    /// A folder of one test's own, gone at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("farmgate-rotate-{name}-{}", std::process::id()));
            keygen::run(&dir).unwrap();
            Scratch(dir)
        }

        fn step(&self, step: RotateStep, now: i64) -> anyhow::Result<()> {
            run(&self.0, step, TTL, &At(now))
        }

        fn value(&self, file: &str, name: &str) -> String {
            line(&read(&self.0.join(file)).unwrap(), name).unwrap().to_owned()
        }

        /// Signing kid; kids that origin and edge accept; the edge's key and those that the origin accepts.
        fn keys(&self) -> (String, Vec<String>, String, String) {
            let set: PublicKeys = serde_json::from_str(&self.value("edge.env", "JWT_JWKS")).unwrap();
            let published: PublicKeys =
                serde_json::from_str(&read(&self.0.join("jwks.json")).unwrap()).unwrap();
            assert_eq!(set, published);
            let kids = set.keys.into_iter().map(|key| key.kid).collect();
            let kid = self.value("origin.env", KID);
            (kid, kids, self.value("edge.env", "EDGE_KEY"), self.value("origin.env", EDGE_KEYS))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[derive(Debug)]
    struct At(i64);

    impl Clock for At {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::from_unix_timestamp(self.0).unwrap()
        }
    }

    const DROP: RotateStep = RotateStep::Drop { now: false };

    #[test]
    fn what_is_new_is_known_before_it_is_used_and_what_is_old_until_nothing_of_it_is_left() {
        let shop = Scratch::new("steps");
        let (old, _, old_edge, _) = shop.keys();
        let data_keys = shop.value("origin.env", "FARMGATE_CRYPTO__DATA_KEYS");

        shop.step(RotateStep::Add, 1000).unwrap();
        let (kid, kids, edge, edges) = shop.keys();
        assert_eq!((&kid, kids.len(), &edge), (&old, 2, &old_edge));
        let new_edge = edges.strip_prefix(&format!("{old_edge},")).unwrap().to_owned();
        let new = kids[1].clone();

        shop.step(RotateStep::Switch, 2000).unwrap();
        let both = (new.clone(), vec![new.clone(), old], new_edge.clone(), format!("{new_edge},{old_edge}"));
        assert_eq!(shop.keys(), both);

        let early = i64::try_from(2000 + TTL + LEEWAY_SECONDS - 1).unwrap();
        assert!(shop.step(DROP, early).is_err(), "a session of the old key may live");
        assert_eq!(shop.keys(), both);
        shop.step(DROP, early + 1).unwrap();
        assert_eq!(shop.keys(), (new.clone(), vec![new], new_edge.clone(), new_edge));
        assert!(!shop.0.join("jwt.pem").exists() && !shop.0.join(STATE).exists());
        assert_eq!(shop.value("origin.env", "FARMGATE_CRYPTO__DATA_KEYS"), data_keys);
        #[cfg(unix)]
        for entry in fs::read_dir(&shop.0).unwrap() {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&entry.unwrap().metadata().unwrap().permissions());
            assert_eq!(mode & 0o077, 0);
        }
        shop.step(RotateStep::Add, 9000).unwrap();
    }

    #[test]
    fn a_step_out_of_turn_changes_nothing_and_one_given_twice_is_one() {
        let shop = Scratch::new("turns");
        let before = shop.keys();
        assert!(shop.step(RotateStep::Switch, 0).is_err() && shop.step(DROP, 0).is_err());
        assert_eq!(shop.keys(), before);
        shop.step(RotateStep::Add, 0).unwrap();
        let added = shop.keys();
        assert!(shop.step(RotateStep::Drop { now: true }, 0).is_err(), "nobody signs with the new key yet");
        // Cut off after the state was written: the files are of the step before.
        replace(&shop.0.join("edge.env"), &format!("EDGE_KEY={}\nJWT_JWKS=x\n", before.2)).unwrap();
        shop.step(RotateStep::Add, 1).unwrap();
        assert_eq!(shop.keys(), added);
        shop.step(RotateStep::Switch, 5).unwrap();
        shop.step(RotateStep::Switch, 9).unwrap();
        assert!(shop.step(RotateStep::Add, 9).is_err());
        let state: Rotation = serde_json::from_str(&read(&shop.0.join(STATE)).unwrap()).unwrap();
        assert_eq!(state.signing_since, Some(5));
        shop.step(RotateStep::Drop { now: true }, 9).unwrap();
    }
}
