//! The cluster's authority, its certificates, and a token and kubeconfig for everybody who talks to the API server.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, RsaKeySize,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::MOST_NODES;
use super::network::CONTROL_PLANE_ADDRESS;
use super::state::State;

/// Names and addresses under which the API server is asked.
const API_SERVER: [&str; 8] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    CONTROL_PLANE_ADDRESS,
    "10.96.0.1",
];

pub(super) fn write(state: &State) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::<String>::new()).context("describe the authority")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority
        .distinguished_name
        .push(DnType::CommonName, "afterglow-e2e");
    let key = KeyPair::generate().context("make the authority's key")?;
    let certificate = authority.self_signed(&key).context("sign the authority")?;
    state.write("pki/ca.crt", &certificate.pem())?;
    state.write("pki/ca.key", &key.serialize_pem())?;
    let issuer = Issuer::new(authority, key);

    let server = [ExtendedKeyUsagePurpose::ServerAuth];
    let client = [ExtendedKeyUsagePurpose::ClientAuth];
    leaf(
        state,
        &issuer,
        "apiserver",
        ("kube-apiserver", None),
        &server,
        &API_SERVER,
    )?;
    let masters = ("apiserver-kubelet-client", Some("system:masters"));
    leaf(state, &issuer, "kubelet-client", masters, &client, &[])?;
    leaf(
        state,
        &issuer,
        "front-proxy-client",
        ("front-proxy-client", None),
        &client,
        &[],
    )?;

    let accounts = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)
        .context("make the key of ServiceAccount tokens")?;
    state.write("pki/sa.key", &accounts.serialize_pem())?;
    state.write("pki/sa.pub", &accounts.public_key_pem())?;
    tokens(state)
}

fn leaf(
    state: &State,
    issuer: &Issuer<'_, KeyPair>,
    file: &str,
    (name, organisation): (&str, Option<&str>),
    usage: &[ExtendedKeyUsagePurpose],
    subjects: &[&str],
) -> Result<()> {
    let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
    let mut leaf = CertificateParams::new(subjects).with_context(|| format!("describe {file}"))?;
    // A client that checks certificates strictly refuses an authority as a server's own.
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = usage.to_vec();
    leaf.distinguished_name.push(DnType::CommonName, name);
    if let Some(organisation) = organisation {
        leaf.distinguished_name
            .push(DnType::OrganizationName, organisation);
    }
    let key = KeyPair::generate().with_context(|| format!("make the key of {file}"))?;
    let certificate = leaf
        .signed_by(&key, issuer)
        .with_context(|| format!("sign {file}"))?;
    state.write(&format!("pki/{file}.crt"), &certificate.pem())?;
    state.write(&format!("pki/{file}.key"), &key.serialize_pem())
}

/// The token file is read once, when the API server starts: it lists every node that may ever join.
fn tokens(state: &State) -> Result<()> {
    let mut lines = String::new();
    let fixed = [
        ("admin", "admin", "\"system:masters\""),
        ("kcm", "system:kube-controller-manager", ""),
        ("sched", "system:kube-scheduler", ""),
        ("proxy", "system:kube-proxy", ""),
    ];
    let fixed = fixed.map(|(file, user, groups)| (file.to_owned(), user.to_owned(), groups));
    let nodes = (1..=MOST_NODES).map(|number| {
        (
            format!("node{number}"),
            format!("system:node:node{number}"),
            "\"system:nodes\"",
        )
    });
    for (uid, (file, user, groups)) in fixed.into_iter().chain(nodes).enumerate() {
        // A fresh key's public half is as good a random word as any.
        let key = KeyPair::generate().context("make a token")?;
        let token = format!("{:x}", Sha256::digest(key.public_key_raw()));
        writeln!(lines, "{token},{user},u{uid},{groups}")?;
        kubeconfig(state, &file, &token)?;
    }
    state.write("cfg/tokens.csv", &lines)?;
    secret(state, "cfg/tokens.csv")
}

fn kubeconfig(state: &State, user: &str, token: &str) -> Result<()> {
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "k", "cluster": {
            "server": format!("https://{CONTROL_PLANE_ADDRESS}:6443"),
            "certificate-authority": state.path("pki/ca.crt"),
        }}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "current-context": "c",
    });
    let name = format!("cfg/{user}.kubeconfig");
    state.write(&name, &text.to_string())?;
    secret(state, &name)
}

fn secret(state: &State, name: &str) -> Result<()> {
    let path = state.path(name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(|| format!("close {path}"))
}
