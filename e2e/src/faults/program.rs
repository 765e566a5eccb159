//! Our programs, and how their processes are told from others on a node.

use std::fmt;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::process::Process;
use crate::provider::Provider;

/// One of our programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Program {
    /// Serves the models of one device; a child of the agent.
    Engine,
    /// One on each node; when it ends, its engines do.
    Agent,
    /// The front door.
    Scheduler,
    /// Decides what runs where.
    Operator,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Engine, Self::Agent, Self::Scheduler, Self::Operator];

    /// Whether a process is one of it: by its file and, as an engine's probe runs the same file, by its verb.
    pub fn is(self, process: &Process) -> bool {
        let (file, verb) = match self {
            Self::Engine => ("afterglow-engine", "serve"),
            Self::Agent => ("afterglow-agent", "run"),
            Self::Scheduler => ("afterglow-scheduler", "run"),
            Self::Operator => ("afterglow-operator", "run"),
        };
        process.program() == file && process.words.iter().any(|word| word == verb)
    }

    /// Its processes on a node.
    pub fn on(self, provider: &dyn Provider, node: &str) -> Result<Vec<Process>> {
        let mut found = provider.processes(node)?;
        found.retain(|process| self.is(process));
        Ok(found)
    }

    /// Its processes on a node, of which there is at least one.
    pub fn surely_on(self, provider: &dyn Provider, node: &str) -> Result<Vec<Process>> {
        let found = self.on(provider, node)?;
        if found.is_empty() {
            bail!("no {self} runs on {node}");
        }
        Ok(found)
    }

    /// Where it runs: a node for each process.
    pub fn whereabouts(self, provider: &dyn Provider, nodes: &[String]) -> Vec<(Self, String)> {
        nodes
            .iter()
            .flat_map(|node| {
                // A node that does not run has none.
                let processes = self.on(provider, node).unwrap_or_default();
                processes.into_iter().map(move |_| (self, node.clone()))
            })
            .collect()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Engine => "engine",
            Self::Agent => "agent",
            Self::Scheduler => "scheduler",
            Self::Operator => "operator",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(line: &str) -> Process {
        Process {
            pid: 1,
            parent: 0,
            start: 0,
            words: line.split(' ').map(str::to_owned).collect(),
        }
    }

    #[test]
    fn an_engine_that_serves_is_one_and_its_probe_is_not() {
        let serves = process("/usr/bin/afterglow-engine serve --repository /x --device opencl:0");
        let probes = process("/usr/bin/afterglow-engine probe /x/model.onnx");
        assert!(Program::Engine.is(&serves));
        assert!(Program::ALL.iter().all(|program| !program.is(&probes)));
    }

    #[test]
    fn every_other_program_is_told_by_its_file() {
        for (program, line) in [
            (Program::Agent, "/usr/bin/afterglow-agent run --cluster=default"),
            (
                Program::Scheduler,
                "/usr/bin/afterglow-scheduler run --cluster=default",
            ),
            (Program::Operator, "/usr/bin/afterglow-operator run"),
        ] {
            for other in Program::ALL {
                assert_eq!(other.is(&process(line)), other == program, "{line}");
            }
        }
        let pause = process("/bin/pause");
        assert!(Program::ALL.iter().all(|program| !program.is(&pause)));
    }
}
