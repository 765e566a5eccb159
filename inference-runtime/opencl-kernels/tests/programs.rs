//! Built programs on disk, replaced sources, and machines without OpenCL. What depends on environment variables runs in
//! a child process: this same test binary, told to run one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use opencl_kernels::ir::Attribute;
use opencl_kernels::runtime::{DeviceContext, DiskCache, Executor, default_device, devices};
use opencl_kernels::testing::{Case, tensor};
use opencl_kernels::{CompileOptions, Error, Program};

/// Set for child processes only.
const CHILD: &str = "AFTERGLOW_TEST_CHILD";

fn child(test: &str, variables: &[(&str, &Path)]) -> Output {
    let this = std::env::current_exe().expect("the test binary has a path");
    Command::new(this)
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .expect("the test binary starts again")
}

fn transpose(cache: DiskCache) -> opencl_kernels::Result<()> {
    let case = Case::new("Transpose", 13)
        .attr("perm", Attribute::Ints(vec![1, 0]))
        .input(tensor(&[4, 6], 1));
    let (graph, inputs) = case.graph(true);
    let program = Program::compile(graph, &CompileOptions::default())?;
    let expected = program.evaluate(&inputs)?;
    let context = DeviceContext::open_with(default_device()?, cache)?;
    let outputs = Executor::new(context, Arc::new(program))?.run_tensors(&inputs)?;
    assert_eq!(outputs, expected);
    Ok(())
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be listed").path())
        .map(|path| (path.clone(), fs::read(path).expect("the file can be read")))
        .collect();
    files.sort();
    files
}

#[test]
fn a_built_program_is_kept_on_disk_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(folder.path().join("made/when/needed"));
    transpose(cache.clone()).unwrap();
    let first = files(&folder.path().join("made/when/needed"));
    assert_eq!(first.len(), 1, "one program, nothing left over");
    transpose(cache).unwrap();
    assert_eq!(files(&folder.path().join("made/when/needed")), first);
}

#[test]
fn a_damaged_file_is_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(folder.path());
    transpose(cache.clone()).unwrap();
    let (path, good) = files(folder.path()).remove(0);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [&flipped[..], &good[..good.len() / 2], &good[..7], &[]] {
        fs::write(&path, bad).unwrap();
        transpose(cache.clone()).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), good.len(), "written anew");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    transpose(DiskCache::new(file.join("below"))).unwrap();
    transpose(DiskCache::none()).unwrap();
}

#[test]
fn a_replaced_source_that_does_not_compile_says_why() {
    let test = "a_replaced_source_that_does_not_compile_says_why";
    if std::env::var_os(CHILD).is_some() {
        let error = transpose(DiskCache::none()).unwrap_err();
        let Error::Build { program, log, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(program, "strided_copy.cl");
        assert!(
            log.contains("nonsense"),
            "the driver's log names the mistake: {log}"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("strided_copy.cl"), "nonsense").unwrap();
    let output = child(test, &[("AFTERGLOW_KERNELS", folder.path())]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn a_machine_without_drivers_has_no_devices() {
    let test = "a_machine_without_drivers_has_no_devices";
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(devices().unwrap().len(), 0);
        let error = default_device().unwrap_err();
        assert!(matches!(error, Error::NoDevice(_)), "{error}");
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    let output = child(test, &[("OCL_ICD_VENDORS", empty.path())]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn a_library_that_is_not_opencl_offers_no_devices() {
    let test = "a_library_that_is_not_opencl_offers_no_devices";
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(devices().unwrap().len(), 0);
        return;
    }
    // The binding's own variable for the loader's path. It falls back to the system's loader if the file is missing,
    // so a machine without any can only be had by a library that loads and lacks OpenCL's functions.
    let output = child(test, &[("OPENCL_DYLIB_PATH", Path::new("libc.so.6"))]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn a_device_describes_itself() {
    let all = devices().unwrap();
    assert!(!all.is_empty(), "tests need an OpenCL device");
    for device in all {
        let info = device.info();
        assert!(
            !info.name.is_empty() && !info.driver_version.is_empty(),
            "{info:?}"
        );
        assert!(
            info.compute_units > 0 && info.global_memory > 0 && info.alignment.is_power_of_two(),
            "{info:?}"
        );
    }
}
