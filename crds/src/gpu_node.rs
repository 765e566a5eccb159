//! `GpuNode`: what a node has. Its agent writes the status, on inventory or health changes, never on load.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The devices of one Kubernetes node, of the same name; made by the node's agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "afterglow.dev",
    version = "v1alpha1",
    kind = "GpuNode",
    plural = "gpunodes",
    shortname = "gpun",
    category = "afterglow",
    doc = "The devices of one Kubernetes node, of the same name. The node's agent makes it and writes its status; people write what is to be kept free.",
    status = "GpuNodeStatus",
    selectable = ".spec.cluster",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#,
    printcolumn = r#"{"name":"Devices","type":"string","jsonPath":".status.summary"}"#,
    printcolumn = r#"{"name":"Offered","type":"integer","jsonPath":".status.offered"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Driver","type":"string","jsonPath":".status.devices[*].driver","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[derive(Default)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeSpec {
    /// The `InferenceCluster` whose agent runs on the node. Written by the agent, once.
    #[serde(default)]
    #[schemars(length(max = 63))]
    #[x_kube(validation = crate::rule::fixed_once_set())]
    pub cluster: String,
    /// `true`: nothing new is placed here; what is here stays.
    #[serde(default)]
    pub unschedulable: bool,
    /// Devices (by name) that other pods may claim through DRA instead of serving models. A device that still serves is
    /// emptied first; one that is taken off the list serves again when no claim holds it any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub lend: Vec<String>,
}

/// What the node has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the agent.
    #[serde(default)]
    pub agent_version: String,
    /// `IP:PORT` where the agent streams load reports to schedulers (gRPC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The devices in a few words, e.g. `1 × AMD Radeon RX 580 Series`.
    #[serde(default)]
    pub summary: String,
    /// How many devices models may be placed on.
    #[serde(default)]
    pub offered: i32,
    /// The devices.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub devices: Vec<Device>,
    /// `Ready`: the agent works and offers at least one device. `Degraded`: a device is not offered, and why.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A device: a card, or a CPU that stands in for one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Unique on the node and stable over reboots: `gpu-0000-01-00-0` (its PCI address), `gpu-0`, `cpu-0`. A DNS label.
    pub name: String,
    /// GPU, or a CPU that the cluster allows as a stand-in.
    #[serde(rename = "type")]
    pub type_: DeviceType,
    /// The generation of the card. `Polaris`: gfx803, RX 460–480 and 550–590. `Vega`: gfx900–906, RX Vega and Radeon VII. `Navi1`:
    /// gfx1010–1012, RX 5000. `Navi2`: gfx103x, RX 6000. `Navi3`: gfx110x, RX 7000. `Other`: any other card, and processors.
    #[serde(default)]
    pub family: Family,
    /// As the driver calls it, without the driver's own remarks.
    pub product_name: String,
    /// What selects it in OpenCL on this node, e.g. `opencl:0`; absent where OpenCL does not see the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// PCI address, e.g. `0000:01:00.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_address: Option<String>,
    /// PCI vendor, device and revision, e.g. `1002:67df:e7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
    /// Compute units.
    #[serde(default)]
    pub compute_units: i32,
    /// Memory of the device.
    pub memory: Quantity,
    /// Driver and its version, e.g. `rusticl 25.0.7`, `Portable Computing Language 3.1`.
    #[serde(default)]
    pub driver: String,
    /// OpenCL version of the device, e.g. `3.0`.
    #[serde(default)]
    pub opencl_version: String,
    /// PCIe link as it is negotiated now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Render node, e.g. `/dev/dri/renderD128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render_node: Option<String>,
    /// Group of the render node; it differs from machine to machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render_gid: Option<i64>,
    /// What the self-test and the measurement at the start said.
    #[serde(default)]
    pub self_test: SelfTest,
    /// Whether models may be placed here.
    #[serde(default)]
    pub offered: bool,
    /// Why not; empty if they may.
    #[serde(default)]
    pub not_offered_because: String,
}

/// What a device is: `GPU`, a graphics card, or `CPU`, a processor through OpenCL (PoCL).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DeviceType {
    /// A graphics card.
    #[serde(rename = "GPU")]
    Gpu,
    /// A processor, through OpenCL (PoCL).
    #[default]
    #[serde(rename = "CPU")]
    Cpu,
}

/// The generation of a card.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Family {
    /// gfx803: RX 460–480, 550–590.
    Polaris,
    /// gfx900–906: RX Vega, Radeon VII.
    Vega,
    /// gfx1010–1012: RX 5000.
    Navi1,
    /// gfx103x: RX 6000.
    Navi2,
    /// gfx110x: RX 7000.
    Navi3,
    /// Any other card, and processors.
    #[default]
    Other,
}

/// A PCIe link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Lanes in use.
    pub width: i32,
    /// Speed in use, as the kernel says it: `8.0 GT/s PCIe`.
    pub speed: String,
    /// Lanes that the card could use.
    pub max_width: i32,
    /// Speed that the card could use.
    pub max_speed: String,
}

/// The numeric self-test and the measurement that follows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfTest {
    /// What came out. `Passed`: it computes right. `Failed`: it computes wrong, or not at all. `NotRun`: not tried (yet).
    #[serde(default)]
    pub result: TestResult,
    /// Why it failed; empty if it passed.
    #[serde(default)]
    pub message: String,
    /// GFLOP/s of a matrix product in fp32, as measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gflops: Option<i64>,
    /// MB/s of copying in device memory, as measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb_per_second: Option<i64>,
    /// MB/s from host to device, as measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_mb_per_second: Option<i64>,
}

/// What came out of a self-test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TestResult {
    /// It computes right.
    Passed,
    /// It computes wrong, or not at all.
    Failed,
    /// Not tried (yet).
    #[default]
    NotRun,
}
