"""Schemas of the built-in kinds: generated from the official client's models, committed, and read at start.

``python -m kubernaut_ray.kube.embedded.builtin_schemas`` writes ``data/builtin_schemas.json`` again; a test compares the file
with the installed client. The server itself reads the file only, so that it never imports the client.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

Obj = dict[str, Any]

FILE = "builtin_schemas.json"
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

ROOTS = {
    "Namespace": "V1Namespace", "Pod": "V1Pod", "Service": "V1Service", "Node": "V1Node", "ConfigMap": "V1ConfigMap",
    "Secret": "V1Secret", "Event": "CoreV1Event", "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "ServiceAccount": "V1ServiceAccount", "Deployment": "V1Deployment", "ReplicaSet": "V1ReplicaSet",
    "StatefulSet": "V1StatefulSet", "DaemonSet": "V1DaemonSet", "Job": "V1Job",
    "HorizontalPodAutoscaler": "V2HorizontalPodAutoscaler", "PodDisruptionBudget": "V1PodDisruptionBudget",
    "NetworkPolicy": "V1NetworkPolicy", "Lease": "V1Lease", "Role": "V1Role", "RoleBinding": "V1RoleBinding",
    "ClusterRole": "V1ClusterRole", "ClusterRoleBinding": "V1ClusterRoleBinding",
    "CustomResourceDefinition": "V1CustomResourceDefinition", "TokenReview": "V1TokenReview",
    "SelfSubjectReview": "V1SelfSubjectReview", "SubjectAccessReview": "V1SubjectAccessReview",
    "SelfSubjectAccessReview": "V1SelfSubjectAccessReview", "SelfSubjectRulesReview": "V1SelfSubjectRulesReview",
    "LocalSubjectAccessReview": "V1LocalSubjectAccessReview",
    "MutatingWebhookConfiguration": "V1MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration": "V1ValidatingWebhookConfiguration",
}  # fmt: skip
"""Kind → class of the client's models."""

_QUANTITY_MAPS = frozenset({"limits", "requests", "capacity", "allocatable", "hard", "allocatedResources", "overhead"})
_QUANTITIES = frozenset({"sizeLimit", "divisor", "averageValue"})
_OBSERVED = re.compile(r"Status|Condition|State|Taint$|Address|DaemonEndpoint")
"""Types that controllers report; the API server takes them as they come."""
_LENIENT = frozenset({("V1NetworkPolicySpec", "podSelector"), ("CoreV1Event", "metadata"), ("V1Role", "rules")})
"""Required by the published schema, defaulted by the server."""


def component(model: str) -> str:
    """Name the OpenAPI component of a model class: ``V1PodSpec`` → ``io.k8s.api.PodSpec``."""
    if model == "V1ObjectMeta":
        return OBJECT_META
    return "io.k8s.api." + re.sub(r"^(Core|Apiextensions|Authentication|Events|Discovery|Storage|Rbac)?V\d", "", model)


def _cleaned(schema: Any, model: str, field: str = "") -> Any:
    """Turn pydantic's JSON schema of a field into a structural one."""
    if not isinstance(schema, dict):
        return schema
    options = [o for o in schema.get("anyOf", ()) if o != {"type": "null"}]
    if {o.get("type") for o in options} == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True, **_described(schema)}
    if options:
        inner = next((o for o in options if "format" not in o or o["format"] != "binary"), options[0])
        if len(options) > 1 and all(o.get("type") == "string" for o in options):
            inner = {"type": "string", "format": "byte"}
        return {**_cleaned(inner, model, field), **_described(schema)}
    if "allOf" in schema:
        return {**_cleaned(schema["allOf"][0], model, field), **_described(schema)}
    if "$ref" in schema:
        return {"$ref": f"#/components/schemas/{component(schema['$ref'].rsplit('/', 1)[1])}", **_described(schema)}
    kept: Obj = {k: schema[k] for k in ("type", "format") if k in schema}
    if "type" not in kept:
        return {"x-kubernetes-preserve-unknown-fields": True, **_described(schema)}
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = _cleaned(schema["additionalProperties"], model)
        if field in _QUANTITY_MAPS and kept["additionalProperties"] == {"type": "string"}:
            kept["additionalProperties"] = {"type": "string", "format": "quantity"}
    elif schema.get("additionalProperties") is True:
        kept["x-kubernetes-preserve-unknown-fields"] = True
    if field in _QUANTITIES and kept["type"] == "string":
        kept["format"] = "quantity"
    if "items" in schema:
        kept["items"] = _cleaned(schema["items"], model) or {"x-kubernetes-preserve-unknown-fields": True}
    return {**kept, **_described(schema)}


def _described(schema: Obj) -> Obj:
    return {"description": schema["description"]} if schema.get("description") else {}


def _definition(schema: Obj, model: str) -> Obj:
    required = [r for r in schema.get("required", ()) if not _OBSERVED.search(model) and (model, r) not in _LENIENT]
    text = str(schema.get("description", "")).split("\n\nAttributes:")[0].strip()
    made: Obj = {"type": "object", "description": text}
    if "properties" in schema:
        made["properties"] = {k: _cleaned(v, model, k) for k, v in schema["properties"].items()}
    if required:
        made["required"] = required
    return made


def generate() -> Obj:
    """Return component name → schema of everything that the built-in kinds reach."""
    from kubernetes.client import models

    found: Obj = {}
    for model in ROOTS.values():
        document = getattr(models, model).model_json_schema(by_alias=True, mode="serialization")
        definitions = dict(document.get("$defs", {}))
        if "$ref" in document:
            definitions.setdefault(model, document)
        else:
            definitions[model] = document
        for name, schema in definitions.items():
            found.setdefault(component(name), _definition(schema, name))
    return dict(sorted(found.items()))


@functools.cache
def load() -> Obj:
    """Read the committed schemas."""
    data: Obj = orjson.loads(resources.files(__package__).joinpath("data", FILE).read_bytes())
    return data


def main() -> None:
    """Write the file again."""
    path = Path(__file__).parent / "data" / FILE
    path.write_bytes(orjson.dumps(generate(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
