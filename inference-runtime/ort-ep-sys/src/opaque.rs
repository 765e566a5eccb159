//! Types that only the runtime looks into.

use std::marker::{PhantomData, PhantomPinned};

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            _opaque: [u8; 0],
            _unmovable: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

opaque! {
    /// Collects the claims of one `GetCapability`.
    OrtEpGraphSupportInfo,
    /// Tells `CreateState` which fused node it is for.
    OrtNodeComputeContext,
    /// Where a tensor lies.
    OrtMemoryDevice,
    /// A stream; we offer none.
    OrtSyncStream,
}
