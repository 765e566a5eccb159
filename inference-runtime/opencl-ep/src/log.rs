//! Messages into the session's log.

use std::ffi::CString;

use ort_ep_sys::{Host, OrtLogger, OrtLoggingLevel};

/// The session's logger, as the runtime gave it to `CreateEp`; it outlives the session's provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    host: Host,
    logger: *const OrtLogger,
}

// SAFETY: the runtime's loggers are called from any of its threads.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    /// A log over the runtime's logger.
    pub(crate) fn new(host: Host, logger: *const OrtLogger) -> Self {
        Self { host, logger }
    }

    /// What a developer looking for a reason wants to read.
    pub(crate) fn verbose(&self, message: impl FnOnce() -> String) {
        self.write(OrtLoggingLevel::ORT_LOGGING_LEVEL_VERBOSE, message);
    }

    /// What happened, once per session.
    pub(crate) fn info(&self, message: impl FnOnce() -> String) {
        self.write(OrtLoggingLevel::ORT_LOGGING_LEVEL_INFO, message);
    }

    fn write(&self, level: OrtLoggingLevel, message: impl FnOnce() -> String) {
        if self.logger.is_null() || !self.wants(level) {
            return;
        }
        let text = CString::new(message().replace('\0', "\u{fffd}")).unwrap_or_default();
        // SAFETY: the logger lives as long as the session; the runtime copies the text. A log that cannot be written
        // must not fail a session, so the status is only released.
        let status = unsafe {
            (self.host.api.Logger_LogMessage)(
                self.logger,
                level,
                text.as_ptr(),
                c"opencl-ep".as_ptr(),
                0,
                c"afterglow".as_ptr(),
            )
        };
        drop(self.host.check(status));
    }

    fn wants(&self, level: OrtLoggingLevel) -> bool {
        let mut least = OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL;
        // SAFETY: the logger lives as long as the session; the runtime writes one of its five levels.
        let status = unsafe { (self.host.api.Logger_GetLoggingSeverityLevel)(self.logger, &raw mut least) };
        self.host.check(status).is_ok() && level as i32 >= least as i32
    }
}
