"""JSON schemas for kubeconform, without the web.

Those of Kubernetes come from the OpenAPI documents in Kubernetes' own Go module, of the version that `e2e/controlplane`
builds; ours from `crds/`. Both are made strict: a property that the schema does not name is an error.
"""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .objects import ROOT

CACHE = Path(os.environ.get("AFTERGLOW_CACHE", Path.home() / ".cache/afterglow"))
# What kubeconform is told, and what `write` names its files by.
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
GROUPS = ["api__v1", *(f"apis__{group}__v1" for group in ("apps", "policy", "rbac.authorization.k8s.io"))]
GROUPS += ["apis__apiextensions.k8s.io__v1", "apis__admissionregistration.k8s.io__v1"]


@cache
def kubernetes() -> Path:
    """The folder of the module `k8s.io/kubernetes`; from the module proxy where the cache does not have it."""
    made = subprocess.run(
        ["go", "mod", "download", "-json", "k8s.io/kubernetes"],
        cwd=ROOT / "e2e/controlplane",
        env={**os.environ, "GOMODCACHE": str(CACHE / "go/mod"), "GOFLAGS": "-mod=mod", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(json.loads(made.stdout)["Dir"])


def strict(schema: Any, named: dict[str, Any], inside: tuple[str, ...] = ()) -> Any:
    """The schema with its references filled in; those that lead back to themselves (JSONSchemaProps) stay open."""
    if isinstance(schema, list):
        return [strict(entry, named, inside) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        name = reference.removeprefix("#/components/schemas/")
        return {} if name in inside else strict(named[name], named, (*inside, name))
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    if "allOf" in schema and len(schema["allOf"]) == 1:  # a reference with a description or default of its own
        return strict(schema["allOf"][0], named, inside)
    kept = {
        key: {name: strict(entry, named, inside) for name, entry in value.items()}
        if key == "properties"
        else strict(value, named, inside)
        for key, value in schema.items()
        if not key.startswith("x-kubernetes-") and key not in ("description", "default")
    }
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in kept and not open_ended:
        kept["additionalProperties"] = False
    return kept


def write(folder: Path) -> str:
    """Writes every schema below the folder and gives the location for kubeconform."""
    folder.mkdir(parents=True, exist_ok=True)
    named: dict[str, Any] = {}
    for group in GROUPS:
        document = json.loads((kubernetes() / f"api/openapi-spec/v3/{group}_openapi.json").read_text())
        named = document["components"]["schemas"]
        for name, schema in named.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                if "properties" in schema and "metadata" in schema["properties"] and not kind["kind"].endswith("List"):
                    save(folder, kind["kind"], kind["group"], kind["version"], strict(schema, named, (name,)))
    meta = named["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]
    for crd in map(yaml.safe_load, (path.read_text() for path in (ROOT / "crds").glob("*.yaml"))):
        spec = crd["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"], {})
            schema["properties"] |= {
                "apiVersion": {"const": f"{spec['group']}/{version['name']}"},
                "kind": {"const": spec["names"]["kind"]},
                "metadata": strict(meta, named),
            }
            save(folder, spec["names"]["kind"], spec["group"], version["name"], schema)
    return f"{folder}/{LOCATION}"


def save(folder: Path, kind: str, group: str, version: str, schema: Any) -> None:
    parts = [kind.lower(), *filter(None, [group.split(".")[0]]), version]
    (folder / f"{'-'.join(parts)}.json").write_text(json.dumps(schema))
