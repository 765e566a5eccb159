"""The admission policies in the hands of the real API server: an agent writes what belongs to its own node, and nothing
of another. Everything is tried with the rights that the chart gives it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .api_server import ApiServer, Refused, collection
from .objects import Object, Render

NAMESPACE = "afterglow-system"
AGENT = f"system:serviceaccount:{NAMESPACE}:afterglow-agent-default"
AGENTS = [{"kind": "ServiceAccount", "name": "afterglow-agent-default", "namespace": NAMESPACE}]
OPERATOR = f"system:serviceaccount:{NAMESPACE}:afterglow-operator"
OURS, API = "afterglow.dev/v1alpha1", "/apis/afterglow.dev/v1alpha1"
REPLICAS = f"{API}/namespaces/default/modelreplicas"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


def replica(node: str) -> Object:
    model = {"source": {"uri": "https://h/m.onnx", "digest": f"sha256:{'0' * 64}"}, "name": "m"}
    return {
        "apiVersion": OURS,
        "kind": "ModelReplica",
        "metadata": {"name": f"on-{node}", "namespace": "default", "finalizers": ["afterglow.dev/engine"]},
        "spec": {"cluster": "default", "nodeName": node, "device": "d", "revision": 1, "memory": "1Gi", "model": model},
    }


def gpu_node(node: str, **status: Any) -> Object:
    body: Object = {"apiVersion": OURS, "kind": "GpuNode", "metadata": {"name": node}}
    return body | ({"status": status} if status else {"spec": {"cluster": "default"}})


def resource_slice(node: str, pool: str | None = None, driver: str = "gpu.afterglow.dev") -> Object:
    spec = {"driver": driver, "nodeName": node, "devices": []}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-gpu.afterglow.dev"},
        "spec": spec | {"pool": {"name": pool or node, "generation": 1, "resourceSliceCount": 1}},
    }


def lease(name: str) -> Object:
    head = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": head, "spec": {"holderIdentity": "x"}}


def event(instance: str) -> Object:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"e-{instance}", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "afterglow-agent",
        "reportingInstance": instance,
        "action": "Offer",
        "reason": "DeviceOffered",
        "type": "Normal",
        "regarding": {"apiVersion": OURS, "kind": "GpuNode", "name": instance, "namespace": "default"},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str], render: Render) -> Iterator[ApiServer]:
    """The chart's kinds, roles and policies, and two nodes with all that their agents have written."""
    running = ApiServer(tmp_path_factory.mktemp("api"), tool)
    try:
        fill(running, render("default"))
        yield running
    finally:
        running.stop()


def fill(server: ApiServer, rendered: list[Object]) -> None:
    def ready(path: str) -> None:
        server.until(f"{path} is served", lambda: server.call("GET", path))

    ready("/api/v1/namespaces/default")
    server.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for found in rendered:
        group = found["apiVersion"].split("/")[0]
        if group.startswith(("rbac.", "apiextensions.", "admissionregistration.")):
            server.make(found)
    roles = [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")]
    for kind, role in roles:  # as the operator binds them
        server.make(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": "agents", "namespace": NAMESPACE},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": "afterglow-agent"},
                "subjects": AGENTS,
            }
        )
    ready(f"{API}/gpunodes")
    ready(f"{API}/modelreplicas")
    for node in ("one", "two"):
        labels = {"afterglow.dev/cluster": "default", "afterglow.dev/pool": "main"}
        server.make({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}})
        for found in (
            gpu_node(node),
            replica(node),
            resource_slice(node),
            lease(f"afterglow-node-{node}"),
            event(node),
        ):
            server.make(found)
    server.make(lease("afterglow-operator"))
    # Policies are read a moment after they are made.
    for path, body in (
        (f"{API}/gpunodes/two/status", gpu_node("two", summary="x")),
        ("/api/v1/nodes/two", {"metadata": {"labels": {"afterglow.dev/devices": "9"}}}),
        (f"{REPLICAS}/on-two", {"metadata": {"finalizers": []}}),
        (f"{SLICES}/two-gpu.afterglow.dev", {"metadata": {"labels": {"a": "b"}}}),
        (f"{LEASES}/afterglow-node-two", {"spec": {"holderIdentity": "y"}}),
        (f"{EVENTS}/e-two", {"metadata": {"labels": {"a": "b"}}}),
    ):

        def refused(path: str = path, body: Object = body) -> None:
            try:
                server.call("PATCH", f"{path}?dryRun=All", body, user=AGENT, node="one", kind=MERGE)
            except Refused:
                return
            raise AssertionError("it was taken")

        server.until(f"the policy for {path} is in force", refused)


# What agents write, by the code that writes it: method, path, body and content type of a node's own.
def writes(node: str) -> dict[str, tuple[str, str, Object, str]]:
    forced = "?fieldManager=afterglow-agent&force=true&dryRun=All"
    own = f"{REPLICAS}/on-{node}"
    status = {"apiVersion": OURS, "kind": "ModelReplica", "metadata": {"name": f"on-{node}", "namespace": "default"}}
    labelled = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
    labelled["metadata"]["labels"] = {"afterglow.dev/devices": "2", "gpu.afterglow.dev/polaris": "2"}  # type: ignore[index]
    sliced, held = resource_slice(node), lease(f"afterglow-node-{node}")
    return {
        "take over a GpuNode": ("PATCH", f"{API}/gpunodes/{node}{forced}", gpu_node(node), APPLY),
        "write a GpuNode's status": (
            "PATCH",
            f"{API}/gpunodes/{node}/status{forced}",
            gpu_node(node, summary="x"),
            APPLY,
        ),
        "take the finalizer off": ("PATCH", f"{own}?dryRun=All", {"metadata": {"finalizers": []}}, MERGE),
        "write a replica's status": ("PATCH", f"{own}/status{forced}", status | {"status": {}}, APPLY),
        "label the node": ("PATCH", f"/api/v1/nodes/{node}{forced}", labelled, APPLY),
        "publish the slice": ("PATCH", f"{SLICES}/{node}-gpu.afterglow.dev{forced}", sliced, APPLY),
        "renew the lease": ("PATCH", f"{LEASES}/afterglow-node-{node}{forced}", held, APPLY),
        "count an event": ("PATCH", f"{EVENTS}/e-{node}?dryRun=All", {"metadata": {"labels": {"a": "b"}}}, MERGE),
    }


@pytest.mark.parametrize("what", writes("one"))
def test_an_agent_may_do_this_for_its_own_node_and_for_no_other(server: ApiServer, what: str) -> None:
    method, path, body, kind = writes("one")[what]
    server.call(method, path, body, user=AGENT, node="one", kind=kind)
    method, path, body, kind = writes("two")[what]
    with pytest.raises(Refused, match=r"the agent of node one may not write a \w+ of node two") as refused:
        server.call(method, path, body, user=AGENT, node="one", kind=kind)
    assert refused.value.code == 403


@pytest.mark.parametrize("what", writes("one"))
def test_a_token_that_names_no_node_writes_nothing(server: ApiServer, what: str) -> None:
    method, path, body, kind = writes("one")[what]
    with pytest.raises(Refused, match="this token names no node") as refused:
        server.call(method, path, body, user=AGENT, kind=kind)
    assert refused.value.code == 403


@pytest.mark.parametrize(
    ("made", "allowed"),
    [
        (gpu_node("three"), "three"),
        (resource_slice("three"), "three"),
        (lease("afterglow-node-three"), "three"),
        (event("three"), "three"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_what_is_new_belongs_to_the_node_that_makes_it(server: ApiServer, made: Object, allowed: str) -> None:
    path = collection(made["apiVersion"], made["kind"], made["metadata"].get("namespace")) + "?dryRun=All"
    server.call("POST", path, made, user=AGENT, node=allowed)
    with pytest.raises(Refused, match="the agent of node one may not write"):
        server.call("POST", path, made, user=AGENT, node="one")


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"metadata": {"labels": {"afterglow.dev/pool": "mine"}}}, "change no labels"),
        ({"metadata": {"labels": {"afterglow.dev/pool": None}}}, "change no labels"),
        ({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}, "change no labels"),
        ({"metadata": {"annotations": {"a": "b"}}}, "change nothing of a Node but its labels"),
        ({"spec": {"unschedulable": True}}, "change nothing of a Node but its labels"),
        ({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}, "change nothing of a Node but its labels"),
        ({"metadata": {"finalizers": ["a.example/b"]}}, "change nothing of a Node but its labels"),
    ],
    ids=str,
)
def test_of_its_own_node_an_agent_changes_its_labels_only(server: ApiServer, change: Object, because: str) -> None:
    with pytest.raises(Refused, match=because):
        server.call("PATCH", "/api/v1/nodes/one?dryRun=All", change, user=AGENT, node="one", kind=MERGE)
    # Whoever runs the cluster still may.
    server.call("PATCH", "/api/v1/nodes/one?dryRun=All", change, kind=MERGE)


def test_a_slice_stays_in_its_nodes_pool_and_under_our_driver(server: ApiServer) -> None:
    for other in (resource_slice("three", pool="two"), resource_slice("three", driver="gpu.example.com")):
        with pytest.raises(Refused, match="in the pool that has their node's name"):
            server.call("POST", f"{SLICES}?dryRun=All", other, user=AGENT, node="three")


def test_an_agent_cannot_take_the_operators_lead(server: ApiServer) -> None:
    take = {"spec": {"holderIdentity": "an agent"}}
    with pytest.raises(Refused, match="of no node"):
        server.call("PATCH", f"{LEASES}/afterglow-operator?dryRun=All", take, user=AGENT, node="one", kind=MERGE)


def test_what_nobody_may_delete_an_agent_with_more_rights_may_not_either(server: ApiServer) -> None:
    rights = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": AGENTS,
    }
    paths = [
        f"{API}/gpunodes",
        REPLICAS,
        SLICES,
        LEASES,
        EVENTS,
    ]
    one = [
        f"{API}/gpunodes/two",
        f"{REPLICAS}/on-two",
        f"{SLICES}/two-gpu.afterglow.dev",
        f"{LEASES}/afterglow-node-two",
        "/api/v1/nodes/two",
    ]
    server.make(rights)
    try:
        server.until("the rights are in force", lambda: server.call("GET", "/api/v1/secrets", user=AGENT, node="one"))
        for path in paths + one:  # with a collection, the first object of another node ends it
            with pytest.raises(Refused, match="the agent of node one may not write"):
                server.call("DELETE", f"{path}?dryRun=All", user=AGENT, node="one")
    finally:
        server.call("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/too-much")


def test_everybody_else_writes_as_before(server: ApiServer) -> None:
    gone = {"metadata": {"labels": {"afterglow.dev/cluster": None}}}
    server.call("PATCH", "/api/v1/nodes/two?dryRun=All", gone, user=OPERATOR, kind=MERGE)
    server.call("DELETE", f"{SLICES}/two-gpu.afterglow.dev?dryRun=All", user=OPERATOR)
    server.call("DELETE", f"{LEASES}/afterglow-node-two?dryRun=All", user=OPERATOR)


def test_where_owners_are_enforced_the_operator_needs_their_finalizers(server: ApiServer) -> None:
    cluster = server.make({"apiVersion": OURS, "kind": "InferenceCluster", "metadata": {"name": "default"}, "spec": {}})
    owner = {"apiVersion": OURS, "kind": "InferenceCluster", "name": "default", "uid": cluster["metadata"]["uid"]}
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "child", "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}]},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?dryRun=All"
    server.call("POST", path, child, user=OPERATOR)

    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/afterglow-operator"
    whole = server.call("GET", roles)
    rules = [rule for rule in whole["rules"] if not any(name.endswith("/finalizers") for name in rule["resources"])]
    assert len(rules) < len(whole["rules"])
    try:
        server.call("PATCH", roles, {"rules": rules}, kind=MERGE)

        def refused() -> None:
            with pytest.raises(Refused, match="finalizers"):
                server.call("POST", path, child, user=OPERATOR)

        server.until("the right is gone", refused)
    finally:
        server.call("PATCH", roles, {"rules": whole["rules"]}, kind=MERGE)


def test_the_policies_can_be_left_out(render: Render) -> None:
    kinds = {found["kind"] for found in render("default", "--set", "admission.create=false")}
    assert not {kind for kind in kinds if kind.startswith("ValidatingAdmission")}
