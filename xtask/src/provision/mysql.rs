//! A MySQL for the shop: the one whose URL is given, else a private server with its own data
//! folder: from the machine, from Debian's packages, from Docker. A private server listens on
//! 127.0.0.1 alone; its one account is root without a password.

use super::debian::{self, Suite};
use super::{docker, find_below, on_machine, texts};
use crate::cache::copy_dir;
use crate::context::Context;
use crate::process::{self, Process, first_line};
use crate::progress::Step;
use crate::{net, run_file};
use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub const DATABASE: &str = "farmgate";
const DOCKER_IMAGE: &str = "mysql:8.4";
const INIT_LIMIT: Duration = Duration::from_secs(5 * 60);
const START_LIMIT: Duration = Duration::from_secs(120);
/// Docker may have to fetch the image first.
const DOCKER_LIMIT: Duration = Duration::from_secs(15 * 60);
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub enum MysqlServer {
    /// Somebody else's, at this URL; the database it names must exist.
    Given(String),
    Local(LocalMysql),
    Docker,
}

#[derive(Debug)]
pub struct LocalMysql {
    version: Version,
    /// What stands before the server's arguments.
    launcher: Vec<OsString>,
    basedir: PathBuf,
    /// Folders that the server cannot find by itself once it was moved.
    moved: Vec<String>,
    /// A freshly initialised data folder, to be copied.
    template: PathBuf,
}

/// How to start a server of one's own: `words` and then `--datadir`, `--port` and `--init-file`, in the data folder.
#[derive(Debug, Serialize)]
pub struct Recipe {
    /// The program and its fixed arguments.
    words: Vec<String>,
    /// A data folder to copy.
    template: PathBuf,
    /// The init file's content.
    init_sql: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    Mysql,
    Mariadb,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    flavor: Flavor,
    number: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production: a commit survives the machine.
    Full,
    /// For tests, whose data nobody wants after a crash: commits skip the disk's flush, which would
    /// otherwise be most of their time.
    Relaxed,
}

pub fn provide(context: &Context) -> Result<MysqlServer> {
    let step = context.progress.step("MySQL");
    if let Some(url) = given_url() {
        net::authority(&url, 3306).context("FARMGATE_MYSQL_URL")?;
        step.done("the server of FARMGATE_MYSQL_URL");
        return Ok(MysqlServer::Given(url));
    }
    let mut tried = Vec::new();
    if let Some((server, place)) = find_local(context, &step, &mut tried)? {
        return Ok(server.found(step, &place));
    }
    match docker::answers(context, &step) {
        Ok(()) => {
            step.done(format!("Docker, image {DOCKER_IMAGE}"));
            return Ok(MysqlServer::Docker);
        }
        Err(error) => tried.push(format!("{error:#}")),
    }
    let log = context.log("mysql-search")?;
    std::fs::write(&log, tried.join("\n\n"))?;
    bail!(
        "no MySQL: install MySQL 8.0 or later (or MariaDB 10.6 or later), or start Docker, or set FARMGATE_MYSQL_URL (what was tried: {})",
        log.display()
    )
}

/// A server that this machine can run, and where it was found; what did not work is added to `tried`.
fn find_local(
    context: &Context,
    step: &Step,
    tried: &mut Vec<String>,
) -> Result<Option<(LocalMysql, String)>> {
    for path in on_machine(&["mysqld", "mariadbd"]) {
        match machine_server(context, step, &path) {
            Ok(server) => return Ok(Some((server, path.display().to_string()))),
            Err(error) => tried.push(format!("{}: {error:#}", path.display())),
        }
        context.stop.check()?;
    }
    let mut packages = [
        (Suite::Unstable, "mysql-server-core"),
        (Suite::Own, "mysql-server-core-8.4"),
        (Suite::Own, "mysql-server-core-8.0"),
        (Suite::Own, "mariadb-server-core"),
    ];
    // What was fetched once is stayed with: it also wrote the data.
    packages.sort_by_key(|(suite, package)| !debian::is_cached(context, *suite, package));
    for (suite, package) in packages {
        match packaged_server(context, step, suite, package) {
            Ok(server) => return Ok(Some((server, "packages in the cache".to_owned()))),
            Err(error) => tried.push(format!("{package}: {error:#}")),
        }
        context.stop.check()?;
    }
    Ok(None)
}

/// A server that tests may kill, beside one that is not ours to kill.
pub fn provide_local(context: &Context) -> Result<LocalMysql> {
    let step = context.progress.step("MySQL for the crash tests");
    let mut tried = Vec::new();
    match find_local(context, &step, &mut tried)? {
        Some((server, place)) => {
            step.done(format!("{} from {place}", server.version.name()));
            Ok(server)
        }
        None => bail!("install MySQL 8.0 or later (or MariaDB 10.6 or later) on this machine"),
    }
}

pub fn given_url() -> Option<String> {
    std::env::var("FARMGATE_MYSQL_URL").ok().filter(|url| !url.is_empty())
}

fn machine_server(context: &Context, step: &Step, path: &Path) -> Result<LocalMysql> {
    let path = path.canonicalize()?;
    let basedir = path.parent().and_then(Path::parent).ok_or_else(|| anyhow!("an odd place"))?;
    LocalMysql::prepare(context, step, vec![path.clone().into_os_string()], basedir, Vec::new())
}

fn packaged_server(context: &Context, step: &Step, suite: Suite, package: &str) -> Result<LocalMysql> {
    let unpacked = debian::provide(context, step, suite, package)?;
    let program = if package.starts_with("mariadb") { "mariadbd" } else { "mysqld" };
    let launcher = unpacked.launcher(program)?;
    let share = unpacked.root.join("usr/share");
    let is_messages = |path: &Path| path.ends_with("english/errmsg.sys");
    let messages = find_below(&share, 2, &is_messages);
    let messages = messages.as_deref().and_then(Path::parent).and_then(Path::parent);
    let messages = messages.ok_or_else(|| anyhow!("{package} holds no messages"))?;
    let mut moved = vec![format!("--lc-messages-dir={}", messages.display())];
    if let Some(index) = find_below(&share, 2, &|path| path.ends_with("charsets/Index.xml")) {
        let charsets = index.parent().unwrap_or(&index);
        moved.push(format!("--character-sets-dir={}", charsets.display()));
    }
    LocalMysql::prepare(context, step, launcher, &unpacked.root.join("usr"), moved)
}

impl LocalMysql {
    fn prepare(
        context: &Context,
        step: &Step,
        launcher: Vec<OsString>,
        basedir: &Path,
        moved: Vec<String>,
    ) -> Result<Self> {
        let mut command = launch(&launcher);
        command.arg("--version");
        let line = first_line(command).ok_or_else(|| anyhow!("it does not run"))?;
        let version = Version::parse(&line).ok_or_else(|| anyhow!("not understood: {line}"))?;
        version.check()?;
        let mut server =
            Self { version, launcher, basedir: basedir.to_owned(), moved, template: PathBuf::new() };
        let entry = format!("mysql-data/{}", server.version.name());
        server.template = context.cache.ensure(&entry, step, &context.stop, |folder| {
            step.detail("initialising a data folder");
            let log = context.cache.log(&format!("init-{}", server.version.name()))?;
            server.initialise(context, step, &folder.join("data"), &log)
        })?;
        Ok(server)
    }

    fn found(self, step: Step, place: &str) -> MysqlServer {
        step.done(format!("{} from {place}", self.version.name()));
        MysqlServer::Local(self)
    }

    fn initialise(&self, context: &Context, step: &Step, data: &Path, log: &Path) -> Result<()> {
        std::fs::create_dir(data)?;
        let mut command = self.command(data);
        match self.version.flavor {
            Flavor::Mysql => {
                command.arg("--initialize-insecure");
                process::run(command, log, step, &context.stop, INIT_LIMIT)
            }
            Flavor::Mariadb => self.bootstrap(context, step, command, data, log),
        }
    }

    /// What MariaDB's install script does, without needing that script and its shell tools.
    fn bootstrap(
        &self,
        context: &Context,
        step: &Step,
        mut command: Command,
        data: &Path,
        log: &Path,
    ) -> Result<()> {
        let share = self.basedir.join("share");
        let tables = find_below(&share, 2, &|path| path.ends_with("mysql_system_tables.sql"));
        let tables = tables.ok_or_else(|| anyhow!("{} holds no system tables", share.display()))?;
        let folder = tables.parent().unwrap_or(&share);
        let mut sql = String::from(
            "CREATE DATABASE mysql;\nUSE mysql;\nSET @skip_auth_anonymous=1;\nSET @auth_root_socket=NULL;\n",
        );
        for name in
            ["mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"]
        {
            if let Ok(part) = std::fs::read_to_string(folder.join(name)) {
                sql.push_str(&part);
                sql.push('\n');
            }
        }
        let script = data.with_extension("sql");
        std::fs::write(&script, sql)?;
        command.arg("--bootstrap");
        let input = std::fs::File::open(&script)?.into();
        process::run_with_input(command, input, log, step, &context.stop, INIT_LIMIT)
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = launch(&self.launcher);
        command.current_dir(data);
        command.args(self.fixed_arguments());
        command.arg(format!("--datadir={}", data.display()));
        command
    }

    /// The arguments of every run, whatever its data; they come first.
    fn fixed_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--no-defaults".to_owned(), format!("--basedir={}", self.basedir.display())];
        arguments.extend_from_slice(&self.moved);
        if nix::unistd::geteuid().is_root() {
            arguments.push("--user=root".to_owned());
        }
        arguments
    }

    /// The arguments of every server, whatever its data and port.
    fn server_arguments(&self) -> Vec<&'static str> {
        // Relative to the data folder: a socket's path may not be long, a checkout's may.
        let mut arguments = vec!["--socket=mysqld.sock", "--pid-file=mysqld.pid", "--bind-address=127.0.0.1"];
        arguments.extend(["--skip-name-resolve", "--max-connections=500"]);
        if self.version.flavor == Flavor::Mysql {
            arguments.extend(["--mysqlx=OFF", "--secure-file-priv=NULL"]);
        }
        arguments
    }

    /// How a test starts a durable server of its own.
    pub fn recipe(&self) -> Result<Recipe> {
        let mut words = texts(&self.launcher)?;
        words.extend(self.fixed_arguments());
        words.extend(self.server_arguments().into_iter().map(str::to_owned).chain(durable()));
        Ok(Recipe { words, template: self.template.join("data"), init_sql: INIT_SQL })
    }

    /// Fills an empty data folder from the template; refuses one that another server wrote.
    fn lay_out(&self, folder: &Path) -> Result<PathBuf> {
        let data = folder.join("data");
        let marker = folder.join("written-by");
        match std::fs::read_to_string(&marker) {
            Ok(writer) if !self.version.can_read(writer.trim()) => bail!(
                "the data in {} was written by {}, this is {}: `cargo xtask up --fresh` drops it",
                folder.display(),
                writer.trim(),
                self.version.name()
            ),
            Ok(_) => {}
            // Without the marker the copy was not finished.
            Err(_) => {
                crate::cache::remove_dir(&data)?;
                copy_dir(&self.template.join("data"), &data)?;
            }
        }
        run_file::write_whole(&marker, self.version.name().as_bytes())?;
        Ok(data)
    }

    fn server_command(&self, folder: &Path, port: u16, durability: Durability) -> Result<Command> {
        let data = self.lay_out(folder)?;
        let init = folder.join("init.sql");
        std::fs::write(&init, INIT_SQL)?;
        let mut command = self.command(&data);
        command.arg(format!("--port={port}"));
        command.arg(format!("--init-file={}", init.display()));
        command.args(self.server_arguments());
        match durability {
            Durability::Full => command.args(durable()),
            Durability::Relaxed => command.args([
                "--skip-log-bin",
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-doublewrite=OFF",
                "--performance-schema=OFF",
            ]),
        };
        Ok(command)
    }
}

/// What a shop's own MySQL is to be set to.
const SHOPS_SETTINGS: &str = include_str!("../../../deploy/origin/mysql.cnf");

/// The same as arguments: a commit survives the machine.
fn durable() -> impl Iterator<Item = String> {
    let lines = SHOPS_SETTINGS.lines().map(str::trim);
    let settings = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    settings.map(|line| format!("--{}", line.replace(' ', "")))
}

/// Runs at every start, before connections are taken. Names are not resolved, so the account that
/// comes over TCP is the one of the address.
const INIT_SQL: &str = "\
CREATE DATABASE IF NOT EXISTS farmgate CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
";

impl MysqlServer {
    /// A server with its data in `folder`; without a process if it is not ours. The URL names no database.
    pub fn start(
        &self,
        context: &Context,
        folder: &Path,
        port: u16,
        mark: &str,
        durability: Durability,
    ) -> Result<Option<Process>> {
        let log = context.log("mysql")?;
        let command = match self {
            Self::Given(_) => return Ok(None),
            Self::Local(server) => {
                std::fs::create_dir_all(folder)?;
                server.server_command(folder, port, durability)?
            }
            Self::Docker => {
                let data = folder.join("docker");
                std::fs::create_dir_all(&data)?;
                let mut command = docker::run_command(&data, "/var/lib/mysql", port, 3306);
                command.args(["--env", "MYSQL_ALLOW_EMPTY_PASSWORD=yes", "--env", "MYSQL_ROOT_HOST=%"]);
                command.arg("--env").arg(format!("MYSQL_DATABASE={DATABASE}"));
                command.args([DOCKER_IMAGE, "--mysqlx=OFF", "--max-connections=500"]);
                command
            }
        };
        Process::serve(command, "mysql", &log, mark, GRACE).map(Some)
    }

    pub fn wait_ready(&self, context: &Context, process: Option<&mut Process>, port: u16) -> Result<()> {
        match (self, process) {
            (Self::Given(url), _) => net::mysql_greets(&net::authority(url, 3306)?)
                .context("the server of FARMGATE_MYSQL_URL does not answer: start it or unset the variable"),
            (_, Some(process)) => {
                let limit = if matches!(self, Self::Docker) { DOCKER_LIMIT } else { START_LIMIT };
                let host = format!("127.0.0.1:{port}");
                process.wait_ready(&context.stop, limit, || net::mysql_greets(&host))
            }
            (_, None) => Ok(()),
        }
    }

    /// The URL of the shop's database.
    pub fn url(&self, port: u16) -> String {
        match self {
            Self::Given(url) => url.clone(),
            _ => format!("mysql://root@127.0.0.1:{port}/{DATABASE}"),
        }
    }

    /// The same for the origin: TLS would guard nothing on the loopback, and cost as much as the queries.
    pub fn origin_url(&self, port: u16) -> String {
        match self {
            Self::Given(url) => url.clone(),
            _ => format!("{}?ssl-mode=disabled", self.url(port)),
        }
    }

    /// The URL without a database, for tests that make their own.
    pub fn server_url(&self, port: u16) -> String {
        match self {
            Self::Given(url) => without_database(url),
            _ => format!("mysql://root@127.0.0.1:{port}"),
        }
    }
}

fn without_database(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    url[..end].to_owned()
}

fn launch(launcher: &[OsString]) -> Command {
    let mut parts = launcher.iter();
    let mut command = Command::new(parts.next().map_or_else(OsString::new, Clone::clone));
    command.args(parts);
    command
}

impl Version {
    /// `mysqld  Ver 8.0.36 for Linux …` or `mariadbd  Ver 10.11.6-MariaDB-… for …`.
    fn parse(line: &str) -> Option<Self> {
        let word = line.split_once("Ver ")?.1.split_whitespace().next()?;
        let flavor = if line.contains("MariaDB") { Flavor::Mariadb } else { Flavor::Mysql };
        let number: String = word.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        Some(Self { flavor, number })
    }

    fn parts(number: &str) -> Vec<u32> {
        number.split('.').filter_map(|part| part.parse().ok()).collect()
    }

    fn check(&self) -> Result<()> {
        let least = match self.flavor {
            Flavor::Mysql => vec![8, 0],
            Flavor::Mariadb => vec![10, 6],
        };
        if Self::parts(&self.number) < least {
            bail!("{} is too old", self.name());
        }
        Ok(())
    }

    fn name(&self) -> String {
        let flavor = match self.flavor {
            Flavor::Mysql => "mysql",
            Flavor::Mariadb => "mariadb",
        };
        format!("{flavor}-{}", self.number)
    }

    /// Servers bring older data of their own kind up to date, and no other.
    fn can_read(&self, writer: &str) -> bool {
        let Some((flavor, number)) = writer.split_once('-') else { return false };
        self.name().starts_with(&format!("{flavor}-")) && Self::parts(number) <= Self::parts(&self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_versions_are_told_apart() {
        let mysql = Version::parse("/usr/sbin/mysqld  Ver 9.7.0 for Linux on x86_64 (Debian)").unwrap();
        assert_eq!(mysql.name(), "mysql-9.7.0");
        let maria = Version::parse("mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu").unwrap();
        assert_eq!(maria.name(), "mariadb-10.11.14");
        assert!(mysql.check().is_ok() && maria.check().is_ok());
        assert!(Version::parse("mysqld  Ver 5.7.44 for Linux").unwrap().check().is_err());
        assert_eq!(Version::parse("command not found"), None);
    }

    #[test]
    fn data_is_opened_by_the_same_kind_of_server_and_never_by_an_older_one() {
        let server = Version { flavor: Flavor::Mysql, number: "9.7.0".to_owned() };
        assert!(server.can_read("mysql-8.0.36"));
        assert!(server.can_read("mysql-9.7.0"));
        assert!(!server.can_read("mysql-9.8.0"));
        assert!(!server.can_read("mariadb-10.11.14"));
    }

    #[test]
    fn tests_get_the_given_server_without_its_database() {
        assert_eq!(without_database("mysql://u:p@db:3306/shop?ssl-mode=disabled"), "mysql://u:p@db:3306");
        assert_eq!(without_database("mysql://root@127.0.0.1:3306"), "mysql://root@127.0.0.1:3306");
    }
}
