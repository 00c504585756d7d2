//! Packages of the machine's own Debian or Ubuntu archive, downloaded with a private apt
//! configuration and unpacked into the cache: no root, and the system is not touched. Programs run
//! through the unpacked dynamic loader, with the unpacked libraries alone. The mirror and its keys
//! are those of the machine's own apt sources, whatever they are.

use super::find_below;
use crate::context::Context;
use crate::process;
use crate::progress::Step;
use anyhow::{Context as _, Result, anyhow, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// The release that this machine runs.
    Own,
    /// Debian's unstable, which alone has MySQL. Only Debian's own keys and mirror know it.
    Unstable,
}

/// A package and all that it depends on, unpacked.
#[derive(Debug)]
pub struct Unpacked {
    pub root: PathBuf,
    loader: PathBuf,
    libraries: OsString,
}

/// One archive of the machine's apt configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    components: Vec<String>,
    /// A keyring's path, or a whole key (deb822 allows that); as written.
    signed_by: Option<String>,
    trusted: bool,
}

/// Fetches and unpacks, unless the cache has it.
pub fn provide(context: &Context, step: &Step, suite: Suite, package: &str) -> Result<Unpacked> {
    let release = Release::read()?;
    let suite = suite.name(&release)?;
    let folder = context.cache.ensure(&entry(suite, package), step, &context.stop, |folder| {
        let source = archive(&machine_sources(), &release.codename)
            .ok_or_else(|| anyhow!("/etc/apt names no archive of {}", release.codename))?;
        fetch(context, step, &source, suite, package, folder)
    })?;
    Unpacked::open(&folder.join("root"))
}

pub fn is_cached(context: &Context, suite: Suite, package: &str) -> bool {
    let cached = |release: Release| context.cache.find(&entry(suite.name(&release).ok()?, package));
    Release::read().ok().and_then(cached).is_some()
}

fn entry(suite: &str, package: &str) -> String {
    format!("debian/{suite}-{package}")
}

impl Suite {
    fn name(self, release: &Release) -> Result<&str> {
        match self {
            Self::Unstable if release.id == "debian" => Ok("unstable"),
            Self::Unstable => bail!("only Debian has an unstable suite"),
            Self::Own => Ok(&release.codename),
        }
    }
}

fn fetch(
    context: &Context,
    step: &Step,
    source: &Source,
    suite: &str,
    package: &str,
    folder: &Path,
) -> Result<()> {
    let apt = folder.join("apt");
    for name in ["state/lists/partial", "cache/archives/partial", "sources.d"] {
        std::fs::create_dir_all(apt.join(name))?;
    }
    std::fs::write(apt.join("status"), "")?;
    std::fs::write(apt.join("sources.d/archive.sources"), source.stanza(suite))?;
    std::fs::write(apt.join("apt.conf"), configuration(&apt, &machine_settings()))?;

    let log = context.cache.log(&format!("apt-{suite}-{package}"))?;
    let apt_get = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y"]).args(args).env("APT_CONFIG", apt.join("apt.conf")).env("LC_ALL", "C");
        process::run(command, &log, step, &context.stop, LIMIT)
    };
    step.detail("reading the package list");
    apt_get(&["update"])?;
    step.detail("downloading packages");
    apt_get(&["install", "--download-only", package])?;

    let root = folder.join("root");
    for entry in std::fs::read_dir(apt.join("cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            let mut command = Command::new("dpkg-deb");
            command.arg("-x").arg(&path).arg(&root);
            process::run(command, &log, step, &context.stop, LIMIT)?;
        }
    }
    std::fs::remove_dir_all(&apt)?;
    Ok(())
}

/// apt's own settings for the network (proxies, retries, dates) stay; hooks and folders do not.
fn machine_settings() -> String {
    let output = Command::new("apt-config").args(["dump", "--no-empty"]).output();
    let dump = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    dump.lines().filter(|line| line.starts_with("Acquire::")).map(|line| format!("{line}\n")).collect()
}

fn configuration(apt: &Path, machine_settings: &str) -> String {
    let apt = apt.display();
    format!(
        r#"{machine_settings}
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{apt}/sources.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{apt}/state";
Dir::State::lists "{apt}/state/lists";
Dir::State::status "{apt}/status";
Dir::State::extended_states "{apt}/extended_states";
Dir::Cache "{apt}/cache";
Dir::Cache::archives "{apt}/cache/archives";
Dir::Log "{apt}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
"#
    )
}

#[derive(Debug, PartialEq, Eq)]
struct Release {
    id: String,
    codename: String,
}

impl Release {
    fn read() -> Result<Self> {
        for tool in ["apt-get", "dpkg-deb"] {
            if super::on_machine(&[tool]).is_empty() {
                bail!("this machine has no {tool}");
            }
        }
        let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        Self::parse(&text).ok_or_else(|| anyhow!("/etc/os-release names no release"))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim().trim_matches('"').to_owned())
        };
        Some(Self {
            id: value("ID")?,
            codename: value("VERSION_CODENAME").or_else(|| value("UBUNTU_CODENAME"))?,
        })
    }
}

fn machine_sources() -> Vec<Source> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.sort();
        paths.extend(more);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match path.extension().and_then(|e| e.to_str()) {
            Some("list") => parse_list(&text),
            Some("sources") => parse_deb822(&text),
            _ => Vec::new(),
        }
    };
    paths.into_iter().flat_map(read).collect()
}

/// The distribution's main archive among the machine's sources: not its security or updates
/// suites, and not some vendor's.
fn archive(sources: &[Source], codename: &str) -> Option<Source> {
    let is_archive = |source: &&Source| {
        let names = [codename, "stable", "testing", "unstable", "sid"];
        names.contains(&source.suite.as_str()) && source.components.iter().any(|c| c == "main")
    };
    let exact = sources.iter().find(|source| is_archive(source) && source.suite == codename);
    exact.or_else(|| sources.iter().find(is_archive)).cloned()
}

/// `deb [signed-by=… arch=…] uri suite component…`, a line each.
fn parse_list(text: &str) -> Vec<Source> {
    let parse = |line: &str| {
        let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let option = |name: &str| {
            options
                .split_whitespace()
                .find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(Source {
            uri: words.next()?,
            suite: words.next()?,
            components: words.collect(),
            signed_by: option("signed-by"),
            trusted: option("trusted").is_some_and(|v| v == "yes"),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Stanzas of `Field: value`, values continued by indented lines; one source a suite.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in plain.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza {
            match (line.starts_with([' ', '\t']), line.split_once(':')) {
                (true, _) => {
                    if let Some((_, value)) = fields.last_mut() {
                        value.push('\n');
                        value.push_str(line);
                    }
                }
                (false, Some((name, value))) => {
                    fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
                (false, None) => {}
            }
        }
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let words = |name: &str| -> Vec<String> {
            field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let disabled = field("enabled").is_some_and(|v| v.eq_ignore_ascii_case("no"));
        let Some(uri) = words("uris").into_iter().next() else { continue };
        if disabled || !words("types").iter().any(|t| t == "deb") {
            continue;
        }
        sources.extend(words("suites").into_iter().map(|suite| Source {
            uri: uri.clone(),
            suite,
            components: words("components"),
            signed_by: field("signed-by"),
            trusted: field("trusted").is_some_and(|v| v.eq_ignore_ascii_case("yes")),
        }));
    }
    sources
}

impl Source {
    /// The same archive and keys with another suite. Ubuntu keeps servers in main and universe.
    fn stanza(&self, suite: &str) -> String {
        let components =
            if self.components.iter().any(|c| c == "universe") { "main universe" } else { "main" };
        let mut text = format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: {components}\n", self.uri);
        if let Some(key) = &self.signed_by {
            text.push_str(&format!("Signed-By: {key}\n"));
        }
        if self.trusted {
            text.push_str("Trusted: yes\n");
        }
        text
    }
}

impl Unpacked {
    fn open(root: &Path) -> Result<Self> {
        let is_loader = |path: &Path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            path.is_file() && name.starts_with("ld-linux") && name.contains(".so.")
        };
        let loader = find_below(root, 4, &is_loader)
            .ok_or_else(|| anyhow!("{} holds no dynamic loader", root.display()))?;
        let mut folders = Vec::new();
        library_folders(root, 5, &mut folders);
        Ok(Self { root: root.to_owned(), loader, libraries: std::env::join_paths(folders)? })
    }

    /// What to put in front of a program's arguments to run it.
    pub fn launcher(&self, program: &str) -> Result<Vec<OsString>> {
        let path = ["usr/sbin", "usr/bin", "sbin", "bin"].map(|folder| self.root.join(folder).join(program));
        let path = path.into_iter().find(|path| path.is_file());
        let path = path.ok_or_else(|| anyhow!("{} holds no {program}", self.root.display()))?;
        let loader = self.loader.clone().into_os_string();
        Ok(vec![loader, "--library-path".into(), self.libraries.clone(), path.into_os_string()])
    }
}

fn library_folders(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("lib") && (name.ends_with(".so") || name.contains(".so."))
    };
    if entries.iter().any(is_library) {
        found.push(folder.to_owned());
    }
    for path in entries.iter().filter(|path| depth > 0 && path.is_dir() && !path.is_symlink()) {
        library_folders(path, depth - 1, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a comment inside a stanza
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://vendor.example/node
Suites: nodistro
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
";

    #[test]
    fn deb822_sources_are_read() {
        let sources = parse_deb822(DEB822);
        let suites: Vec<&str> = sources.iter().map(|s| s.suite.as_str()).collect();
        assert_eq!(suites, ["bookworm", "bookworm-updates", "nodistro"]);
        assert_eq!(sources[0].uri, "http://mirror.example/debian");
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[0].signed_by.as_deref(), Some("/usr/share/keyrings/archive.gpg"));
        assert!(sources[2].stanza("unstable").contains("\n abc\n -----END PGP"));
    }

    #[test]
    fn list_lines_are_read() {
        let text = "\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # why
deb-src http://mirror.example/debian bookworm main
deb\thttp://other.example/debian\ttrixie main universe
debris http://x y z
";
        let sources = parse_list(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].signed_by.as_deref(), Some("/k.gpg"));
        assert_eq!(sources[0].components, ["main"]);
        assert_eq!(sources[1].suite, "trixie");
        assert!(sources[1].stanza("trixie").contains("Components: main universe\n"));
    }

    #[test]
    fn the_archive_is_the_release_itself_not_its_updates_nor_a_vendor() {
        let security = parse_list("deb http://security.example/debian bookworm-security main");
        let vendor = parse_list("deb http://vendor.example/x nodistro main");
        let own = parse_deb822(DEB822);
        let all: Vec<Source> = [security.clone(), vendor.clone(), own].concat();
        assert_eq!(archive(&all, "bookworm").unwrap().uri, "http://mirror.example/debian");
        assert_eq!(archive(&[security, vendor].concat(), "bookworm"), None);
        let stable = parse_list("deb http://mirror.example/debian stable main");
        assert!(archive(&stable, "bookworm").is_some());
    }

    #[test]
    fn the_unstable_stanza_keeps_mirror_and_keys() {
        let source =
            &parse_list("deb [signed-by=/k.gpg trusted=yes] http://m.example/debian bookworm main")[0];
        assert_eq!(
            source.stanza("unstable"),
            "Types: deb\nURIs: http://m.example/debian\nSuites: unstable\nComponents: main\nSigned-By: /k.gpg\nTrusted: yes\n"
        );
    }

    #[test]
    fn the_release_is_read() {
        let text =
            "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let expected = Release { id: "debian".to_owned(), codename: "bookworm".to_owned() };
        assert_eq!(Release::parse(text), Some(expected));
    }
}
