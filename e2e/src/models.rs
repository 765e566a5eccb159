//! The stories' models: packages that `afterglow pack` makes of them, and a file server that pods fetch them from.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{self, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::command::{command, output, read};
use crate::tools::Tools;

/// Where the file server is, on the bridge.
const PORT: u16 = 8642;

/// Packages by name, and where they are served.
#[derive(Debug)]
pub struct Models {
    folder: PathBuf,
    digests: BTreeMap<String, String>,
    address: Option<SocketAddr>,
}

impl Models {
    /// Makes every package that a story names; what is there and newer than its sources stays.
    pub fn make(tools: &Tools) -> Result<Self> {
        let folder = tools.target.join("models");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut models = Self {
            folder,
            digests: BTreeMap::new(),
            address: None,
        };
        let quickstart = tools.root.join("examples/quickstart/models/all-minilm-l6-v2");
        let settings =
            fs::read_to_string(quickstart.join("model.yaml")).context("read the quickstart's model.yaml")?;
        models.pack(tools, "minilm-1", &quickstart.join("1"), Some(&settings))?;
        // The same weights under another prompt: every answer tells which of the two gave it.
        let prompted = format!("{settings}\nembedding: {{ prompt: \"query: \" }}\n");
        models.pack(tools, "minilm-2", &quickstart.join("1"), Some(&prompted))?;

        let small = tools.target.join("small-models");
        let python = tools
            .bin
            .with_file_name("venv")
            .join("bin/python")
            .to_string_lossy()
            .into_owned();
        let script = tools.root.join("tests/models/make_models.py");
        let (script, into) = (script.to_string_lossy(), small.to_string_lossy());
        output(&[&python, &script, &into, "perceptron", "increment", "truncated"])
            .context("make the small models")?;
        for name in ["increment", "truncated"] {
            models.pack(tools, name, &small.join(name).join("1"), None)?;
        }
        let batching = fs::read_to_string(small.join("perceptron/model.yaml"))
            .context("read perceptron's model.yaml")?;
        let version = small.join("perceptron/1");
        models.pack(tools, "perceptron", &version, Some(&batching))?;
        // No device adds up in exactly the CPU's order: a tolerance of nothing cannot be kept.
        let exact = format!("{batching}\nprobe: {{ tolerance: {{ relative: 0, absolute: 0 }} }}\n");
        models.pack(tools, "perceptron-exact", &version, Some(&exact))?;
        Ok(models)
    }

    fn pack(&mut self, tools: &Tools, name: &str, version: &Path, settings: Option<&str>) -> Result<()> {
        let staged = self.folder.join(name);
        let _ = fs::remove_dir_all(&staged);
        let (from, to) = (version.to_string_lossy(), staged.to_string_lossy());
        output(&["cp", "-rL", &from, &to]).with_context(|| format!("stage {name}"))?;
        if let Some(settings) = settings {
            fs::write(staged.join("model.yaml"), settings)
                .with_context(|| format!("write {name}'s model.yaml"))?;
        }
        let package = self.folder.join(format!("{name}.tar"));
        let afterglow = tools.root.join("target/release/afterglow");
        let mut pack = command(&[&afterglow.to_string_lossy(), "pack", &to]);
        pack.arg("--out").arg(&package);
        let said = read(pack).with_context(|| format!("pack {name}"))?;
        let bytes = fs::read(&package).with_context(|| format!("read {}", package.display()))?;
        let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
        anyhow::ensure!(
            said.contains(&digest),
            "`afterglow pack` said {said:?}, but the digest of {name}.tar is {digest}"
        );
        self.digests.insert(name.to_owned(), digest);
        Ok(())
    }

    /// Serves the packages at an address that pods reach.
    pub async fn serve(&mut self, host: IpAddr) -> Result<()> {
        // The same address each time, if it is free: another one is another source, and so another revision.
        let listener = match TcpListener::bind((host, PORT)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((host, 0))
                .await
                .with_context(|| format!("listen on {host} for pods that fetch models"))?,
        };
        self.address = Some(listener.local_addr().context("read the address listened on")?);
        let router = Router::new()
            .route("/{name}", get(file))
            .with_state(self.folder.clone());
        tokio::spawn(async move {
            // It ends with the process.
            let _ = axum::serve(listener, router).await;
        });
        Ok(())
    }

    /// Where pods fetch a package.
    pub fn uri(&self, name: &str) -> Result<String> {
        let address = self.address.context("the models are not served yet")?;
        Ok(format!("http://{address}/{name}.tar"))
    }

    /// A package's digest.
    pub fn digest(&self, name: &str) -> Result<&str> {
        self.digests
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("there is no package {name}"))
    }

    /// The package's file on this machine.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.tar"))
    }

    /// A ModelDeployment of a package.
    pub fn deployment(&self, namespace: &str, name: &str, package: &str, replicas: i32) -> Result<Value> {
        Ok(json!({
            "apiVersion": "afterglow.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "model": {"source": {"uri": self.uri(package)?, "digest": self.digest(package)?}},
                "replicas": replicas,
            },
        }))
    }
}

async fn file(State(folder): State<PathBuf>, extract::Path(name): extract::Path<String>) -> Response {
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return StatusCode::NOT_FOUND.into_response();
    }
    match tokio::fs::read(folder.join(name)).await {
        Ok(bytes) => Body::from(bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
