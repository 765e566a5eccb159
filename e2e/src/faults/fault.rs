//! A fault as a value. Its words are the words of the command line, so that whatever a log shows can be done again by hand.

use std::fmt;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use rustix::process::Signal;

use super::disk;
use super::program::Program;
use crate::process::Process;
use crate::provider::{ApiServer, Provider};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Subcommand)]
pub enum Fault {
    /// A node loses its cable and everything on it stops at once; then it boots, with its disk as it was.
    PowerCut {
        /// Which.
        node: String,
    },
    /// Nobody reaches a node and it reaches nobody; what runs there goes on.
    Partition {
        /// Which.
        node: String,
    },
    /// A power cut that is over at once.
    Reboot {
        /// Which.
        node: String,
    },
    /// A node comes back as a new machine of its name: an empty disk, and the images that were loaded on every node.
    Wipe {
        /// Which.
        node: String,
    },
    /// SIGKILL for one of our programs.
    Kill {
        /// Which.
        program: Program,
        /// Where.
        node: String,
    },
    /// SIGSTOP for one of our programs, then SIGCONT: it is there and does nothing.
    Freeze {
        /// Which.
        program: Program,
        /// Where.
        node: String,
    },
    /// SIGSTOP for the API server, then SIGCONT: connections stay open and nobody answers.
    StopApiServer,
    /// The API server's answers pass through a thin pipe.
    SlowApiServer,
    /// SIGKILL for the API server, and a new one with the same flags.
    RestartApiServer,
    /// The disk of a node's model cache is full to the last byte (`afterglow-e2e node small-disk` first).
    FillDisk {
        /// Whose.
        node: String,
    },
    /// The disk of a node's model cache cannot be written (`afterglow-e2e node small-disk` first).
    LockDisk {
        /// Whose.
        node: String,
    },
}

/// What must be known to undo a fault.
#[derive(Debug, Default)]
pub struct Scar {
    /// Processes that stand still.
    frozen: Vec<Process>,
}

impl Fault {
    /// Does it. What it began and did not finish it undoes.
    pub fn strike(&self, provider: &mut dyn Provider) -> Result<Scar> {
        let mut scar = Scar::default();
        let done = self.hit(provider, &mut scar);
        if let Err(error) = done {
            let _ = self.undo(&scar, provider);
            return Err(error).with_context(|| format!("strike with {self}"));
        }
        Ok(scar)
    }

    fn hit(&self, provider: &mut dyn Provider, scar: &mut Scar) -> Result<()> {
        match self {
            Self::PowerCut { node } => provider.power_cut(node),
            Self::Partition { node } => provider.partition(node),
            Self::Reboot { node } => provider.power_cut(node).and_then(|()| provider.reboot(node)),
            Self::Wipe { node } => provider.power_cut(node).and_then(|()| provider.replace(node)),
            // One, where there are several: two schedulers may share a node.
            Self::Kill { program, node } => program
                .surely_on(provider, node)?
                .iter()
                .take(1)
                .try_for_each(|process| process.signal(Signal::KILL)),
            Self::Freeze { program, node } => {
                scar.frozen = program.surely_on(provider, node)?;
                scar.frozen
                    .iter()
                    .try_for_each(|process| process.signal(Signal::STOP))
            }
            Self::StopApiServer => provider.api_server(ApiServer::Stop),
            Self::SlowApiServer => provider.api_server(ApiServer::Slow),
            Self::RestartApiServer => provider.api_server(ApiServer::Restart),
            Self::FillDisk { node } => disk::fill(&provider.disk(node)?),
            Self::LockDisk { node } => disk::lock(&provider.disk(node)?),
        }
    }

    /// Puts it right again; on something that is right it changes nothing.
    pub fn undo(&self, scar: &Scar, provider: &mut dyn Provider) -> Result<()> {
        match self {
            Self::PowerCut { node } => provider.reboot(node),
            Self::Partition { node } => provider.heal(node),
            Self::Freeze { .. } => scar
                .frozen
                .iter()
                .try_for_each(|process| process.signal(Signal::CONT)),
            Self::StopApiServer => provider.api_server(ApiServer::Continue),
            Self::SlowApiServer => provider.api_server(ApiServer::Quick),
            Self::FillDisk { node } => disk::free(&provider.disk(node)?),
            Self::LockDisk { node } => disk::unlock(&provider.disk(node)?),
            Self::Reboot { .. } | Self::Wipe { .. } | Self::Kill { .. } | Self::RestartApiServer => Ok(()),
        }
        .with_context(|| format!("undo {self}"))
    }

    /// Whether there is an end to it that somebody must bring about.
    pub fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::Reboot { .. } | Self::Wipe { .. } | Self::Kill { .. } | Self::RestartApiServer
        )
    }

    /// Its kind, without where it strikes.
    pub fn kind(&self) -> String {
        match self {
            Self::Kill { program, .. } => format!("kill {program}"),
            Self::Freeze { program, .. } => format!("freeze {program}"),
            _ => self.verb().to_owned(),
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::PowerCut { .. } => "power-cut",
            Self::Partition { .. } => "partition",
            Self::Reboot { .. } => "reboot",
            Self::Wipe { .. } => "wipe",
            Self::Kill { .. } => "kill",
            Self::Freeze { .. } => "freeze",
            Self::StopApiServer => "stop-api-server",
            Self::SlowApiServer => "slow-api-server",
            Self::RestartApiServer => "restart-api-server",
            Self::FillDisk { .. } => "fill-disk",
            Self::LockDisk { .. } => "lock-disk",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.kind())?;
        match self {
            Self::PowerCut { node }
            | Self::Partition { node }
            | Self::Reboot { node }
            | Self::Wipe { node }
            | Self::Kill { node, .. }
            | Self::Freeze { node, .. }
            | Self::FillDisk { node }
            | Self::LockDisk { node } => write!(formatter, " {node}"),
            Self::StopApiServer | Self::SlowApiServer | Self::RestartApiServer => Ok(()),
        }
    }
}

/// Undoes whatever may have been left of any fault: everything runs, every cable is in, every disk has room.
pub fn heal(provider: &mut dyn Provider, nodes: &[String]) -> Result<()> {
    provider.api_server(ApiServer::Continue)?;
    provider.api_server(ApiServer::Quick)?;
    let mut wrong = Vec::new();
    for node in nodes {
        let healed = provider.heal(node).and_then(|()| {
            // A node without processes is one that was cut.
            let processes = provider.processes(node).or_else(|_| {
                provider.reboot(node)?;
                provider.processes(node)
            })?;
            let ours = |process: &&Process| Program::ALL.iter().any(|program| program.is(process));
            processes
                .iter()
                .filter(ours)
                .try_for_each(|process| process.signal(Signal::CONT))?;
            let cache = provider.disk(node)?;
            disk::unlock(&cache)?;
            disk::free(&cache)
        });
        if let Err(error) = healed {
            wrong.push(format!("{node}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "heal the nodes: {}", wrong.join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        fault: Fault,
    }

    fn every_fault() -> Vec<Fault> {
        let node = || "node2".to_owned();
        let mut faults = vec![
            Fault::PowerCut { node: node() },
            Fault::Partition { node: node() },
            Fault::Reboot { node: node() },
            Fault::Wipe { node: node() },
            Fault::StopApiServer,
            Fault::SlowApiServer,
            Fault::RestartApiServer,
            Fault::FillDisk { node: node() },
            Fault::LockDisk { node: node() },
        ];
        for program in Program::ALL {
            faults.push(Fault::Kill {
                program,
                node: node(),
            });
            faults.push(Fault::Freeze {
                program,
                node: node(),
            });
        }
        faults
    }

    #[test]
    fn what_a_log_shows_of_a_fault_is_what_a_person_types() {
        for fault in every_fault() {
            let line = format!("fault {fault}");
            let typed =
                Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert_eq!(typed.fault, fault);
        }
    }

    #[test]
    fn kinds_differ_by_program_and_not_by_node() {
        let kill = |program, node: &str| Fault::Kill {
            program,
            node: node.to_owned(),
        };
        assert_eq!(
            kill(Program::Agent, "node1").kind(),
            kill(Program::Agent, "node2").kind()
        );
        assert_ne!(
            kill(Program::Agent, "node1").kind(),
            kill(Program::Engine, "node1").kind()
        );
    }
}
