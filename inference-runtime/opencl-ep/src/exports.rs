//! The two functions that ONNX Runtime looks up in the library.

use std::ffi::c_char;

use ort_ep_sys::{Host, OrtApiBase, OrtEpFactory, OrtLogger, OrtStatusPtr};

use crate::factory::Shared;
use crate::failure::{Failure, guard, guard_silent};

/// Makes the one factory of this library.
///
/// # Safety
/// Called by ONNX Runtime, with its own pointers.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn CreateEpFactories(
    _registered_name: *const c_char,
    api_base: *const OrtApiBase,
    _default_logger: *const OrtLogger,
    factories: *mut *mut OrtEpFactory,
    max_factories: usize,
    num_factories: *mut usize,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes its table, which lives as long as the runtime.
    let base = unsafe { &*api_base };
    // SAFETY: as above.
    let host = match unsafe { Host::new(base) } {
        Ok(host) => host,
        // SAFETY: as above.
        Err(error) => return unsafe { Host::refuse(base, &error) },
    };
    guard(host, "creating the factory", || {
        if max_factories == 0 {
            return Err(Failure::invalid("the runtime leaves no room for a factory"));
        }
        // SAFETY: the runtime passes room for `max_factories` and a place for the number.
        unsafe {
            *factories = Shared::new(host).into_raw();
            *num_factories = 1;
        }
        Ok(())
    })
}

/// Takes the runtime's reference to the factory back; providers that still live keep its memory.
///
/// # Safety
/// Called by ONNX Runtime, once per factory.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ReleaseEpFactory(factory: *mut OrtEpFactory) -> OrtStatusPtr {
    // SAFETY: the runtime gives back what `CreateEpFactories` wrote, once.
    guard_silent((), || unsafe { Shared::release(factory) });
    OrtStatusPtr::default()
}
