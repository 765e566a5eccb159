//! The host's side of [`crate::observe`].

use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use crate::observe::{ObservedLaunch, ObservedRun, ObservedText, SYMBOL, SetObserver};

/// One run of a fused node. Times count from when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The fused node's name.
    pub node: String,
    /// When it began, since 1970.
    pub began: Duration,
    /// When the plan for its shapes was there.
    pub planned: Duration,
    /// Whether it had been made before.
    pub plan_cached: bool,
    /// When it ended.
    pub ended: Duration,
    /// What the device did, in order.
    pub launches: Vec<Launch>,
}

/// One kernel launch, or one copy between buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The kernel, or `copy`.
    pub kernel: String,
    /// The node of the model that it computes.
    pub node: String,
    /// That node's operator.
    pub operator: String,
    /// Work-items; all 0 for a copy.
    pub global: [u64; 3],
    /// Work-items of a group; all 0 for a copy.
    pub local: [u64; 3],
    /// When the device began.
    pub begin: Duration,
    /// When it ended.
    pub end: Duration,
}

/// A provider's library that can tell what it does.
#[derive(Debug, Clone, Copy)]
pub struct Watch(SetObserver);

impl Watch {
    /// Of a library that is loaded already; `None` if it is not, or is one that tells nothing.
    pub fn of(library: &Path) -> Option<Self> {
        let path = CString::new(library.as_os_str().as_bytes()).ok()?;
        // SAFETY: the path is a string; nothing is loaded that is not loaded yet. The handle is kept for ever, so what is
        // found in the library stays there.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        if handle.is_null() {
            return None;
        }
        // SAFETY: the handle is one, the name is a string.
        let symbol = unsafe { libc::dlsym(handle, SYMBOL.as_ptr()) };
        if symbol.is_null() {
            return None;
        }
        // SAFETY: under this name the library exports a function of this type.
        Some(Self(unsafe {
            std::mem::transmute::<*mut c_void, SetObserver>(symbol)
        }))
    }

    /// Has `observer` told of the fused nodes that `run` runs on this thread.
    pub fn during<T>(self, observer: &mut dyn FnMut(Run), run: impl FnOnce() -> T) -> T {
        let mut observer: &mut dyn FnMut(Run) = observer;
        let _unset = Unset(self.0);
        // SAFETY: what is passed lives until this function returns, and `_unset` takes it back before, however it returns.
        unsafe { (self.0)(Some(tell), (&raw mut observer).cast()) };
        run()
    }
}

/// Takes the observer back.
struct Unset(SetObserver);

impl Drop for Unset {
    fn drop(&mut self) {
        // SAFETY: no observer is always a valid one.
        unsafe { (self.0)(None, std::ptr::null_mut()) };
    }
}

unsafe extern "C" fn tell(data: *mut c_void, run: *const ObservedRun) {
    // A panic must not cross into the library; a run that was not told of is no harm.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `during` passed a place that lives, and nobody else uses it while its thread is here.
        let observer = unsafe { &mut *data.cast::<&mut dyn FnMut(Run)>() };
        // SAFETY: the library shows a run that lives until this returns.
        observer(unsafe { copied(&*run) });
    }));
}

/// # Safety
/// The pointers in `run` are valid.
unsafe fn copied(run: &ObservedRun) -> Run {
    let launches: &[ObservedLaunch] = if run.launch_count == 0 {
        &[]
    } else {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(run.launches, run.launch_count) }
    };
    Run {
        // SAFETY: the caller's promise.
        node: unsafe { text(run.node) },
        began: Duration::from_nanos(run.began_unix),
        planned: Duration::from_nanos(run.planned),
        plan_cached: run.plan_cached,
        ended: Duration::from_nanos(run.ended),
        launches: launches
            .iter()
            .map(|launch| Launch {
                // SAFETY: the caller's promise.
                kernel: unsafe { text(launch.kernel) },
                // SAFETY: the caller's promise.
                node: unsafe { text(launch.node) },
                // SAFETY: the caller's promise.
                operator: unsafe { text(launch.operator) },
                global: launch.global,
                local: launch.local,
                begin: Duration::from_nanos(launch.begin),
                end: Duration::from_nanos(launch.end),
            })
            .collect(),
    }
}

/// # Safety
/// The text is valid.
unsafe fn text(text: ObservedText) -> String {
    if text.length == 0 {
        return String::new();
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(text.bytes.cast::<u8>(), text.length) };
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::observe::Observer;

    use super::*;

    thread_local! {
        static OBSERVER: Cell<Option<(Observer, *mut c_void)>> = const { Cell::new(None) };
    }

    unsafe extern "C" fn set(observer: Option<Observer>, data: *mut c_void) {
        OBSERVER.set(observer.map(|observer| (observer, data)));
    }

    /// What the library would do.
    fn run_a_node() {
        let launches = [ObservedLaunch {
            kernel: ObservedText::of("add"),
            node: ObservedText::of(""),
            operator: ObservedText::of("Add"),
            global: [8, 1, 1],
            local: [4, 1, 1],
            begin: 10,
            end: 30,
        }];
        let run = ObservedRun {
            node: ObservedText::of("fused"),
            began_unix: 5,
            planned: 2,
            plan_cached: true,
            ended: 40,
            launches: launches.as_ptr(),
            launch_count: launches.len(),
        };
        if let Some((observer, data)) = OBSERVER.get() {
            // SAFETY: everything lives until the call returns.
            unsafe { observer(data, &raw const run) };
        }
    }

    #[test]
    fn a_thread_hears_of_its_own_runs_and_only_while_it_asks() {
        let mut heard = Vec::new();
        run_a_node();
        let answer = Watch(set).during(&mut |run| heard.push(run), || {
            std::thread::spawn(run_a_node).join().unwrap();
            run_a_node();
            7
        });
        run_a_node();
        assert_eq!(answer, 7);
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0].node, "fused");
        assert_eq!(heard[0].launches[0].kernel, "add");
        assert_eq!(heard[0].launches[0].end, Duration::from_nanos(30));
    }

    #[test]
    fn a_panic_in_the_run_takes_the_observer_back_and_one_in_the_observer_stays_there() {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            Watch(set).during(&mut |_| panic!("on purpose"), || {
                run_a_node();
                panic!("the run's own")
            })
        }));
        assert_eq!(
            panicked.unwrap_err().downcast_ref::<&str>(),
            Some(&"the run's own")
        );
        assert!(OBSERVER.get().is_none());
    }

    #[test]
    fn a_library_that_is_not_loaded_tells_nothing() {
        assert!(Watch::of(Path::new("/nowhere/libnothing.so")).is_none());
    }
}
