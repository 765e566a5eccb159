//! A bridge, and a network namespace for the control plane and for each node.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::MOST_NODES;
use crate::command::{output, run};

pub(super) const BRIDGE: &str = "agbr";
pub(super) const CONTROL_PLANE: &str = "agcp";
pub(super) const CONTROL_PLANE_VETH: &str = "agvcp";
pub(super) const CONTROL_PLANE_ADDRESS: &str = "10.201.0.2";
/// Services and pods that nobody answers for: they would leave by the machine's default route.
pub(super) const BLACKHOLES: [&str; 2] = ["10.96.0.0/16", "10.244.0.0/16"];

pub(super) fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 201, 0, 10 + number)
}

pub(super) fn pods(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

pub(super) fn namespace(number: u8) -> String {
    format!("agnode{number}")
}

pub(super) fn veth(number: u8) -> String {
    format!("agv{number}")
}

/// The bridge, through which the tests reach everything, and the control plane's place on it.
pub(super) fn bridge() -> Result<()> {
    run(&["ip", "link", "add", BRIDGE, "type", "bridge"])?;
    run(&["ip", "addr", "add", "10.201.0.1/24", "dev", BRIDGE])?;
    run(&["ip", "link", "set", BRIDGE, "up"])?;
    for network in BLACKHOLES {
        run(&["ip", "route", "add", "blackhole", network])?;
    }
    place(CONTROL_PLANE, CONTROL_PLANE_VETH, CONTROL_PLANE_ADDRESS)?;
    routes(CONTROL_PLANE, None)
}

/// A node's place on the bridge, and the way to its pods.
pub(super) fn node(number: u8) -> Result<()> {
    let namespace = namespace(number);
    let address = node_address(number).to_string();
    place(&namespace, &veth(number), &address)?;
    routes(&namespace, Some(number))?;
    run(&["ip", "route", "replace", &pods(number), "via", &address])?;
    let net = format!("--net=/run/netns/{namespace}");
    run(&["nsenter", &net, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
}

/// Has what leaves the control plane pass at a megabit a second, and wait for up to two seconds for that.
pub(super) fn slow() -> Result<()> {
    let pipe = ["tbf", "rate", "1mbit", "burst", "16kb", "latency", "2s"];
    let replace = ["replace", "dev", "eth0", "root"];
    run(&[&shaping()[..], &replace, &pipe].concat())
}

/// The end of that.
pub(super) fn quick() -> Result<()> {
    let shown = output(&[&shaping()[..], &["show", "dev", "eth0"]].concat())?;
    if !shown.contains("tbf") {
        return Ok(());
    }
    run(&[&shaping()[..], &["del", "dev", "eth0", "root"]].concat())
}

fn shaping() -> [&'static str; 6] {
    ["ip", "netns", "exec", CONTROL_PLANE, "tc", "qdisc"]
}

fn place(namespace: &str, veth: &str, address: &str) -> Result<()> {
    run(&["ip", "netns", "add", namespace])?;
    run(&[
        "ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", namespace,
    ])?;
    run(&["ip", "link", "set", veth, "master", BRIDGE, "up"])?;
    run(&["ip", "-n", namespace, "link", "set", "lo", "up"])?;
    run(&["ip", "-n", namespace, "link", "set", "eth0", "up"])?;
    let network = format!("{address}/24");
    run(&["ip", "-n", namespace, "addr", "add", &network, "dev", "eth0"])?;
    run(&[
        "ip",
        "-n",
        namespace,
        "route",
        "add",
        "default",
        "via",
        "10.201.0.1",
    ])
}

/// The ways to the pods of every other node that may ever join.
fn routes(namespace: &str, own: Option<u8>) -> Result<()> {
    for number in (1..=MOST_NODES).filter(|&number| Some(number) != own) {
        let via = node_address(number).to_string();
        run(&["ip", "-n", namespace, "route", "add", &pods(number), "via", &via])?;
    }
    Ok(())
}
