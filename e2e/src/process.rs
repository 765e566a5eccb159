//! The machine's processes, as `/proc` shows them.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A process of this machine, whatever namespaces it lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// As this machine numbers it.
    pub pid: i32,
    /// Who started it, or whom it was left to.
    pub parent: i32,
    /// When it started, in ticks since the machine did: pids come back.
    pub start: u64,
    /// Its command line.
    pub words: Vec<String>,
}

impl Process {
    /// A process by its number, while it lives.
    pub fn read(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        Some(Self {
            pid,
            parent: stat.parent,
            start: stat.start,
            words,
        })
    }

    /// All of them.
    pub fn all() -> Result<Vec<Self>> {
        Ok(fs::read_dir("/proc")
            .context("list /proc")?
            .flatten()
            .filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?))
            .collect())
    }

    /// The file that it runs, without its folder.
    pub fn program(&self) -> &str {
        let path = self.words.first().map_or("", String::as_str);
        path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is still that process: a zombie only waits to be read.
    pub fn alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && stat.alive())
    }

    /// Sends it a signal; one that has ended meanwhile gets none.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.alive()) else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal:?} to process {}", self.pid)),
        }
    }
}

/// Those of `all` that descend from `root`, in the order of their numbers.
pub fn below(all: &[Process], root: i32) -> Vec<Process> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        let children = all.iter().filter(|process| process.parent == parent);
        for child in children.map(|process| process.pid) {
            if !family.contains(&child) {
                family.push(child);
            }
        }
        next += 1;
    }
    let mut found: Vec<Process> = all
        .iter()
        .filter(|process| process.pid != root && family.contains(&process.pid))
        .cloned()
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The fields of `/proc/PID/stat` that are asked for here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    state: char,
    parent: i32,
    pub(crate) start: u64,
}

impl Stat {
    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold spaces and parentheses itself.
        let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, start })
    }

    /// A zombie is gone: it only waits to be read.
    pub(crate) fn alive(self) -> bool {
        self.state != 'Z' && self.state != 'X'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            start: 0,
            words: vec![format!("/usr/bin/program-{pid}"), "run".to_owned()],
        }
    }

    #[test]
    fn only_descendants_are_below_and_the_root_is_not() {
        let all = [
            process(7, 5),
            process(1, 0),
            process(5, 3),
            process(3, 1),
            process(4, 2),
            process(2, 1),
        ];
        let found: Vec<i32> = below(&all, 3).iter().map(|process| process.pid).collect();
        assert_eq!(found, [5, 7]);
        assert!(below(&all, 7).is_empty());
    }

    #[test]
    fn a_process_is_called_by_its_file() {
        assert_eq!(process(9, 1).program(), "program-9");
        let kernel = Process {
            words: Vec::new(),
            ..process(2, 0)
        };
        assert_eq!(kernel.program(), "");
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 98765 1000 10";
        let stat = Stat::parse(text).expect("it is whole");
        assert_eq!((stat.state, stat.parent, stat.start), ('S', 7, 98765));
        assert!(stat.alive());
    }

    #[test]
    fn this_process_finds_itself() {
        let own = std::process::id() as i32;
        let all = Process::all().expect("/proc is there");
        let found = all
            .iter()
            .find(|process| process.pid == own)
            .expect("it is among all");
        assert!(found.alive());
        let earlier = Process {
            start: found.start - 1,
            ..found.clone()
        };
        assert!(!earlier.alive(), "another process had that number before");
    }
}
