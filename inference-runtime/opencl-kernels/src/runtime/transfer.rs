//! How long transfers take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Buffer, DeviceContext, Queue};
use crate::error::Result;

const ROUNDS: u32 = 5;

/// The best of a few uploads and of as many downloads of this many bytes.
pub(crate) fn transfer_times(context: &Arc<DeviceContext>, bytes: usize) -> Result<(Duration, Duration)> {
    let queue = Queue::new(Arc::clone(context), false)?;
    let buffer = Buffer::new(context, "transfer test", bytes)?;
    let mut host = vec![0x5a_u8; bytes];
    let (mut upload, mut download) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        queue.write(&buffer, &host)?;
        upload = upload.min(started.elapsed());
        let started = Instant::now();
        queue.read(&buffer, &mut host)?;
        download = download.min(started.elapsed());
    }
    Ok((upload, download))
}
