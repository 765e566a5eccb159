//! The runtime's key-value lists.

use std::ffi::{CStr, CString};
use std::{ptr, slice};

use ort_ep_sys::{Host, HostError, OrtKeyValuePairs, OrtSessionOptions};

/// A list of ours.
#[derive(Debug)]
pub(crate) struct Pairs {
    host: Host,
    pairs: *mut OrtKeyValuePairs,
}

impl Pairs {
    /// A list of these pairs.
    pub(crate) fn of<'a>(host: Host, entries: impl IntoIterator<Item = (&'a CStr, String)>) -> Self {
        let mut pairs = ptr::null_mut();
        // SAFETY: the runtime makes the list; it is ours.
        unsafe { (host.api.CreateKeyValuePairs)(&raw mut pairs) };
        for (key, value) in entries {
            // A driver's name may hold anything but a NUL.
            let value = CString::new(value.replace('\0', "")).unwrap_or_default();
            // SAFETY: the list is alive; the runtime copies both texts.
            unsafe { (host.api.AddKeyValuePair)(pairs, key.as_ptr(), value.as_ptr()) };
        }
        Self { host, pairs }
    }

    /// The configuration of a session.
    ///
    /// # Safety
    /// `options` is alive.
    pub(crate) unsafe fn of_session(
        host: Host,
        options: *const OrtSessionOptions,
    ) -> Result<Self, HostError> {
        let mut pairs = ptr::null_mut();
        // SAFETY: the caller's promise; the list is ours.
        host.check(unsafe { (host.api.GetSessionOptionsConfigEntries)(options, &raw mut pairs) })?;
        Ok(Self { host, pairs })
    }

    /// The runtime's handle.
    pub(crate) fn handle(&self) -> *const OrtKeyValuePairs {
        self.pairs
    }

    /// Copies of all pairs; one that is not text is left out.
    pub(crate) fn entries(&self) -> Vec<(String, String)> {
        let (mut keys, mut values, mut count) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list is alive; the arrays are borrowed from it.
        unsafe {
            (self.host.api.GetKeyValuePairs)(self.pairs, &raw mut keys, &raw mut values, &raw mut count);
            if count == 0 || keys.is_null() || values.is_null() {
                return Vec::new();
            }
            slice::from_raw_parts(keys, count)
                .iter()
                .zip(slice::from_raw_parts(values, count))
                .filter_map(|(&key, &value)| Some((text(key)?, text(value)?)))
                .collect()
        }
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        // SAFETY: released once; the runtime copies what it keeps.
        unsafe { (self.host.api.ReleaseKeyValuePairs)(self.pairs) };
    }
}

/// One value of somebody else's list.
///
/// # Safety
/// `pairs` is null or alive.
pub(crate) unsafe fn value_of(host: Host, pairs: *const OrtKeyValuePairs, key: &CStr) -> Option<String> {
    if pairs.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; the text is borrowed from the list.
    unsafe { text((host.api.GetKeyValue)(pairs, key.as_ptr())) }
}

/// # Safety
/// `text` is null or ends with NUL.
unsafe fn text(text: *const std::ffi::c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().ok().map(str::to_owned)
}
