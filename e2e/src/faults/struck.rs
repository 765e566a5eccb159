//! A fault that has struck, and its end: told, after its time, or when whoever struck has given up, whichever comes first.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fault::Fault;
use crate::provider::Provider;

/// A node that boots is the longest thing that an undo waits for.
const PATIENCE: Duration = Duration::from_mins(3);

/// A fault under way. However its owner ends, by success, by failure or by panic, it is undone.
#[derive(Debug)]
pub struct Struck {
    /// Which.
    pub fault: Fault,
    /// When it began to strike.
    pub at: Instant,
    tell: Option<Sender<()>>,
    undone: Receiver<Result<Instant>>,
    over: Option<Instant>,
}

impl Struck {
    /// Strikes, and sees to it that it ends after `lasts` at the latest.
    pub fn strike(fault: Fault, provider: &mut dyn Provider, lasts: Duration) -> Result<Self> {
        let mut hands = provider.twin()?;
        let at = Instant::now();
        let scar = fault.strike(provider)?;
        let (tell, told) = mpsc::channel::<()>();
        let (report, undone) = mpsc::channel();
        let mut over = None;
        if fault.lasts() {
            let fault = fault.clone();
            thread::Builder::new()
                .name(format!("undo {}", fault.kind()))
                .spawn(move || {
                    let _ = told.recv_timeout(lasts); // told, forsaken or over: all the same
                    let outcome = fault.undo(&scar, hands.as_mut());
                    let _ = report.send(outcome.map(|()| Instant::now()));
                    // What ends with its starter ends with the thread that started it: a booted node needs this one.
                    if matches!(fault, Fault::PowerCut { .. }) {
                        loop {
                            thread::park();
                        }
                    }
                })
                .context("start the thread that undoes a fault")?;
        } else {
            over = Some(Instant::now());
        }
        Ok(Self {
            fault,
            at,
            tell: Some(tell),
            undone,
            over,
        })
    }

    /// Undoes it now, and answers when that was done.
    pub fn undo(mut self) -> Result<Instant> {
        self.end()
    }

    /// Waits until its time is over and it is undone.
    pub async fn over(&mut self) -> Result<Instant> {
        let end = Instant::now() + PATIENCE * 2;
        loop {
            if let Some(over) = self.over {
                return Ok(over);
            }
            match self.undone.try_recv() {
                Ok(outcome) => self.over = Some(outcome?),
                Err(TryRecvError::Disconnected) => bail!("nobody undoes {}", self.fault),
                Err(TryRecvError::Empty) if Instant::now() > end => bail!("{} does not end", self.fault),
                Err(TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn end(&mut self) -> Result<Instant> {
        self.tell = None; // which is heard
        if let Some(over) = self.over {
            return Ok(over);
        }
        let outcome = self
            .undone
            .recv_timeout(PATIENCE)
            .with_context(|| format!("wait for the end of {}", self.fault))?;
        // Whatever came of it, it is not tried a second time.
        self.over = Some(Instant::now());
        outcome
    }
}

impl Drop for Struck {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            anstream::eprintln!(
                "    {} could not be undone ({error:#}): `afterglow-e2e heal`",
                self.fault
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::provider::ApiServer;

    /// Does nothing and remembers what was asked of it.
    #[derive(Default, Clone)]
    struct Diary(Arc<Mutex<Vec<String>>>);

    impl Diary {
        fn note(&self, what: &str, node: &str) -> Result<()> {
            anyhow::ensure!(node != "node9", "there is no {node}");
            self.0.lock().unwrap().push(format!("{what} {node}"));
            Ok(())
        }

        fn read(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Provider for Diary {
        fn name(&self) -> &'static str {
            "diary"
        }
        fn create(&mut self, _: u8) -> Result<()> {
            Ok(())
        }
        fn kubeconfig(&self) -> PathBuf {
            PathBuf::new()
        }
        fn node_address(&self, _: &str) -> Result<IpAddr> {
            bail!("none")
        }
        fn host_address(&self) -> Result<IpAddr> {
            bail!("none")
        }
        fn load(&mut self, _: &Path) -> Result<()> {
            Ok(())
        }
        fn exec(&self, _: &str, _: &[&str]) -> Result<String> {
            bail!("none")
        }
        fn power_cut(&mut self, node: &str) -> Result<()> {
            self.note("cut", node)
        }
        fn reboot(&mut self, node: &str) -> Result<()> {
            self.note("boot", node)
        }
        fn replace(&mut self, node: &str) -> Result<()> {
            self.note("replace", node)
        }
        fn partition(&mut self, node: &str) -> Result<()> {
            self.note("unplug", node)
        }
        fn heal(&mut self, node: &str) -> Result<()> {
            self.0.lock().unwrap().push(format!("plug {node}"));
            Ok(())
        }
        fn destroy(&mut self) -> Result<()> {
            Ok(())
        }
        fn twin(&self) -> Result<Box<dyn Provider + Send>> {
            Ok(Box::new(self.clone()))
        }
        fn api_server(&mut self, what: ApiServer) -> Result<()> {
            self.note(&format!("{what:?}"), "API server")
        }
    }

    fn partition(node: &str) -> Fault {
        Fault::Partition {
            node: node.to_owned(),
        }
    }

    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn a_fault_ends_when_it_is_told_to_and_only_once() {
        let mut diary = Diary::default();
        let struck = Struck::strike(partition("node2"), &mut diary, LONG).unwrap();
        assert_eq!(diary.read(), ["unplug node2"]);
        let (at, over) = (struck.at, struck.undo().unwrap());
        assert!(over >= at);
        assert_eq!(diary.read(), ["unplug node2", "plug node2"]);
    }

    #[test]
    fn a_fault_ends_when_its_owner_fails() {
        let mut diary = Diary::default();
        let fails = |diary: &mut Diary| -> Result<()> {
            let _struck = Struck::strike(Fault::StopApiServer, diary, LONG)?;
            bail!("a story that fails")
        };
        fails(&mut diary).unwrap_err();
        assert_eq!(diary.read(), ["Stop API server", "Continue API server"]);
    }

    #[tokio::test]
    async fn a_fault_ends_by_itself_when_its_time_is_over() {
        let mut diary = Diary::default();
        let cut = Fault::PowerCut {
            node: "node3".to_owned(),
        };
        let mut struck = Struck::strike(cut, &mut diary, Duration::from_millis(1)).unwrap();
        struck.over().await.unwrap();
        assert_eq!(diary.read(), ["cut node3", "boot node3"]);
        drop(struck);
        assert_eq!(diary.read().len(), 2, "it is not undone twice");
    }

    #[test]
    fn a_strike_that_fails_is_undone_and_says_what_was_tried() {
        let mut diary = Diary::default();
        let error = Struck::strike(partition("node9"), &mut diary, LONG).unwrap_err();
        assert!(
            format!("{error:#}").contains("strike with partition node9"),
            "{error:#}"
        );
        assert_eq!(diary.read(), ["plug node9"]);
    }

    #[test]
    fn what_is_over_at_once_needs_nobody_to_undo_it() {
        let mut diary = Diary::default();
        let reboot = Fault::Reboot {
            node: "node2".to_owned(),
        };
        Struck::strike(reboot, &mut diary, LONG).unwrap().undo().unwrap();
        assert_eq!(diary.read(), ["cut node2", "boot node2"]);
    }
}
