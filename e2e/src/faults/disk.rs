//! The disk of a node's model cache: full, or not to be written. Only where it is a small one of its own: the machine's disk
//! is everybody's.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{run, until};

/// What fills it.
const FILLER: &str = "filler";
/// Larger than any disk that a harness makes small.
const SMALL: u64 = 1 << 30;

/// Leaves not a byte.
pub(super) fn fill(disk: &Path) -> Result<()> {
    small(disk)?;
    let path = disk.join(FILLER);
    let mut file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let block = vec![0; 1 << 20];
    let mut size = block.len();
    // Whole blocks while they fit, then ever smaller ones.
    while size > 0 {
        match file.write(&block[..size]) {
            Ok(0) => size /= 2,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => size /= 2,
            Err(error) => return Err(error).with_context(|| format!("fill {}", disk.display())),
        }
    }
    Ok(())
}

/// The end of that.
pub(super) fn free(disk: &Path) -> Result<()> {
    let path = disk.join(FILLER);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Has every write refused, also those of programs that run.
pub(super) fn lock(disk: &Path) -> Result<()> {
    small(disk)?;
    // While somebody writes to a file there, the kernel refuses.
    until("the disk is read-only", Duration::from_secs(20), || {
        remount(disk, "ro").map(Some)
    })
}

/// The end of that.
pub(super) fn unlock(disk: &Path) -> Result<()> {
    if small(disk).is_err() {
        return Ok(()); // it was never locked
    }
    remount(disk, "rw")
}

fn remount(disk: &Path, how: &str) -> Result<()> {
    run(&["mount", "-o", &format!("remount,{how}"), &disk.to_string_lossy()])
}

fn small(disk: &Path) -> Result<()> {
    let found =
        rustix::fs::statvfs(disk).with_context(|| format!("ask for the size of {}", disk.display()))?;
    let bytes = found.f_blocks.saturating_mul(found.f_frsize);
    ensure!(
        bytes < SMALL,
        "{} lies on a disk of {} MiB that is not the node's alone: give the node a small one first (afterglow-e2e node small-disk \
         NODE)",
        disk.display(),
        bytes >> 20
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_disk_is_never_filled() {
        let folder = std::env::temp_dir();
        // A machine whose /tmp is this small is told apart by nothing: then there is nothing to show.
        if small(&folder).is_err() {
            let refused = fill(&folder).expect_err("it is not filled").to_string();
            assert!(refused.contains("small-disk"), "{refused}");
            assert!(!folder.join(FILLER).exists());
        }
    }
}
