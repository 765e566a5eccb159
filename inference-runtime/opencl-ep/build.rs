//! Marks the library as one that stays mapped.

fn main() {
    // A host that unregisters the library while a session lives calls into it afterwards, and OpenCL runtimes keep
    // threads of their own: unmapping the code under them would be a crash without a message.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
