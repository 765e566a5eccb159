//! The probe itself: every step from a file to a profile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::measure::{latency, resident_bytes};
use super::{
    Comparison, ModelProfile, ReasonCode, Shapes, Verdict, check_placement, compare, describe_placement,
    synthesize,
};
use crate::api::{Error, NamedTensor, Result, TensorSpec};
use crate::devices::Sensors;
use crate::onnx::{self, Checked};
use crate::repository::{PlacementRule, Settings, Task};
use crate::session::{Device, Port, Session};
use crate::text::Encoder;

/// What is tried, and where.
pub(crate) struct Trial {
    /// How the user named it.
    pub(crate) name: String,
    /// The ONNX file; the version's folder is around it.
    pub(crate) model: PathBuf,
    /// What the digest is over: the version's folder, or a file that lies somewhere.
    pub(crate) scope: PathBuf,
    /// The owner's settings.
    pub(crate) settings: Settings,
    /// The device.
    pub(crate) device: Device,
    /// For all measured runs together.
    pub(crate) budget: Duration,
}

/// Texts of an embedding model's probe: short, long, not ASCII, empty.
const TEXTS: [&str; 8] = [
    "The cat sits outside.",
    "",
    "A man is playing a guitar in front of a large crowd while the sun goes down behind the old town hall.",
    "Größe, naïveté, 東京, привет, 🙂",
    "ok",
    "How do I reset the password of my account when I no longer have access to the e-mail address I signed up with?",
    "x = y + 1;",
    "Retired graphics cards still have years of arithmetic in them.",
];

/// What free extents are tried as, in this order: first what is cheap, then what image networks need.
const FREE_EXTENTS: [usize; 6] = [16, 1, 32, 64, 224, 4];

/// Rows of a batch where the owner says nothing and the model's shapes allow it.
const DEFAULT_BATCH: usize = 8;

impl Trial {
    /// Runs the probe. A model that may not be served is a profile with the reason, not an error.
    pub(crate) fn run(self) -> ModelProfile {
        let runtime = self.device.runtime();
        let mut profile = ModelProfile {
            model: self.name.clone(),
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            onnxruntime: runtime.version(),
            device: self.device.label(),
            device_details: self.device.details().to_vec(),
            ..Default::default()
        };
        match self.fill(&mut profile) {
            Ok(()) => profile.verdict = Verdict::Passed,
            Err(Refusal(code, error)) => {
                profile.reason_code = Some(if out_of_memory(&error.message) {
                    ReasonCode::OutOfMemory
                } else {
                    code
                });
                profile.reason = error.message;
            }
        }
        profile
    }

    fn fill(&self, profile: &mut ModelProfile) -> Result<(), Refusal> {
        let folder = self.model.parent().unwrap_or(Path::new("."));
        profile.digest = crate::repository::digest(&self.scope, &self.settings)
            .map_err(|e| Error::unavailable(format!("the model's files cannot be read: {e}")))?;
        let checked = onnx::validate(&self.model)?;
        profile.nodes = checked.nodes;
        profile.open_rank.clone_from(&checked.open_rank);

        let cpu = Device::cpu(self.device.runtime());
        let device = if self.settings.placement == PlacementRule::Cpu {
            &cpu
        } else {
            &self.device
        };
        let (before, started) = (resident_bytes(), Instant::now());
        let mut reference = Session::open(&cpu, &self.model)?;
        profile.reference_load_seconds = started.elapsed().as_secs_f64();
        profile.host_bytes = resident_bytes().saturating_sub(before);
        let (inputs, outputs) = (reference.inputs().to_vec(), reference.outputs().to_vec());

        let source = self.source(folder, &inputs, &outputs)?;
        let batching = batching(&self.settings, &inputs, &outputs, &checked)?;
        let rows = |batch: usize| (batching.most > 0).then_some(batch);
        let source = source.settle(rows(1), &mut reference)?;
        profile.free_extent = source.free;
        self.decide_batching(profile, batching, &source, &mut reference)?;
        let most = profile.max_batch_size;
        let rows = |batch: usize| (most > 0).then_some(batch);

        let mut subject = if device.is_cpu() {
            profile.load_seconds = profile.reference_load_seconds;
            profile.placement = describe_placement(device, reference.placed());
            reference
        } else {
            let sensors = Sensors::of(device);
            let (before, used, started) = (resident_bytes(), sensors.memory_used(), Instant::now());
            let mut subject = Session::open(device, &self.model).map_err(because(ReasonCode::Failed))?;
            profile.load_seconds = started.elapsed().as_secs_f64();
            profile.host_bytes = resident_bytes().saturating_sub(before);
            profile.placement = describe_placement(device, subject.placed());
            check_placement(
                device,
                subject.placed(),
                self.settings.placement,
                &checked.shape_nodes,
            )
            .map_err(because(ReasonCode::Placement))?;
            self.compare(profile, &source, &mut reference, &mut subject)?;
            // After the largest batch: arenas have grown to their size.
            profile.device_bytes = sensors
                .memory_used()
                .zip(used)
                .map(|(now, then)| now.saturating_sub(then));
            subject
        };
        self.measure(profile, &source, &mut subject, rows)
            .map_err(because(ReasonCode::Failed))
    }

    fn source<'a>(&'a self, folder: &Path, inputs: &'a [Port], outputs: &[Port]) -> Result<Source<'a>> {
        let encoder = match self.settings.task {
            Task::Tensor => None,
            Task::Embedding => {
                let settings = self.settings.embedding.clone().unwrap_or_default();
                Some(Encoder::load(folder, &settings, &specs(inputs), &specs(outputs))?)
            }
        };
        for name in self
            .settings
            .probe
            .inputs
            .keys()
            .chain(self.settings.warm_up.iter().flat_map(|run| run.shapes.keys()))
        {
            if !inputs.iter().any(|port| port.name == *name) {
                return Err(Error::unavailable(format!(
                    "model.yaml: the model has no input `{name}`"
                )));
            }
        }
        let given = self
            .settings
            .probe
            .inputs
            .iter()
            .filter_map(|(name, input)| Some((name.as_str(), input.shape.as_deref()?)));
        // Shapes of a warm-up are shapes that the owner knows to work.
        let warm = self
            .settings
            .warm_up
            .iter()
            .flat_map(|run| run.shapes.iter().map(|(n, s)| (n.as_str(), s.as_slice())));
        Ok(Source {
            ports: inputs,
            encoder,
            given: warm.chain(given).collect(),
            ranges: &self.settings.probe.inputs,
            free: FREE_EXTENTS[0],
        })
    }

    /// Whether rows are independent: a batch of two must be its two rows, run singly.
    fn decide_batching(
        &self,
        profile: &mut ModelProfile,
        batching: Batching,
        source: &Source<'_>,
        reference: &mut Session,
    ) -> Result<()> {
        profile.max_batch_size = batching.most;
        profile.not_batched = batching.why_not;
        if batching.most < 2 {
            return Ok(());
        }
        let Err(reason) = self.rows_are_independent(source, reference) else {
            return Ok(());
        };
        if batching.demanded {
            return Err(Error::unavailable(format!(
                "batching.maxBatchSize is {}, and the model's first axes are no batch: {reason}",
                batching.most
            )));
        }
        profile.max_batch_size = 0;
        profile.not_batched = reason;
        Ok(())
    }

    fn rows_are_independent(
        &self,
        source: &Source<'_>,
        reference: &mut Session,
    ) -> std::result::Result<(), String> {
        let both = source.inputs(Some(2)).map_err(|e| e.message)?;
        let together = run(reference, &both).map_err(|e| format!("a batch of 2 fails: {}", e.message))?;
        for output in &together {
            if output.tensor.shape.first() != Some(&2) {
                return Err(format!(
                    "output `{}` has the shape {:?} for a batch of 2",
                    output.name, output.tensor.shape
                ));
            }
        }
        let halves = crate::model::scatter(both, &[1, 1]).map_err(|e| e.message)?;
        let parts = crate::model::scatter(together, &[1, 1]).map_err(|e| e.message)?;
        for (half, part) in halves.iter().zip(&parts) {
            let alone =
                run(reference, half).map_err(|e| format!("a row of a batch fails alone: {}", e.message))?;
            let again = run(reference, half).map_err(|e| e.message)?;
            let noise = compare::compare(1, &alone, &again, self.settings.probe.tolerance)?;
            for (c, noise) in compare::compare(1, &alone, part, self.settings.probe.tolerance)?
                .iter()
                .zip(noise)
            {
                if c.beyond > 0 && noise.beyond == 0 {
                    return Err(format!(
                        "output `{}` of a row depends on the other rows of its batch",
                        c.output
                    ));
                }
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        profile: &mut ModelProfile,
        source: &Source<'_>,
        reference: &mut Session,
        subject: &mut Session,
    ) -> Result<(), Refusal> {
        let most = profile.max_batch_size;
        let sizes: BTreeSet<usize> = if most == 0 {
            BTreeSet::from([1])
        } else {
            BTreeSet::from([1, 2.min(most), most])
        };
        for batch in sizes {
            let inputs = source.inputs((most > 0).then_some(batch))?;
            let expected = run(reference, &inputs)?;
            let got = run(subject, &inputs)
                .map_err(|e| Error::unavailable(format!("on {}: {}", profile.device, e.message)))
                .map_err(because(ReasonCode::Failed))?;
            let differs = |reason: String| Refusal(ReasonCode::Mismatch, Error::unavailable(reason));
            let tolerance = self.settings.probe.tolerance;
            let mut comparisons = compare::compare(batch, &expected, &got, tolerance).map_err(differs)?;
            if comparisons.iter().any(|c| c.beyond > 0) {
                // Random operators differ from themselves.
                let again = run(reference, &inputs)?;
                let noise =
                    compare::compare(batch, &expected, &again, tolerance).map_err(Error::unavailable)?;
                for (c, noise) in comparisons.iter_mut().zip(noise) {
                    c.not_deterministic = noise.beyond > 0;
                }
            }
            let wrong: Vec<String> = comparisons
                .iter()
                .filter(|c| c.beyond > 0 && !c.not_deterministic)
                .map(describe)
                .collect();
            profile.comparisons.extend(comparisons);
            if !wrong.is_empty() {
                return Err(differs(format!(
                    "{} computes something else than ONNX Runtime's CPU provider: {} (probe.tolerance in model.yaml)",
                    profile.device,
                    wrong.join("; ")
                )));
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        profile: &mut ModelProfile,
        source: &Source<'_>,
        subject: &mut Session,
        rows: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let most = profile.max_batch_size.max(1);
        let sizes: Vec<usize> = std::iter::successors(Some(1usize), |n| n.checked_mul(2))
            .take_while(|&n| n < most)
            .chain([most])
            .collect();
        let started = Instant::now();
        for (i, &batch) in sizes.iter().enumerate() {
            let left = self.budget.saturating_sub(started.elapsed());
            // Three runs and the uncounted one, if time grows with the batch.
            let expected = profile
                .latencies
                .last()
                .map_or(0.0, |l| 8.0 * l.p50_milliseconds / 1e3);
            if left.as_secs_f64() < expected {
                break;
            }
            let inputs = source.inputs(rows(batch))?;
            let share = left / (sizes.len() - i) as u32;
            profile.latencies.push(latency(subject, batch, &inputs, share)?);
        }
        Ok(())
    }
}

/// Why the trial ended, for programs and for people.
#[derive(Debug)]
struct Refusal(ReasonCode, Error);

/// Until the device comes into play it is the model's own fault.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(ReasonCode::Invalid, error)
    }
}

fn because(code: ReasonCode) -> impl Fn(Error) -> Refusal {
    move |error| Refusal(code, error)
}

/// What ONNX Runtime and OpenCL drivers say when there is no more memory; codes would tell, but only texts come through.
fn out_of_memory(text: &str) -> bool {
    [
        "Failed to allocate memory",
        "not enough memory",
        "CL_MEM_OBJECT_ALLOCATION_FAILURE",
        "CL_OUT_OF_RESOURCES",
        "CL_OUT_OF_HOST_MEMORY",
        "bad_alloc",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

fn describe(c: &Comparison) -> String {
    format!(
        "output `{}` at batch {}: {} elements off, by up to {:.3e} ({:.3e} relative)",
        c.output, c.batch, c.beyond, c.max_absolute, c.max_relative
    )
}

fn run(session: &mut Session, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>> {
    session.run(inputs, &crate::session::RunHandle::new()?)
}

fn specs(ports: &[Port]) -> Vec<TensorSpec> {
    signature_ports(ports)
}

/// Ports as the protocol shows them.
pub(crate) fn signature_ports(ports: &[Port]) -> Vec<TensorSpec> {
    ports
        .iter()
        .map(|port| TensorSpec {
            name: port.name.clone(),
            datatype: port.datatype,
            shape: port.shape.clone(),
        })
        .collect()
}

/// Where inputs come from.
struct Source<'a> {
    ports: &'a [Port],
    encoder: Option<Encoder>,
    given: BTreeMap<&'a str, &'a [usize]>,
    ranges: &'a BTreeMap<String, crate::repository::ProbeInput>,
    free: usize,
}

impl Source<'_> {
    /// Finds extents that the reference accepts.
    fn settle(mut self, batch: Option<usize>, reference: &mut Session) -> Result<Self> {
        if self.encoder.is_some() {
            run(reference, &self.inputs(batch)?)?;
            return Ok(self);
        }
        let mut first = None;
        for free in FREE_EXTENTS {
            self.free = free;
            match self.inputs(batch).and_then(|inputs| run(reference, &inputs)) {
                Ok(_) => return Ok(self),
                Err(error) => first = first.or(Some(error)),
            }
            if self.ports.iter().all(|port| {
                port.shape
                    .iter()
                    .skip(usize::from(batch.is_some()))
                    .all(|&d| d >= 0)
            }) {
                // Nothing is free.
                break;
            }
        }
        let reason = first.map(|e| e.message).unwrap_or_default();
        Err(Error::unavailable(format!(
            "the probe found no inputs that the model accepts: {reason}; probe.inputs.NAME.shape, minimum and maximum in \
             model.yaml say what they look like"
        )))
    }

    fn inputs(&self, batch: Option<usize>) -> Result<Vec<NamedTensor>> {
        let Some(encoder) = &self.encoder else {
            let shapes = Shapes {
                batch,
                given: self.given.clone(),
                free: self.free,
            };
            return synthesize(self.ports, &shapes, self.ranges, 1);
        };
        let texts = TEXTS.iter().cycle().take(batch.unwrap_or(1));
        let tokens = texts
            .map(|text| encoder.tokens(text))
            .collect::<Result<Vec<_>>>()?;
        Ok(encoder.batch(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }
}

/// Whether and how far requests may be merged, before anything ran.
#[derive(Debug, PartialEq, Eq)]
struct Batching {
    most: usize,
    /// The owner wants it: what stands against it is an error.
    demanded: bool,
    why_not: String,
}

/// What the settings and the shapes say of batching.
fn batching(settings: &Settings, inputs: &[Port], outputs: &[Port], checked: &Checked) -> Result<Batching> {
    let wanted = settings.batching.max_batch_size;
    let alone = |why_not: String| Batching {
        most: 0,
        demanded: false,
        why_not,
    };
    if wanted == Some(0) {
        return Ok(alone(String::new()));
    }
    let fixed = inputs
        .iter()
        .chain(outputs)
        .find(|port| port.shape.first().is_none_or(|&d| d >= 0) || checked.open_rank.contains(&port.name));
    match (wanted, fixed) {
        (Some(most), None) => Ok(Batching {
            most,
            demanded: true,
            why_not: String::new(),
        }),
        (Some(most), Some(port)) => Err(Error::unavailable(format!(
            "batching.maxBatchSize is {most}, and the first axis of `{}` {:?} is no batch axis",
            port.name, port.shape
        ))),
        (None, Some(port)) => Ok(alone(format!(
            "the first axis of `{}` {:?} is no batch axis",
            port.name, port.shape
        ))),
        (None, None) => {
            // A single free axis may be a batch or the very thing the model computes over; only the owner knows.
            if let Some(port) = inputs.iter().find(|port| port.shape.len() < 2) {
                return Ok(alone(format!(
                    "the only axis of `{}` may be a batch or not (batching.maxBatchSize)",
                    port.name
                )));
            }
            let symbols: BTreeSet<&str> = inputs
                .iter()
                .chain(outputs)
                .filter_map(|port| port.symbols.first())
                .map(String::as_str)
                .filter(|s| !s.is_empty())
                .collect();
            if inputs
                .iter()
                .filter_map(|port| port.symbols.first())
                .filter(|s| !s.is_empty())
                .collect::<BTreeSet<_>>()
                .len()
                > 1
            {
                return Ok(alone(format!(
                    "the inputs' first axes have different names: {symbols:?}"
                )));
            }
            Ok(Batching {
                most: DEFAULT_BATCH,
                demanded: false,
                why_not: String::new(),
            })
        }
    }
}
