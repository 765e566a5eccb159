//! A real cluster on this machine, as root, without docker and without a registry: every node is a set of namespaces with
//! a kubelet, a containerd and a kube-proxy of its own. `docs/dev/e2e.md` draws it.

mod certificates;
mod cleanup;
mod control_plane;
mod dns;
mod etcd;
mod network;
mod node;
mod process;
mod state;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::command::{output, run, until};
use crate::images;
use crate::process::{self as machine, Process};
use crate::provider::{ApiServer, Provider};
use crate::tools::Tools;

pub use process::Ends;
use state::State;

/// So many nodes fit into the names, addresses and tokens that are handed out at the start.
pub const MOST_NODES: u8 = 5;

/// The cluster on this machine.
#[derive(Debug)]
pub struct Local {
    tools: Tools,
    state: State,
    ends: Ends,
    nodes: Vec<u8>,
}

impl Local {
    /// Nothing is made yet. There is one such cluster per machine: its names and addresses are fixed.
    pub fn new(tools: Tools, ends: Ends) -> Self {
        let state = State::new(tools.target.join("local"));
        let nodes = state.nodes();
        Self {
            tools,
            state,
            ends,
            nodes,
        }
    }

    /// Whether a cluster is running, of this harness or of another one in the same checkout.
    pub fn running(&self) -> bool {
        self.state.alive().contains(&"kube-apiserver".to_owned())
    }

    /// The nodes that were started, by number.
    pub fn nodes(&self) -> &[u8] {
        &self.nodes
    }

    /// Adds nodes until there are so many.
    pub fn grow(&mut self, nodes: u8) -> Result<()> {
        if nodes > MOST_NODES {
            bail!("at most {MOST_NODES} nodes, not {nodes}");
        }
        let missing: Vec<u8> = (1..=nodes)
            .filter(|number| !self.nodes.contains(number))
            .collect();
        let archives = images::base(&self.tools)?;
        // From this thread: a child that ends with its starter ends with the thread that started it.
        for &number in &missing {
            network::node(number)?;
            node::start(&self.tools, &self.state, number, self.ends, &archives)?;
            self.nodes.push(number);
        }
        for &number in &missing {
            let name = format!("node{number}");
            self.kubectl(&["wait", "--for=create", "--timeout=60s", &format!("node/{name}")])
                .with_context(|| {
                    format!("wait for {name}; its logs are in {}", self.state.logs().display())
                })?;
            self.kubectl(&[
                "wait",
                "--for=condition=Ready",
                "--timeout=90s",
                &format!("node/{name}"),
            ])
            .with_context(|| format!("wait for {name}; its logs are in {}", self.state.logs().display()))?;
        }
        Ok(())
    }

    /// Starts a node on the disk that it has, whatever is left of it.
    fn boot(&self, number: u8, archives: &[PathBuf]) -> Result<()> {
        node::cut(&self.state, number);
        cleanup::node(number);
        network::node(number)?;
        node::start(&self.tools, &self.state, number, self.ends, archives)
    }

    fn api_server_ready(&self) -> Result<()> {
        until("the API server is ready", Duration::from_mins(1), || {
            let said = self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"])?;
            Ok(said.eq("ok").then_some(()))
        })
        .with_context(|| format!("logs are in {}", self.state.logs().display()))
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let kubeconfig = self.kubeconfig();
        let start = [
            &self.tools.program("kubectl"),
            "--kubeconfig",
            &kubeconfig.to_string_lossy(),
        ]
        .map(str::to_owned);
        let call: Vec<&str> = start
            .iter()
            .map(String::as_str)
            .chain(arguments.iter().copied())
            .collect();
        output(&call)
    }
}

impl Provider for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn create(&mut self, nodes: u8) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("the local cluster needs root: it makes namespaces, mounts and a bridge");
        }
        let alive = self.state.alive();
        if !alive.is_empty() {
            bail!(
                "a cluster of this checkout is running ({}): remove it with `make cluster-down`",
                alive.join(", ")
            );
        }
        cleanup::all(&self.state)?;
        self.nodes.clear();
        self.state.create()?;
        network::bridge()?;
        certificates::write(&self.state)?;
        etcd::start(&self.tools, &self.state, self.ends)?;
        control_plane::start_api_server(&self.tools, &self.state, self.ends)?;
        self.api_server_ready()?;
        control_plane::start_controllers(&self.tools, &self.state, self.ends)?;
        self.kubectl(&["wait", "--for=create", "--timeout=60s", "serviceaccount/default"])
            .context("wait for the controller manager's first ServiceAccount")?;
        self.grow(nodes)?;
        dns::install(&self.tools, &self.kubeconfig())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.state.kubeconfig("admin")
    }

    fn node_address(&self, node: &str) -> Result<IpAddr> {
        Ok(IpAddr::V4(network::node_address(number(node)?)))
    }

    fn host_address(&self) -> Result<IpAddr> {
        Ok(IpAddr::V4(Ipv4Addr::new(10, 201, 0, 1)))
    }

    fn load(&mut self, archive: &Path) -> Result<()> {
        self.state.remember(archive)?;
        let import = |number: u8| {
            node::import(&self.tools, &self.state, number, archive)
                .with_context(|| format!("import {} on node{number}", archive.display()))
        };
        // Unpacking is disk and processor: two at a time are as fast as all.
        for pair in self.nodes.chunks(2) {
            thread::scope(|scope| {
                let hands: Vec<_> = pair
                    .iter()
                    .map(|&number| scope.spawn(move || import(number)))
                    .collect();
                hands
                    .into_iter()
                    .map(|hand| hand.join().unwrap_or_else(|_| bail!("the import panicked")))
                    .collect::<Result<Vec<()>>>()
            })?;
        }
        Ok(())
    }

    fn exec(&self, node: &str, call: &[&str]) -> Result<String> {
        node::exec(&self.tools, &self.state, number(node)?, call)
    }

    fn power_cut(&mut self, node: &str) -> Result<()> {
        // Its cable first: the kernel would close the connections of dead processes in good order, and nothing says goodbye
        // when the power goes. A node that is cut already has none.
        let _ = self.partition(node);
        node::cut(&self.state, number(node)?);
        Ok(())
    }

    fn reboot(&mut self, node: &str) -> Result<()> {
        let archives = images::base(&self.tools)?;
        self.boot(number(node)?, &archives)
    }

    fn replace(&mut self, node: &str) -> Result<()> {
        let number = number(node)?;
        node::cut(&self.state, number);
        cleanup::node(number);
        self.state.wipe(number)?;
        // What was on every node: a new one cannot pull it.
        let archives = [images::base(&self.tools)?, self.state.images()].concat();
        self.boot(number, &archives)
    }

    fn partition(&mut self, node: &str) -> Result<()> {
        run(&["ip", "link", "set", &network::veth(number(node)?), "down"])
    }

    fn heal(&mut self, node: &str) -> Result<()> {
        run(&["ip", "link", "set", &network::veth(number(node)?), "up"])
    }

    fn destroy(&mut self) -> Result<()> {
        self.nodes.clear();
        cleanup::all(&self.state)
    }

    fn twin(&self) -> Result<Box<dyn Provider + Send>> {
        Ok(Box::new(Self::new(self.tools.clone(), self.ends)))
    }

    fn processes(&self, node: &str) -> Result<Vec<Process>> {
        let first = node::first(&self.state, number(node)?)?;
        Ok(machine::below(&Process::all()?, first))
    }

    fn api_server(&mut self, what: ApiServer) -> Result<()> {
        let server = self
            .state
            .recorded("kube-apiserver")
            .context("no API server was started here: `afterglow-e2e up`")?;
        match what {
            ApiServer::Stop => server.signal(Signal::STOP),
            ApiServer::Continue => server.signal(Signal::CONT),
            ApiServer::Slow => network::slow()?,
            ApiServer::Quick => network::quick()?,
            ApiServer::Restart => {
                server.kill();
                control_plane::start_api_server(&self.tools, &self.state, self.ends)?;
                self.api_server_ready()?;
            }
        }
        Ok(())
    }

    fn disk(&self, node: &str) -> Result<PathBuf> {
        Ok(self.state.cache(number(node)?))
    }

    fn small_disk(&mut self, node: &str, megabytes: Option<u32>) -> Result<()> {
        let number = number(node)?;
        self.power_cut(node)?;
        match megabytes {
            Some(megabytes) => self.state.mount(number, megabytes)?,
            None => self.state.unmount(number)?,
        }
        self.reboot(node)
    }

    fn audit_log(&self) -> Result<PathBuf> {
        Ok(self.state.logs().join("audit.log"))
    }
}

fn number(node: &str) -> Result<u8> {
    node.strip_prefix("node")
        .and_then(|digits| digits.parse().ok())
        .filter(|number| (1..=MOST_NODES).contains(number))
        .with_context(|| format!("{node} is no node of the local cluster (node1 to node{MOST_NODES})"))
}
