//! What a process knows of a kind through its watch: behind by a moment, or by more.

use std::collections::BTreeMap;
use std::sync::Arc;

use afterglow_operator::steps::Key;

use crate::api::{Change, Kind, Object};
use crate::time::Time;

/// The objects of a kind as a process knows them.
#[derive(Debug)]
pub struct Cache<K> {
    /// By name.
    pub objects: BTreeMap<Key, Arc<K>>,
    /// Up to which revision it has read; `None`: the list has to be read (anew).
    read: Option<u64>,
    /// Whether the list was read once.
    pub filled: bool,
}

/// What a watch has told.
#[derive(Debug, Clone)]
pub enum News<K> {
    /// An object is new or has changed.
    Object(Arc<K>),
    /// An object is gone.
    Gone(Arc<K>),
    /// The whole list was read: anything may have changed in between.
    Anything,
}

/// How reading went.
#[derive(Debug)]
pub struct Read<K> {
    /// In the order in which it happened.
    pub news: Vec<News<K>>,
    /// Too much was forgotten (410): the list has to be read anew.
    pub expired: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            read: None,
            filled: false,
        }
    }
}

impl<K: Object> Cache<K> {
    /// Reads what the watch has to tell of what happened until `until`. `merges` is a bug: an old list is kept below a new one.
    pub fn read(&mut self, kind: &Kind<K>, revision: u64, until: Time, merges: bool) -> Read<K> {
        let mut news = Vec::new();
        let Some(since) = self.read else {
            if !merges {
                self.objects.clear();
            }
            self.objects.extend(
                kind.objects
                    .iter()
                    .map(|(key, object)| (key.clone(), object.clone())),
            );
            self.read = Some(revision);
            self.filled = true;
            news.push(News::Anything);
            return Read { news, expired: false };
        };
        let Some((changes, read)) = kind.changes(since, until) else {
            self.read = None;
            return Read { news, expired: true };
        };
        self.read = Some(read);
        for change in changes {
            match change {
                Change::Applied(object) => {
                    self.objects.insert(Key::of(&*object), object.clone());
                    news.push(News::Object(object));
                }
                Change::Deleted(object) => {
                    self.objects.remove(&Key::of(&*object));
                    news.push(News::Gone(object));
                }
            }
        }
        Read { news, expired: false }
    }

    /// Whether there is more to read.
    pub fn is_behind(&self, kind: &Kind<K>) -> bool {
        self.read.is_none_or(|read| read < kind.last)
    }

    /// The watch broke and cannot go on where it was.
    pub fn lose(&mut self) {
        self.read = None;
    }
}
