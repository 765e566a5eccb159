//! Tells a host of our runs, where it asks ([`ort_ep_sys::observe`]).

use std::cell::Cell;
use std::ffi::c_void;
use std::time::{SystemTime, UNIX_EPOCH};

use opencl_kernels::runtime::{Observed, StepTime};
use ort_ep_sys::observe::{ObservedLaunch, ObservedRun, ObservedText, Observer};

thread_local! {
    static OBSERVER: Cell<Option<Wanted>> = const { Cell::new(None) };
}

/// Whom to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    observer: Observer,
    data: *mut c_void,
}

/// Has the fused nodes that run on this thread told to `observer`; `None`: to nobody.
///
/// # Safety
/// `observer` may be called with `data`, on this thread, until this is called again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn AfterglowObserveRuns1(observer: Option<Observer>, data: *mut c_void) {
    OBSERVER.set(observer.map(|observer| Wanted { observer, data }));
}

/// Who wants to hear of what this thread runs.
pub(crate) fn wanted() -> Option<Wanted> {
    OBSERVER.get()
}

impl Wanted {
    /// Tells of one run that began then.
    pub(crate) fn tell(self, node: &str, began: SystemTime, observed: &Observed) {
        let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let launch = |step: &StepTime| ObservedLaunch {
            kernel: ObservedText::of(step.kernel),
            node: ObservedText::of(&step.node),
            operator: ObservedText::of(&step.op),
            global: step.global.map(|items| items as u64),
            local: step.local.map(|items| items as u64),
            begin: nanoseconds(step.begin),
            end: nanoseconds(step.begin).saturating_add(step.nanoseconds),
        };
        let launches: Vec<ObservedLaunch> = observed.steps.iter().map(launch).collect();
        let run = ObservedRun {
            node: ObservedText::of(node),
            began_unix: nanoseconds(began.duration_since(UNIX_EPOCH).unwrap_or_default()),
            planned: nanoseconds(observed.planned),
            plan_cached: observed.plan_cached,
            ended: nanoseconds(observed.ended),
            launches: launches.as_ptr(),
            launch_count: launches.len(),
        };
        // SAFETY: whoever set the observer promised that it may be called on this thread; all that it is shown lives until it
        // returns.
        unsafe { (self.observer)(self.data, &raw const run) };
    }
}
