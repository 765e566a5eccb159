//! The self-test passes on a device that computes and fails on one that does not; the measurement makes sense.

use std::process::Command;

use opencl_kernels::selftest::{Verdict, measure, self_test};
use opencl_kernels::testing::device;

/// Set for child processes only.
const CHILD: &str = "AFTERGLOW_TEST_CHILD";

#[test]
fn a_device_that_computes_passes() {
    assert_eq!(self_test(&device()), Verdict::Pass);
}

/// A broken card, had by breaking a kernel for a child process.
#[test]
fn a_device_that_computes_garbage_or_nothing_fails() {
    let test = "a_device_that_computes_garbage_or_nothing_fails";
    if std::env::var_os(CHILD).is_some() {
        let verdict = self_test(&device());
        let Verdict::Fail { reason } = &verdict else {
            panic!("{verdict:?}");
        };
        assert!(
            reason.starts_with("memory: wrong in the first run: output 0, element "),
            "{reason}"
        );
        return;
    }
    let source = include_str!("../src/ops/movement/strided_copy.cl");
    let garbage = source
        .replace("= source[from", "= 1 ^ source[from")
        .replace("= tile[x]", "= 1 ^ tile[x]");
    let nothing = source.replace("target[to", "if (get_work_dim() > 9) target[to");
    for broken in [garbage, nothing] {
        assert_ne!(broken, source);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("strided_copy.cl"), broken).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .env("AFTERGLOW_KERNELS", folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_measurement_has_plausible_numbers() {
    let measured = measure(&device()).unwrap();
    println!("{measured:?}");
    let all = [
        measured.gflops,
        measured.copy_gb_per_s,
        measured.upload_gb_per_s,
        measured.download_gb_per_s,
        measured.launch_us,
    ];
    assert!(all.iter().all(|x| x.is_finite() && *x > 0.0), "{measured:?}");
}
