//! Bugs to be planted, one at a time: a simulation that does not find them is worth nothing.

/// A bug. Each is what somebody could write, or forget to write, in operator, agent or scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The operator does not remember what it made before the watch shows it.
    ForgetsWhatItMade,
    /// The operator believes the times in the agents' leases instead of its own clock.
    BelievesLeases,
    /// The operator counts the progress deadline by the times in a status and the time of day, not by what it saw.
    BelievesConditions,
    /// The operator does not come back to a turn of which a write failed.
    GivesUp,
    /// The operator lets nobody go whose agent is dead.
    NeverSweeps,
    /// The operator plans with every device's whole memory, not only for what is there but also for what leaves.
    ForgetsTheLeaving,
    /// After a broken watch the operator keeps what it knew and adds the new list.
    MergesLists,
    /// The agent takes its finalizer off before the engine has let go.
    ReleasesEarly,
    /// The agent hands a device over to a pod without looking who has it.
    HandsOverTooEarly,
    /// The agent calls models by the client's name, which several replicas share.
    SharesNames,
    /// The agent stamps each status with the time, so that none equals the one before.
    StampsStatus,
    /// The scheduler sends again as long as anybody is left to ask.
    RetriesWithoutEnd,
    /// The scheduler takes a connection that broke for one that could not be made: as if nobody had seen the request.
    BreaksAreUnsent,
    /// The scheduler asks replicas that are not Ready, too.
    AsksTheUnready,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ForgetsWhatItMade,
        Self::BelievesLeases,
        Self::BelievesConditions,
        Self::GivesUp,
        Self::NeverSweeps,
        Self::ForgetsTheLeaving,
        Self::MergesLists,
        Self::ReleasesEarly,
        Self::HandsOverTooEarly,
        Self::SharesNames,
        Self::StampsStatus,
        Self::RetriesWithoutEnd,
        Self::BreaksAreUnsent,
        Self::AsksTheUnready,
    ];
}
