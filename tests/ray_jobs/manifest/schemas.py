"""Schemas of KubeRay and Kubernetes as JSON Schema, strict as `kubectl --validate=strict`: no unknown fields."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parent
CRD = FOLDER / "kuberay" / "RayJob.v1.json.gz"
CRON_CRD = FOLDER / "kuberay" / "RayCronJob.v1.json"
CRON_JOB = FOLDER / "kubernetes" / "CronJob.v1.json.gz"
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}, "labels": TEXTS, "annotations": TEXTS},
    "additionalProperties": False,
}


def schema_errors(document: dict[str, Any]) -> list[str]:
    """What of a document the API server would refuse."""
    return [f"{error.json_path}: {error.message}" for error in _validator(document["kind"]).iter_errors(document)]


@cache
def _validator(kind: str) -> Draft202012Validator:
    if kind == "ConfigMap":
        return Draft202012Validator(
            _document("v1", kind, {"immutable": {"type": "boolean"}, "data": TEXTS}, required=["data"])
        )
    if kind == "CronJob":
        return Draft202012Validator(json.loads(gzip.decompress(CRON_JOB.read_bytes())))
    spec = json.loads(gzip.decompress(CRD.read_bytes()))["properties"]["spec"]
    if kind == "RayCluster":
        spec = spec["properties"]["rayClusterSpec"]
    if kind == "RayCronJob":
        cron = json.loads(CRON_CRD.read_text())
        spec = cron | {"properties": cron["properties"] | {"jobTemplate": spec}}
    return Draft202012Validator(_document("ray.io/v1", kind, {"spec": strict(spec)}, required=["spec"]))


def _document(version: str, kind: str, properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    fixed = {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": METADATA}
    return {
        "type": "object",
        "required": [*fixed, *required],
        "properties": fixed | properties,
        "additionalProperties": False,
    }


def strict(schema: Any) -> Any:
    """Kubernetes' structural schema as JSON Schema.

    Pod templates leave `metadata` open in the CRD; what is in ours is checked all the same.
    """
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if made.pop("nullable", False) and "type" in made:
        made["type"] = [made["type"], "null"]
    if "properties" in made:
        made["properties"] = {name: strict(value) for name, value in made["properties"].items()}
        if "additionalProperties" not in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = strict(made[key])
    return made
