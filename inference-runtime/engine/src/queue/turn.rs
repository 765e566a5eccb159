//! One device, several models: they take turns.

use std::sync::{Condvar, Mutex, PoisonError};

/// A lock that is given in the order in which it was asked for. `std`'s mutex lets the thread that just left come
/// back first, and a busy model would keep the device.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    state: Mutex<Tickets>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tickets {
    next: u64,
    serving: u64,
}

/// The device is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Turn);

impl Turn {
    /// Waits for the device.
    pub(crate) fn take(&self) -> Held<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next;
        state.next += 1;
        while state.serving != ticket {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Held(self)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .serving += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    #[test]
    fn turns_are_taken_in_the_order_asked_for() {
        let turn = Arc::new(Turn::default());
        let first = turn.take();
        let (sender, order) = mpsc::channel();
        let waiting: Vec<_> = (0..8)
            .map(|i| {
                let (thread_turn, sender) = (Arc::clone(&turn), sender.clone());
                let handle = thread::spawn(move || {
                    let _held = thread_turn.take();
                    sender.send(i).unwrap();
                });
                // The next one asks only when this one holds its ticket.
                while turn.state.lock().unwrap().next < i + 2 {
                    thread::yield_now();
                }
                handle
            })
            .collect();
        drop(first);
        for handle in waiting {
            handle.join().unwrap();
        }
        drop(sender);
        assert_eq!(order.iter().collect::<Vec<u64>>(), (0..8).collect::<Vec<u64>>());
    }
}
