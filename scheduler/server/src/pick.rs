//! Asks the policy, and remembers what it said because of what.

use afterglow_crds::inference_cluster::Strategy as Wished;
use afterglow_policy::pick::{self, Request, Strategy};

use crate::snapshot::{Call, Choice};

/// A replica and why it was it.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    pub(crate) choice: Choice,
    pub(crate) because: pick::Because,
}

/// One of the choices that has not refused this request yet.
pub(crate) fn pick(
    choices: &[Choice],
    call: &Call,
    home: Option<String>,
    excluded: &[String],
    strategy: Wished,
) -> Option<Picked> {
    pick_with(choices, call, home, excluded, strategy, rand::random())
}

/// [`pick`] with the random number that decides among equals.
pub(crate) fn pick_with(
    choices: &[Choice],
    call: &Call,
    home: Option<String>,
    excluded: &[String],
    strategy: Wished,
    random: u64,
) -> Option<Picked> {
    let request = Request {
        bytes: call.bytes,
        session: call.session.clone(),
        home,
        excluded: excluded.to_vec(),
    };
    let strategy = match strategy {
        Wished::LeastLoaded => Strategy::LeastLoaded,
        Wished::GpuMatch => Strategy::GpuMatch,
        Wished::Adaptive => Strategy::Adaptive,
    };
    let candidates: Vec<_> = choices.iter().map(|choice| choice.candidate.clone()).collect();
    let picked = pick::pick(&candidates, &request, strategy, random)?;
    Some(Picked {
        choice: choices.get(picked.index)?.clone(),
        because: picked.because,
    })
}
