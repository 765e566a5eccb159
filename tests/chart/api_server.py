"""etcd and kube-apiserver alone, for what only the real API server can judge: roles and admission policies. No node, no
controller; ready in a few seconds, on ports of its own, and gone with the test."""

import json
import secrets
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .objects import Object

ROOTS = {
    "v1": "/api/v1",
    "apps/v1": "/apis/apps/v1",
}
SCOPED_TO_CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "GpuNode",
    "InferenceCluster",
    "Namespace",
    "Node",
    "ResourceSlice",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


class Refused(Exception):
    """The API server said no."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def plural(kind: str) -> str:
    return kind.lower()[:-1] + "ies" if kind.endswith("y") else kind.lower() + "s"


def collection(api_version: str, kind: str, namespace: str | None = None) -> str:
    """The path under which objects of a kind are made."""
    root = ROOTS.get(api_version, f"/apis/{api_version}")
    within = f"/namespaces/{namespace}" if namespace and kind not in SCOPED_TO_CLUSTER else ""
    return f"{root}{within}/{plural(kind)}"


class ApiServer:
    """A running API server, and requests to it in anybody's name."""

    def __init__(self, folder: Path, tool: Callable[[str], str]) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.context = ssl._create_unverified_context()  # its certificate is its own, and the address is loopback
        client, peer, self.port = free_port(), free_port(), free_port()
        key = folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], capture_output=True, check=True)
        (folder / "tokens.csv").write_text(f"{self.token},admin,1,system:masters\n")
        store = f"http://127.0.0.1:{client}"
        self.etcd = self.start(
            tool("etcd"),
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        self.server = self.start(
            tool("kube-apiserver"),
            f"--etcd-servers={store}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder}/pki",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            # As OpenShift has it; who sets an owner that blocks needs the right to its finalizers there.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--disable-admission-plugins=ServiceAccount",
        )
        self.until("the API server is ready", lambda: self.call("GET", "/readyz"))

    def start(self, *call: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{Path(call[0]).name}.log").open("wb")
        return subprocess.Popen(call, stdout=log, stderr=log)

    def stop(self) -> None:
        for process in (self.server, self.etcd):  # an API server without its store takes ten seconds to end
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until(self, what: str, ask: Callable[[], Any], limit: float = 60) -> Any:
        """Asks until it succeeds; the complaint holds what was said last."""
        end = time.monotonic() + limit
        while True:
            try:
                return ask()
            except (AssertionError, OSError, Refused) as error:
                if self.server.poll() is not None:
                    raise RuntimeError(f"the API server ended; its log is in {self.folder}") from error
                if time.monotonic() > end:
                    raise TimeoutError(f"after {limit:.0f} s still not: {what}: {error}") from error
            time.sleep(0.1)

    def call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        user: str | None = None,
        node: str | None = None,
        kind: str = "application/json",
    ) -> Any:
        """A request, as the administrator or in the name of a service account whose token names a node."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Accept": "application/json"}
        if user:
            headers["Impersonate-User"] = user
        if node:
            claim = urllib.parse.quote("authentication.kubernetes.io/node-name", safe="")
            headers[f"Impersonate-Extra-{claim}"] = node
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}", data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=20) as answer:
                said = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read()
            try:
                message = json.loads(said)["message"]
            except ValueError:
                message = said.decode(errors="replace")
            raise Refused(error.code, message) from None
        return json.loads(said) if said.startswith(b"{") else said.decode()

    def make(self, found: Object) -> Object:
        """Makes an object, as the administrator."""
        namespace = found["metadata"].get("namespace")
        made: Object = self.call("POST", collection(found["apiVersion"], found["kind"], namespace), found)
        return made


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
