//! Bounds on what is under way: requests and bytes. What does not fit is shed at once, it does not wait.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::refusal::{Kind, Refusal};

/// Bytes are counted in pieces of this size: a semaphore counts to 2^29 at most on small machines.
const PIECE: usize = 1024;

/// The whole server's bounds.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    requests: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
    limits: Limits,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits.in_flight)),
            pieces: Arc::new(Semaphore::new(limits.in_flight_bytes / PIECE)),
            limits,
        }
    }

    /// Takes a request in, before a byte of its body is read.
    pub(crate) fn admit(&self) -> Result<Admitted, Refusal> {
        let request = self.requests.clone().try_acquire_owned();
        Ok(Admitted {
            _request: request.map_err(|_| {
                let most = self.limits.in_flight;
                Refusal::new(Kind::Shed, format!("{most} requests are under way; try again"))
            })?,
            pieces: None,
            counted: 0,
            admission: self.clone(),
        })
    }

    /// Requests that are under way.
    pub(crate) fn requests(&self) -> usize {
        self.limits.in_flight - self.requests.available_permits()
    }

    /// Bytes that are under way, in whole pieces.
    pub(crate) fn bytes(&self) -> usize {
        (self.limits.in_flight_bytes / PIECE - self.pieces.available_permits()) * PIECE
    }
}

/// A request that was taken in; its room is free again when this goes.
#[derive(Debug)]
pub(crate) struct Admitted {
    _request: OwnedSemaphorePermit,
    pieces: Option<OwnedSemaphorePermit>,
    counted: usize,
    admission: Admission,
}

impl Admitted {
    /// What came compressed has so many bytes when it is opened: the greater number counts.
    pub(crate) fn opened(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.grow(bytes.saturating_sub(self.counted))
    }

    /// More of its body has come.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let limits = self.admission.limits;
        self.counted = self.counted.saturating_add(bytes);
        if self.counted > limits.body_bytes {
            let most = limits.body_bytes;
            return Err(Refusal::new(
                Kind::TooLarge,
                format!("the request has more than {most} bytes"),
            ));
        }
        let held = self.pieces.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = self.counted.div_ceil(PIECE).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = self.admission.pieces.clone().try_acquire_many_owned(more);
        let permit = permit.map_err(|_| {
            let most = limits.in_flight_bytes;
            Refusal::new(
                Kind::Shed,
                format!("requests of {most} bytes are under way; try again"),
            )
        })?;
        match &mut self.pieces {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(Limits {
            body_bytes: 3 * PIECE,
            in_flight_bytes: 4 * PIECE,
            in_flight: 2,
            ..Limits::default()
        })
    }

    #[test]
    fn one_request_more_than_allowed_is_shed_and_fits_when_another_ends() {
        let admission = admission();
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert_eq!(admission.admit().unwrap_err().kind, Kind::Shed);
        drop(first);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn what_is_opened_counts_with_the_greater_of_its_sizes() {
        let admission = admission();
        let mut request = admission.admit().unwrap();
        request.grow(PIECE).unwrap();
        request.opened(3 * PIECE).unwrap();
        assert_eq!(admission.bytes(), 3 * PIECE);
        request.opened(PIECE).unwrap();
        assert_eq!(admission.bytes(), 3 * PIECE);
        assert_eq!(request.opened(3 * PIECE + 1).unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn bytes_are_bounded_for_one_and_for_all() {
        let admission = admission();
        let mut first = admission.admit().unwrap();
        first.grow(PIECE).unwrap();
        first.grow(2 * PIECE).unwrap();
        assert_eq!(first.grow(1).unwrap_err().kind, Kind::TooLarge);
        let mut second = admission.admit().unwrap();
        second.grow(PIECE).unwrap();
        assert_eq!(second.grow(1).unwrap_err().kind, Kind::Shed);
        assert_eq!(admission.bytes(), 4 * PIECE);
        drop((first, second));
        assert_eq!((admission.requests(), admission.bytes()), (0, 0));
    }
}
