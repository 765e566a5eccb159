//! Images made of files, without a builder: the few that the cluster itself runs.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::command::output;
use crate::tools::Tools;

/// The images of the cluster itself: made once, and again when what is in them changes.
pub fn base(tools: &Tools) -> Result<Vec<PathBuf>> {
    let folder = &tools.target.join("images");
    let program = |name: &str| tools.bin.join(name);
    let applets = output(&[&tools.program("busybox"), "--list"])?;
    let applets: Vec<&str> = applets.lines().filter(|applet| *applet != "busybox").collect();
    let images = [
        Image {
            name: "pause",
            program: program("pause"),
            links: &[],
            entrypoint: &["/bin/pause"],
        },
        Image {
            name: "busybox",
            program: program("busybox"),
            links: &applets,
            entrypoint: &[],
        },
        Image {
            name: "coredns",
            program: program("coredns"),
            links: &[],
            entrypoint: &["/bin/coredns"],
        },
    ];
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    images.iter().map(|image| image.archive(folder)).collect()
}

struct Image<'a> {
    name: &'a str,
    program: PathBuf,
    links: &'a [&'a str],
    entrypoint: &'a [&'a str],
}

impl Image<'_> {
    /// `localhost/NAME:1` as a docker-archive.
    fn archive(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{}.tar", self.name));
        if newer(&path, &self.program) {
            return Ok(path);
        }
        let layer = folder.join(format!("{}.layer", self.name));
        let digest = self
            .layer(&layer)
            .with_context(|| format!("write the layer of {}", self.name))?;
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Entrypoint": self.entrypoint, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "e2e"}],
        })
        .to_string();
        let name = format!("{:x}.json", Sha256::digest(&config));
        let manifest = json!([{
            "Config": name, "RepoTags": [format!("localhost/{}:1", self.name)], "Layers": ["layer.tar"],
        }])
        .to_string();
        let partial = path.with_extension("partial");
        let mut archive =
            Builder::new(File::create(&partial).with_context(|| format!("write {}", partial.display()))?);
        for (name, text) in [(name.as_str(), &config), ("manifest.json", &manifest)] {
            let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
            archive.append_data(&mut header, name, text.as_bytes())?;
        }
        archive.append_path_with_name(&layer, "layer.tar")?;
        archive.into_inner()?.flush()?;
        fs::remove_file(&layer)?;
        fs::rename(&partial, &path).with_context(|| format!("name {}", path.display()))?;
        Ok(path)
    }

    fn layer(&self, path: &Path) -> Result<String> {
        let mut layer = Builder::new(File::create(path)?);
        for folder in ["bin/", "etc/", "var/", "proc/", "sys/", "dev/", "root/"] {
            layer.append_data(&mut header(EntryType::Directory, 0o755, 0), folder, io::empty())?;
        }
        layer.append_data(&mut header(EntryType::Directory, 0o1777, 0), "tmp/", io::empty())?;
        let program =
            File::open(&self.program).with_context(|| format!("open {}", self.program.display()))?;
        let mut entry = header(EntryType::Regular, 0o755, program.metadata()?.len());
        layer.append_data(&mut entry, format!("bin/{}", self.name), program)?;
        for link in self.links {
            let mut entry = header(EntryType::Symlink, 0o777, 0);
            layer.append_link(&mut entry, format!("bin/{link}"), self.name)?;
        }
        layer.into_inner()?.flush()?;
        digest(path)
    }
}

/// SHA-256 of a file, in hexadecimal digits.
fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn newer(made: &Path, of: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    matches!((time(made), time(of)), (Ok(made), Ok(of)) if made > of)
}
