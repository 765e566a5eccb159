//! Giving memory back.

/// From this size on an allocation is a mapping of its own, which goes back to the operating system when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPING_FROM: libc::c_int = 1 << 20;

/// Keeps the C library's heap from growing with every load and unload; call it before any thread is started.
///
/// Left alone, glibc raises the size from which it maps allocations to that of the largest one freed, so a second
/// model's weights land in a heap that small survivors then keep from shrinking, once per arena.
pub fn keep_heap_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets parameters of the C library's allocator, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPING_FROM);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives memory that nobody uses back to the operating system.
///
/// ONNX Runtime allocates through the C library, whose heap keeps freed pages: without this an unloaded model's
/// gigabyte stays in the process until something else needs it. Takes milliseconds; call it after large frees only.
///
/// The top of an arena that is not the main one is left as it is (glibc 2.36, `mtrim`), until the next large free in it: now and
/// then some of what was just freed stays that long, of a small model up to 12 MiB. With one arena it never does, but tiny
/// requests over gRPC were 6 % slower then, sixteen at a time on two processors.
pub fn release_unused_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` is thread-safe and touches only free memory of the C library's heap.
    unsafe {
        libc::malloc_trim(0);
    }
}
