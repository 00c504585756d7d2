//! The last resort before giving up: a server in a container, when a Docker daemon answers. It runs
//! in the foreground as a child like any other, as the calling user, with its data in our folder.

use crate::context::Context;
use crate::progress::Step;
use crate::{process, run_file};
use anyhow::Result;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub fn answers(context: &Context, step: &Step) -> Result<()> {
    let log = context.log("docker")?;
    let mut command = Command::new("docker");
    command.args(["info", "--format", "{{.ServerVersion}}"]);
    process::run(command, &log, step, &context.stop, Duration::from_secs(15))
        .map_err(|_| anyhow::anyhow!("no Docker daemon answers"))
}

/// `docker run` of an image with `data` mounted at `inside` and the container's port published on
/// 127.0.0.1 alone. The caller adds environment by `-e`, then the image and its arguments.
pub fn run_command(data: &Path, inside: &str, port: u16, container_port: u16) -> Command {
    let user = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--init", "--user", &user]);
    command.arg("--publish").arg(format!("127.0.0.1:{port}:{container_port}"));
    command.arg("--volume").arg(format!("{}:{inside}", data.display()));
    // A killed client leaves its container behind; the id file is how the next start ends it.
    let id = data.with_extension("container");
    end_left_over(&id);
    command.arg("--cidfile").arg(id);
    command
}

fn end_left_over(id_file: &Path) {
    if let Ok(id) = std::fs::read_to_string(id_file) {
        let _ = Command::new("docker").args(["rm", "--force", id.trim()]).output();
        run_file::remove_file(id_file);
    }
}
