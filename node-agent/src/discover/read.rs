//! Reading a file in `/sys` of a card that hangs, which can block its reader for ever.

use std::time::Duration;

use tokio::task::JoinHandle;

/// One reader: while it is stuck there is no second one, so that a card that hangs costs one thread and not all of them.
#[derive(Debug)]
pub(super) struct Reader<T> {
    patience: Duration,
    stuck: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Reader<T> {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            stuck: None,
        }
    }

    /// What `read` reads; `None` where nothing comes.
    pub(super) async fn read(&mut self, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // What somebody says who was stuck is old.
        if self.stuck.as_ref().is_some_and(|stuck| !stuck.is_finished()) {
            return None;
        }
        self.stuck = None;
        let mut reading = tokio::task::spawn_blocking(read);
        if let Ok(read) = tokio::time::timeout(self.patience, &mut reading).await {
            read.ok()
        } else {
            self.stuck = Some(reading);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    #[tokio::test]
    async fn a_file_that_hangs_has_one_reader_however_often_it_is_looked_at() {
        let begun = Arc::new(AtomicUsize::new(0));
        let (release, hung) = mpsc::channel::<()>();
        let mut reader = Reader::new(Duration::from_millis(20));
        let counted = Arc::clone(&begun);
        let first = reader.read(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = hung.recv();
            "old"
        });
        assert_eq!(first.await, None);
        for _ in 0..3 {
            let counted = Arc::clone(&begun);
            let again = reader.read(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                "new"
            });
            assert_eq!(again.await, None);
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        drop(release);
        reader.patience = Duration::from_mins(1);
        let answer = loop {
            if let Some(answer) = reader.read(|| "new").await {
                break answer;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(answer, "new", "what it was stuck with is old");
    }
}
