//! Waiting for a condition, with a deadline and a complaint that says what was seen last.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often is asked. The API server has two processors to share with a dozen worlds.
const PAUSE: Duration = Duration::from_millis(150);

/// Asks until there is an answer, at most so long; what kept it from one is part of the complaint.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<Verdict<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let why = match ask().await {
            Ok(Verdict::Yes(found)) => return Ok(found),
            Ok(Verdict::NotYet(why)) => why,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > end {
            bail!("after {} s still not: {what}: {why}", limit.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What came of asking once.
#[derive(Debug)]
pub enum Verdict<T> {
    /// It is so.
    Yes(T),
    /// It is not, and this is what is there instead.
    NotYet(String),
}

/// `Yes` if it is so, else what is there instead.
pub fn verdict(is_so: bool, instead: impl FnOnce() -> String) -> Verdict<()> {
    if is_so {
        Verdict::Yes(())
    } else {
        Verdict::NotYet(instead())
    }
}
