//! Which objects want a reconcile: a set, so that a thousand events for one object are one entry.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures::Stream;
use kube::Resource;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

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

/// The set; a handle that is cheap to clone. It holds at most one entry per object, so it needs no other bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    filled: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Key>,
    known: HashSet<Key>,
}

impl Queue {
    /// Asks for a reconcile.
    pub(crate) fn add(&self, key: Key) {
        let mut waiting = self
            .waiting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if waiting.known.insert(key.clone()) {
            waiting.order.push_back(key);
            self.filled.notify_one();
        }
    }

    fn pop(&self) -> Option<Key> {
        let mut waiting = self
            .waiting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = waiting.order.pop_front()?;
        waiting.known.remove(&key);
        Some(key)
    }

    async fn next(&self) -> Key {
        loop {
            if let Some(key) = self.pop() {
                return key;
            }
            self.filled.notified().await;
        }
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
        assert_eq!(queue.pop(), None);
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
