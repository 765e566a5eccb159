//! Giving memory back.

/// Gives memory that nobody uses back to the operating system.
///
/// ONNX Runtime allocates through the C library, whose heap keeps freed pages: without this an unloaded model's
/// gigabyte stays in the process until something else needs it. Takes milliseconds; call it after large frees only.
pub fn release_unused_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` is thread-safe and touches only free memory of the C library's heap.
    unsafe {
        libc::malloc_trim(0);
    }
}
