//! What the example and the driver print on standard error, as figures of kernels.

use anyhow::{Context, Result, bail, ensure};

/// Figures of one kernel. The driver compiles some kernels in several variants; each figure is the worst of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) options: String,
    pub(super) vgprs: u64,
    pub(super) sgprs: u64,
    /// Bytes a work-group.
    pub(super) lds: u64,
    /// Bytes a wave.
    pub(super) scratch: u64,
    /// Registers of either kind.
    pub(super) spills: u64,
    /// Bytes.
    pub(super) code: u64,
    /// The least over the variants.
    pub(super) waves: Option<u64>,
    /// `CL_KERNEL_PRIVATE_MEM_SIZE`: bytes a work-item.
    pub(super) private: u64,
}

/// Everything that was printed, understood.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) device: String,
    pub(super) kernels: Vec<Kernel>,
}

impl Log {
    /// Reads the output of a run.
    ///
    /// # Errors
    /// If a kernel has no figures, or figures belong to no kernel: a gate that measured nothing must not pass.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut log = Self::default();
        let mut open: Option<Kernel> = None;
        let mut built = None;
        for line in text.lines() {
            if let Some(device) = line.strip_prefix("DEVICE ") {
                device.clone_into(&mut log.device);
            } else if let Some(names) = line.strip_prefix("BEGIN ") {
                ensure!(
                    open.is_none(),
                    "'{line}' comes before the kernel in front of it ended"
                );
                open = Some(begin(names));
            } else if let Some(memory) = line.strip_prefix("END ") {
                let mut kernel = open.take().context("an END without a BEGIN")?;
                let private = memory.split(' ').next().unwrap_or_default();
                kernel.private = private.parse().with_context(|| format!("read '{line}'"))?;
                if kernel.waves.is_none() {
                    bail!("the driver said nothing of {} in {}", kernel.name, kernel.file);
                }
                log.kernels.push(kernel);
            } else if let Some(count) = line.strip_prefix("BUILT ") {
                built = count.parse().ok();
            } else if let Some((name, value)) = figure(line) {
                let kernel = open
                    .as_mut()
                    .with_context(|| format!("'{line}' belongs to no kernel"))?;
                note(kernel, name, value);
            }
        }
        ensure!(
            built == Some(log.kernels.len()) && built != Some(0),
            "{} kernels read, {built:?} built",
            log.kernels.len()
        );
        Ok(log)
    }
}

fn begin(names: &str) -> Kernel {
    let mut parts = names.splitn(3, ' ').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Kernel {
        file: part(),
        name: part(),
        options: part(),
        ..Kernel::default()
    }
}

/// `Code Size: 916 bytes` → `("Code Size", 916)`; `None` for lines that are no figure of a shader.
fn figure(line: &str) -> Option<(&str, u64)> {
    const NAMES: [&str; 9] = [
        "SGPRS",
        "VGPRS",
        "Spilled SGPRs",
        "Spilled VGPRs",
        "Private memory VGPRs",
        "Code Size",
        "LDS",
        "Scratch",
        "Max Waves",
    ];
    let (name, value) = line.split_once(": ")?;
    let value = value.split(' ').next()?.parse().ok()?;
    NAMES.contains(&name).then_some((name, value))
}

fn note(kernel: &mut Kernel, name: &str, value: u64) {
    let worst = match name {
        "SGPRS" => &mut kernel.sgprs,
        "VGPRS" => &mut kernel.vgprs,
        "Spilled SGPRs" | "Spilled VGPRs" => &mut kernel.spills,
        "Code Size" => &mut kernel.code,
        "LDS" => &mut kernel.lds,
        "Scratch" => &mut kernel.scratch,
        "Max Waves" => {
            kernel.waves = Some(kernel.waves.map_or(value, |waves| waves.min(value)));
            return;
        }
        // Counted in `Scratch`.
        _ => return,
    };
    *worst = value.max(*worst);
}

#[cfg(test)]
mod tests {
    use super::Log;

    const BLOCK: &str = "*** SHADER STATS ***\nSGPRS: 48\nVGPRS: 12\nSpilled SGPRs: 0\nSpilled VGPRs: 3\n\
        Private memory VGPRs: 2\nCode Size: 572 bytes\nLDS: 0 bytes\nScratch: 1024 bytes per wave\nMax Waves: 8\n";

    #[test]
    fn the_worst_variant_counts() {
        let better = BLOCK
            .replace("VGPRS: 12", "VGPRS: 40")
            .replace("Waves: 8", "Waves: 6");
        let better = better.replace("1024", "0");
        let text = format!("DEVICE a card\nBEGIN f.cl k -DA=1 -DB\n{BLOCK}{better}END 16 0\nBUILT 1\n");
        let log = Log::parse(&text).unwrap();
        let [kernel] = log.kernels.as_slice() else {
            panic!("{log:?}");
        };
        assert_eq!((kernel.file.as_str(), kernel.name.as_str()), ("f.cl", "k"));
        assert_eq!(kernel.options, "-DA=1 -DB");
        assert_eq!((kernel.vgprs, kernel.spills, kernel.scratch), (40, 3, 1024));
        assert_eq!((kernel.waves, kernel.private, kernel.code), (Some(6), 16, 572));
    }

    #[test]
    fn a_log_without_figures_is_an_error() {
        assert!(Log::parse("BEGIN f.cl k \nEND 0 0\nBUILT 1\n").is_err());
        assert!(Log::parse("").is_err());
        assert!(Log::parse("BUILT 0\n").is_err());
        assert!(Log::parse(&format!("{BLOCK}BUILT 0\n")).is_err());
    }
}
