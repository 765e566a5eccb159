//! Which objects want a reconcile: a set, so that a thousand events for one object are one entry.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use kube::Resource;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tokio::time::Instant;

/// An object's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `None` where the kind has none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self {
            namespace: object.meta().namespace.clone(),
            name: object.meta().name.clone().unwrap_or_default(),
        }
    }

    /// Of a cluster-scoped object.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
        }
    }

    /// Of an object in a namespace.
    pub fn within(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }
}

/// Events that belong together are one reconcile. Counted from the first of them, so that events without end delay nobody.
const GATHER: Duration = Duration::from_millis(50);

/// The set; a handle that is cheap to clone. It holds at most one entry per object, so it needs no other bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    filled: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By when they were asked for first, and so by when they are due.
    order: VecDeque<(Key, Instant)>,
    known: HashSet<Key>,
}

impl Queue {
    /// Asks for a reconcile.
    pub(crate) fn add(&self, key: Key) {
        self.add_at(key, Instant::now());
    }

    fn add_at(&self, key: Key, now: Instant) {
        let mut waiting = self.lock();
        if waiting.known.insert(key.clone()) {
            waiting.order.push_back((key, now + GATHER));
            self.filled.notify_one();
        }
    }

    /// The first that is due, or when the first will be; `None`: nobody waits.
    fn pop(&self, now: Instant) -> Option<Result<Key, Instant>> {
        let mut waiting = self.lock();
        let (_, due) = waiting.order.front()?;
        if *due > now {
            return Some(Err(*due));
        }
        let (key, _) = waiting.order.pop_front()?;
        waiting.known.remove(&key);
        Some(Ok(key))
    }

    async fn next(&self) -> Key {
        loop {
            match self.pop(Instant::now()) {
                Some(Ok(key)) => return key,
                Some(Err(due)) => tokio::time::sleep_until(due).await,
                None => self.filled.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries as kube's applier wants them; one consumer only.
    pub(crate) fn requests<K>(self) -> impl Stream<Item = Result<ReconcileRequest<K>, Infallible>>
    where
        K: Resource<DynamicType = ()>,
    {
        futures::stream::unfold(self, |queue| async move {
            let key = queue.next().await;
            let reference = ObjectRef::<K>::new(&key.name);
            let reference = match &key.namespace {
                Some(namespace) => reference.within(namespace),
                None => reference,
            };
            Some((Ok(ReconcileRequest::from(reference)), queue))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_events_for_one_object_are_one_entry() {
        let queue = Queue::default();
        for _ in 0..1000 {
            queue.add(Key::cluster("a"));
        }
        queue.add(Key::cluster("b"));
        assert_eq!(queue.next().await.name, "a");
        assert_eq!(queue.next().await.name, "b");
        assert_eq!(queue.pop(Instant::now()), None);
    }

    #[test]
    fn events_without_end_do_not_delay_an_object_beyond_its_first_event() {
        let queue = Queue::default();
        let start = Instant::now();
        let mut taken = Vec::new();
        for step in 0..100 {
            let now = start + Duration::from_millis(10) * step;
            queue.add_at(Key::cluster("busy"), now);
            if let Some(Ok(_)) = queue.pop(now) {
                taken.push(step * 10);
            }
        }
        assert_eq!(
            taken.first(),
            Some(&50),
            "from the first event, not from the last"
        );
        assert!(taken.len() > 10, "{taken:?}");
    }

    #[tokio::test]
    async fn an_object_can_be_asked_for_again_once_it_was_taken() {
        let queue = Queue::default();
        queue.add(Key::within("n", "a"));
        assert_eq!(queue.next().await, Key::within("n", "a"));
        queue.add(Key::within("n", "a"));
        assert_eq!(queue.next().await, Key::within("n", "a"));
    }
}
