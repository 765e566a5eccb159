//! etcd, kube-apiserver and kube-controller-manager, of whose controllers only the two run that clean up. On ports of their own
//! and without nodes: ready in seconds, and gone with the test.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use afterglow_e2e::tools::Tools;
use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::{Client, Config, ResourceExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::child::Child;
use crate::store::Store;
use crate::wait::{Verdict, until};

/// The harness itself, and the proxies, whose writes the audit log tells apart.
const ADMIN: &str = "admin-token";
const PROXY: &str = "proxy-token";
/// Longer than a start has ever taken beside a build.
const START: Duration = Duration::from_mins(2);

/// A running API server with what it stands on.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    port: u16,
    // In the order in which they end: an API server without its store takes ten seconds.
    _controllers: Child,
    api: Child,
    store: Store,
}

impl Server {
    /// The one that most tests share. It is started once, by a thread that never ends, as the processes end with theirs.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| {
                let (sender, receiver) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    let _ = sender.send(Self::start("shared").map_err(|error| format!("{error:#}")));
                    loop {
                        std::thread::park();
                    }
                });
                receiver
                    .recv()
                    .unwrap_or_else(|_| Err("the thread that starts it ended".to_owned()))
            })
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    /// Another one, for tests that do something to the server itself.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_within(name, None)
    }

    /// One whose store takes no more than so many bytes.
    pub fn start_within(name: &str, quota: Option<u64>) -> Result<Self> {
        let tools = Tools::find()?;
        let folder = crate::operator::target()?.join("operator-faults").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let (client, peer, port) = (free_port()?, free_port()?, free_port()?);
        write_configuration(&folder, port)?;
        let program = |name: &str| PathBuf::from(tools.program(name));
        let start = |name: &str, arguments: &[String]| {
            Child::start(
                name,
                &program(name),
                arguments,
                &[("PATH", "/usr/bin:/bin")],
                &folder.join(format!("{name}.log")),
            )
        };
        let store = Store::start(&program("etcd"), &folder, client, peer, quota)?;
        let api = start("kube-apiserver", &api_server(&folder, client, port))?;
        // Where a runtime is running already, as in a test, another lives and dies on a thread of its own.
        let installing = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(install(&tools.root, port))
        };
        std::thread::scope(|scope| {
            scope
                .spawn(installing)
                .join()
                .map_err(|_| anyhow!("the installation panicked"))
        })?
        .with_context(|| format!("prepare the API server; its logs are in {}", folder.display()))?;
        // Not before our kinds are there: it looks for new ones every half minute only.
        let controllers = start("kube-controller-manager", &controllers(&folder))?;
        Ok(Self {
            folder,
            port,
            _controllers: controllers,
            api,
            store,
        })
    }

    /// Its folder, with its logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Result<Client> {
        client(self.port, Some(ADMIN), None)
    }

    /// A client in the name of somebody.
    pub fn as_user(&self, user: &str) -> Result<Client> {
        client(self.port, Some(PROXY), Some(user))
    }

    /// A client that is nobody by itself: each request says who sends it.
    pub fn as_sent(&self) -> Result<Client> {
        client(self.port, None, None)
    }

    /// What the API server stands on.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stops the API server where it stands: it keeps its connections and answers nobody.
    pub fn stop(&self) -> Result<()> {
        self.api.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn go_on(&self) -> Result<()> {
        self.api.signal(Signal::CONT)
    }
}

fn client(port: u16, token: Option<&str>, user: Option<&str>) -> Result<Client> {
    let mut config = Config::new(
        format!("https://127.0.0.1:{port}")
            .parse()
            .context("an address")?,
    );
    // Its certificate is its own, and the address is this machine's.
    config.accept_invalid_certs = true;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = None;
    config.write_timeout = None;
    config.auth_info.token = token.map(|token| token.to_owned().into());
    config.auth_info.impersonate = user.map(str::to_owned);
    Client::try_from(config).context("make a client")
}

fn write_configuration(folder: &Path, port: u16) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    let key = rcgen::KeyPair::generate().context("make the key of ServiceAccount tokens")?;
    write("sa.key", &key.serialize_pem())?;
    write("sa.pub", &key.public_key_pem())?;
    write(
        "tokens.csv",
        &format!("{ADMIN},admin,u1,\"system:masters\"\n{PROXY},proxy,u2,\"system:masters\"\n"),
    )?;
    // What operators wrote and read, for whoever looks into a failure; the claims are judged by the proxies' own records.
    write(
        "audit.yaml",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n  - level: Metadata\n    users: [proxy]\n  - level: None\n",
    )?;
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "k", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "u", "user": {"token": ADMIN}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "current-context": "c",
    });
    write("admin.kubeconfig", &kubeconfig.to_string())
}

fn api_server(folder: &Path, store: u16, port: u16) -> Vec<String> {
    let folder = folder.display();
    [
        format!("--etcd-servers=http://127.0.0.1:{store}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={folder}/pki"),
        format!("--service-account-key-file={folder}/sa.pub"),
        format!("--service-account-signing-key-file={folder}/sa.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        format!("--token-auth-file={folder}/tokens.csv"),
        "--authorization-mode=RBAC".to_owned(),
        // The agents' pods are, where there are cards.
        "--allow-privileged=true".to_owned(),
        // As OpenShift has it; who sets an owner that blocks needs the right to its finalizers there.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--audit-policy-file={folder}/audit.yaml"),
        format!("--audit-log-path={folder}/audit.log"),
        "--profiling=false".to_owned(),
    ]
    .into()
}

fn controllers(folder: &Path) -> Vec<String> {
    let folder = folder.display();
    [
        format!("--kubeconfig={folder}/admin.kubeconfig"),
        "--controllers=garbage-collector-controller,namespace-controller".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
        "--profiling=false".to_owned(),
    ]
    .into()
}

/// Our kinds, and the roles of the chart as `manifests/install.yaml` has them.
async fn install(root: &Path, port: u16) -> Result<()> {
    let client = client(port, Some(ADMIN), None)?;
    until("the API server is ready", START, async || {
        let version = client.apiserver_version().await?;
        let roles: Api<ClusterRole> = Api::all(client.clone());
        // They are made after it has begun to answer.
        Ok(match roles.get_opt("system:basic-user").await? {
            Some(_) => Verdict::Yes(version),
            None => Verdict::NotYet("it has not made its own roles yet".to_owned()),
        })
    })
    .await?;
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let once = PostParams::default();
    for kind in afterglow_crds::all() {
        kinds
            .create(&once, &kind)
            .await
            .with_context(|| format!("make the kind {}", kind.name_any()))?;
    }
    let roles: Api<ClusterRole> = Api::all(client.clone());
    for role in manifests(root)?
        .into_iter()
        .filter(|object| object["kind"] == "ClusterRole")
    {
        let role: ClusterRole =
            serde_json::from_value(role).context("read a role of manifests/install.yaml")?;
        roles
            .create(&once, &role)
            .await
            .with_context(|| format!("make the role {}", role.name_any()))?;
    }
    for kind in afterglow_crds::all() {
        let name = kind.name_any();
        until(&format!("{name} is served"), START, async || {
            let conditions = kinds
                .get(&name)
                .await?
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let is_there = conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True");
            Ok(crate::wait::verdict(is_there, || format!("{conditions:?}")))
        })
        .await?;
    }
    Ok(())
}

/// The objects of `manifests/install.yaml`.
pub fn manifests(root: &Path) -> Result<Vec<Value>> {
    let path = root.join("manifests/install.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let found: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("parse {}", path.display()))?;
    if found.is_empty() {
        bail!("{} holds nothing", path.display());
    }
    Ok(found)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("look for a free port")?;
    Ok(listener.local_addr().context("read the port")?.port())
}
