//! The API server stands still: connections stay open and nobody answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::steady::{self, NAME};
use crate::faults::{Fault, Struck};
use crate::load::judge;
use crate::world::{SOON, World};

const AWAY: Duration = Duration::from_mins(2);
const CONVERGED_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn no_request_fails_while_the_api_server_stands_still(world: &mut World) -> Result<()> {
    steady::serve(world, 3).await?;
    let load = steady::load(world, "api-server", 10, 3).await?;
    let mut struck = Struck::strike(Fault::StopApiServer, world.provider.as_mut(), AWAY)?;
    let strike = load.at(struck.at);
    let back = struck.over().await?;
    // A wish of the first moment is obeyed: who still believed in the old world would not even hear of it.
    let deployment = format!("modeldeployment/{NAME}");
    world
        .until("the API server takes a wish", SOON, async || {
            world
                .kubectl(&["scale", &deployment, "--replicas=2", "--request-timeout=5s"])
                .map(drop)
        })
        .await?;
    world
        .deployment_ready("default", NAME, 2, SOON)
        .await
        .with_context(|| world.picture())?;
    world
        .cluster_ready("default", SOON)
        .await
        .with_context(|| world.picture())?;
    let converged = Instant::now().saturating_duration_since(back);
    steady::calm(world, &load, 2, SOON).await?;
    let seen = load.end().await?;
    let share = judge::share(&judge::during(&seen.entries, strike, Duration::MAX));
    anstream::println!(
        "    {} requests in {:.0} s and after, {} lost; converged {:.1} s after the return; the slowest took {:.1} s",
        share.all,
        seconds(back, struck.at),
        share.bad,
        converged.as_secs_f64(),
        judge::slowest(&seen.entries).as_secs_f64()
    );
    ensure!(
        share.bad == 0,
        "{} of {} requests were lost since the API server stood still; the worst of {}:{}{}",
        share.bad,
        share.all,
        seen.file.display(),
        judge::shown(&seen.entries, 10),
        world.picture()
    );
    ensure!(
        converged <= CONVERGED_WITHIN,
        "after the return of the API server it took {:.1} s to converge, not {} s at most{}",
        converged.as_secs_f64(),
        CONVERGED_WITHIN.as_secs(),
        world.picture()
    );
    Ok(())
}

fn seconds(back: Instant, strike: Instant) -> f64 {
    back.saturating_duration_since(strike).as_secs_f64()
}
