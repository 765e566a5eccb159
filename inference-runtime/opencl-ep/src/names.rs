//! What we are called.

use std::ffi::CStr;

/// The provider's name: what users select by, and what sessions report. ONNX Runtime's packaging guidance asks for
/// the ending.
pub(crate) const PROVIDER: &CStr = c"AfterglowPluginExecutionProvider";

/// The same, as text.
pub(crate) const PROVIDER_TEXT: &str = "AfterglowPluginExecutionProvider";

/// Who makes it.
pub(crate) const VENDOR: &CStr = c"Afterglow";

/// The workspace's version.
pub(crate) const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };

/// The prefix ONNX Runtime gives to options meant for us: the provider's name in lower case.
pub(crate) const OPTION_PREFIX: &str = "ep.afterglowpluginexecutionprovider.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_prefix_is_the_providers_name_in_lower_case() {
        let name = PROVIDER.to_str().unwrap().to_lowercase();
        assert_eq!(OPTION_PREFIX, format!("ep.{name}."));
        assert_eq!(PROVIDER.to_str().unwrap(), PROVIDER_TEXT);
    }
}
