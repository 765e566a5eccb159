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
