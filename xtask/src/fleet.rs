//! The servers of one run in the order in which they were started. They are recorded in `run.json`
//! as they come, stopped in reverse, and stopped too when the fleet is dropped on any error.

use crate::context::Context;
use crate::endpoints::Endpoints;
use crate::identity::Identity;
use crate::process::Process;
use crate::run_file::{ChildEntry, RunFile, take_lock};
use crate::stop::Stop;
use anyhow::{Result, anyhow};
use std::fs::File;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub struct Fleet {
    processes: Vec<Process>,
    record: RunFile,
    state: PathBuf,
    stop: Stop,
    /// Held as long as the fleet lives: nobody else runs in this state folder.
    _lock: File,
}

impl Fleet {
    /// None while another fleet has the state folder. What a killed one left behind is ended first.
    pub fn claim(context: &Context) -> Result<Option<Self>> {
        let Some(lock) = take_lock(&context.state)? else { return Ok(None) };
        if let Some(left) = RunFile::read(&context.state) {
            let ended = left.end_orphans();
            if !ended.is_empty() {
                context.progress.say(format!("ended what a killed run had left: {}", ended.join(", ")));
            }
        }
        Endpoints::remove(&context.state);
        let pid = std::process::id();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let supervisor = Identity::of(i32::try_from(pid)?).ok_or_else(|| anyhow!("who am I?"))?;
        let mark = format!("{pid}-{}", since.as_nanos());
        let record = RunFile { mark, supervisor, ready: false, children: Vec::new() };
        record.write(&context.state)?;
        Ok(Some(Self {
            processes: Vec::new(),
            record,
            state: context.state.clone(),
            stop: context.stop.clone(),
            _lock: lock,
        }))
    }

    /// What every child carries in its environment.
    pub fn mark(&self) -> String {
        self.record.mark.clone()
    }

    /// Takes charge of a server that was just started.
    pub fn add(&mut self, process: Process) -> Result<&mut Process> {
        if let Some(identity) = process.identity() {
            let entry = ChildEntry { name: process.name.clone(), identity: identity.clone() };
            self.record.children.push(entry);
        }
        self.processes.push(process);
        self.record.write(&self.state)?;
        self.processes.last_mut().ok_or_else(|| anyhow!("the fleet is empty"))
    }

    pub fn get(&mut self, name: &str) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.name == name)
    }

    pub fn ready(&mut self) -> Result<()> {
        self.record.ready = true;
        self.record.write(&self.state)
    }

    /// An error as soon as one of them is gone.
    pub fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// Stops all of them in reverse order; their names.
    pub fn stop_all(&mut self) -> Vec<String> {
        Endpoints::remove(&self.state);
        let mut names = Vec::new();
        while let Some(mut process) = self.processes.pop() {
            process.stop(&self.stop);
            names.push(process.name.clone());
        }
        RunFile::remove(&self.state);
        names
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop_all();
    }
}
