//! The runtime that loaded us.

use std::ffi::{CStr, CString};
use std::fmt;

use crate::{API_VERSION, OrtApi, OrtApiBase, OrtEpApi, OrtErrorCode, OrtStatusPtr, RUNTIME_MAJOR};

/// The two tables of the runtime that loaded us. Valid until the process ends or unloads the runtime, which the
/// runtime itself forbids while a provider library is registered.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Functions for everybody.
    pub api: &'static OrtApi,
    /// Functions for providers.
    pub ep: &'static OrtEpApi,
}

/// Why this library does not work with the runtime that loaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// Another major version: the ABI may differ in every detail.
    OtherMajor(String),
    /// Older than the first version that has what we need.
    TooOld(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherMajor(found) => write!(
                f,
                "this execution provider is built for ONNX Runtime {RUNTIME_MAJOR}.x, the process runs ONNX Runtime {found}"
            ),
            Self::TooOld(found) => write!(
                f,
                "this execution provider needs ONNX Runtime {RUNTIME_MAJOR}.{API_VERSION} or newer, the process runs \
                 ONNX Runtime {found}; update onnxruntime"
            ),
        }
    }
}

impl std::error::Error for LoadError {}

/// An error that the runtime gave us, in its words. Its code is left behind: a newer runtime's may have no name here,
/// and none of our calls decides by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError(pub String);

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ONNX Runtime: {}", self.0)
    }
}

impl std::error::Error for HostError {}

impl Host {
    /// The tables of a runtime, if it is one we can work with.
    ///
    /// # Safety
    /// `base` is what the runtime passed to `CreateEpFactories`.
    pub unsafe fn new(base: &'static OrtApiBase) -> Result<Self, LoadError> {
        // SAFETY: both functions exist since version 1.0 and the string lives as long as the runtime.
        let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }
            .to_string_lossy()
            .into_owned();
        check_major(&version)?;
        // SAFETY: the runtime answers null or a table of at least this version.
        let Some(api) = (unsafe { (base.GetApi)(API_VERSION).as_ref() }) else {
            return Err(LoadError::TooOld(version));
        };
        // SAFETY: version 24 has `GetEpApi`, and its table has all slots of ours.
        let Some(ep) = (unsafe { (api.GetEpApi)().cast::<OrtEpApi>().as_ref() }) else {
            return Err(LoadError::TooOld(version));
        };
        Ok(Self { api, ep })
    }

    /// A status for an error that happened before there was a [`Host`]: status functions have not moved since 1.0.
    ///
    /// # Safety
    /// `base` is what the runtime passed to `CreateEpFactories`.
    pub unsafe fn refuse(base: &OrtApiBase, error: &LoadError) -> OrtStatusPtr {
        // SAFETY: every runtime has version 1 of its table.
        match unsafe { (base.GetApi)(1).as_ref() } {
            Some(api) => create_status(api, OrtErrorCode::ORT_FAIL, &error.to_string()),
            None => OrtStatusPtr::default(),
        }
    }

    /// A status that the runtime will own.
    pub fn status(&self, code: OrtErrorCode, message: &str) -> OrtStatusPtr {
        create_status(self.api, code, message)
    }

    /// Turns a status that the runtime gave us into a result, and frees it.
    pub fn check(&self, status: OrtStatusPtr) -> Result<(), HostError> {
        if status.0.is_null() {
            return Ok(());
        }
        // SAFETY: a status that is not null is alive until released, which happens once, here.
        unsafe {
            let message = CStr::from_ptr((self.api.GetErrorMessage)(status.0))
                .to_string_lossy()
                .into_owned();
            (self.api.ReleaseStatus)(status.0);
            Err(HostError(message))
        }
    }
}

fn create_status(api: &OrtApi, code: OrtErrorCode, message: &str) -> OrtStatusPtr {
    // A message may quote a model's names, and those may hold anything but must end at the first NUL here.
    let text = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    // SAFETY: the runtime copies the text.
    unsafe { (api.CreateStatus)(code, text.as_ptr()) }
}

fn check_major(version: &str) -> Result<(), LoadError> {
    let major = version.split('.').next().and_then(|m| m.parse::<u32>().ok());
    if major == Some(RUNTIME_MAJOR) {
        Ok(())
    } else {
        Err(LoadError::OtherMajor(version.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::c_char;

    use super::*;

    extern "system" fn no_api(_version: u32) -> *const OrtApi {
        std::ptr::null()
    }

    extern "system" fn version_1_17() -> *const c_char {
        c"1.17.3".as_ptr()
    }

    extern "system" fn version_2_0() -> *const c_char {
        c"2.0.0".as_ptr()
    }

    static OLD: OrtApiBase = OrtApiBase {
        GetApi: no_api,
        GetVersionString: version_1_17,
    };

    static NEXT_MAJOR: OrtApiBase = OrtApiBase {
        GetApi: no_api,
        GetVersionString: version_2_0,
    };

    #[test]
    fn an_older_runtime_is_refused_with_both_versions_named() {
        // SAFETY: the table above is as complete as a runtime's.
        let error = unsafe { Host::new(&OLD) }.unwrap_err();
        assert_eq!(error, LoadError::TooOld("1.17.3".into()));
        let text = error.to_string();
        assert!(text.contains("1.24") && text.contains("1.17.3"), "{text}");
    }

    #[test]
    fn another_major_version_is_refused_before_its_table_is_asked_for() {
        // SAFETY: the table above is as complete as a runtime's.
        let error = unsafe { Host::new(&NEXT_MAJOR) }.unwrap_err();
        assert_eq!(error, LoadError::OtherMajor("2.0.0".into()));
    }

    #[test]
    fn a_version_that_is_no_number_is_refused() {
        assert!(check_major("").is_err());
        assert!(check_major("main").is_err());
        assert!(check_major("1.31.1").is_ok());
    }

    #[test]
    fn a_refusal_without_any_table_is_no_status_rather_than_a_crash() {
        let error = LoadError::TooOld("0.1".into());
        // SAFETY: the table above is as complete as a runtime's.
        assert!(unsafe { Host::refuse(&OLD, &error) }.0.is_null());
    }
}
