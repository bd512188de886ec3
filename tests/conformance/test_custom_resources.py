"""Our kinds, as the API server holds them: validation, defaults, pruning, immutability; and definitions as such."""

from __future__ import annotations

from typing import Any

import pytest

from kubernaut_ray import crds
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import Invalid
from kubernaut_ray.kube.resources import Resource
from tests.conformance.conftest import RR, Raw, eventually, gone, remediation

pytestmark = pytest.mark.conformance


async def test_definitions_are_established(kube: KubeClient) -> None:
    """All of ours are served."""
    for model in crds.SERVED:
        definition = await kube.get(resources.CRD, f"{model.META.plural}.kubernaut.ai")
        true = {c["type"] for c in definition["status"]["conditions"] if c["status"] == "True"}
        assert {"Established", "NamesAccepted"} <= true
        assert "v1alpha1" in definition["status"]["storedVersions"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        pytest.param(("spec", "signalFingerprint"), "short", "spec.signalFingerprint", id="pattern"),
        pytest.param(("spec", "signalFingerprint"), None, "spec.signalFingerprint", id="required"),
        pytest.param(("spec", "targetType"), "mainframe", "spec.targetType.*[Uu]nsupported value", id="enum"),
        pytest.param(("spec", "targetResource"), "pod", "spec.targetResource", id="type"),
        pytest.param(("spec", "signalName"), "x" * 254, "spec.signalName", id="length"),
        pytest.param(("spec", "firingTime"), "yesterday", "spec.firingTime", id="date-time"),
    ],
)
async def test_specs_that_are_refused(
    kube: KubeClient, namespace: str, path: tuple[str, str], value: Any, words: str
) -> None:
    """422 naming the field."""
    body = remediation()
    if value is None:
        del body[path[0]][path[1]]
    else:
        body[path[0]][path[1]] = value
    with pytest.raises(Invalid, match=words):
        await kube.create(RR, body, namespace)


async def test_defaults(kube: KubeClient, namespace: str) -> None:
    """A field left out gets the schema's default."""
    body = remediation()
    body["spec"].pop("severity", None)
    assert (await kube.create(RR, body, namespace))["spec"]["severity"] == "unknown"


async def test_immutable_field(kube: KubeClient, namespace: str) -> None:
    """A transition rule refuses the change and leaves the object as it was."""
    await kube.create(RR, remediation(), namespace)
    with pytest.raises(Invalid, match="signalFingerprint is immutable"):
        await kube.patch(RR, "rr-1", {"spec": {"signalFingerprint": "f" * 64}}, namespace)
    await kube.patch(RR, "rr-1", {"spec": {"severity": "warning"}}, namespace)


async def test_illegal_status(kube: KubeClient, namespace: str) -> None:
    """Status is validated as well."""
    await kube.create(RR, remediation(), namespace)
    with pytest.raises(Invalid, match=r"status\.overallPhase"):
        await kube.patch(RR, "rr-1", {"status": {"overallPhase": "Dancing"}}, namespace, subresource="status")


GROUP = "conformance.kubernaut.ai"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "mode": {"type": "string", "enum": ["fast", "slow"], "default": "slow"},
                "port": {"x-kubernetes-int-or-string": True},
                "note": {"type": "string", "nullable": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "replicas": {"type": "integer", "default": 1},
            },
            "x-kubernetes-validations": [
                {"rule": "self.mode != 'fast' || self.size <= 5", "message": "fast ones are at most 5"},
                {"rule": "self.size >= oldSelf.size", "message": "size may only grow"},
                {"rule": "!has(self.tags) || self.tags.all(t, t.startsWith('t'))", "message": "tags start with t"},
            ],
        },
        "status": {
            "type": "object",
            "properties": {
                "phase": {"type": "string"},
                "replicas": {"type": "integer"},
                "selector": {"type": "string"},
            },
        },
    },
}


def definition(plural: str, kind: str, schema: dict[str, Any] = SCHEMA) -> dict[str, Any]:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
    }
    names = {"plural": plural, "kind": kind, "shortNames": [plural[:4]]}
    return {
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


WIDGET = Resource(GROUP, "v1", "widgets", "Widget")


@pytest.fixture
async def widgets(kube: KubeClient) -> Any:
    name = f"widgets.{GROUP}"
    if await gone(kube, resources.CRD, name):
        await kube.create(resources.CRD, definition("widgets", "Widget"))

    async def established() -> bool:
        conditions = (await kube.get(resources.CRD, name)).get("status", {}).get("conditions", ())
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    async def served() -> bool:
        return WIDGET in await kube.discover()

    await eventually(established)
    await eventually(served)
    yield WIDGET
    await kube.delete(resources.CRD, name)
    await eventually(lambda: gone(kube, resources.CRD, name))


async def test_a_definition_from_start_to_end(kube: KubeClient, raw: Raw, namespace: str, widgets: Resource) -> None:
    """Served at once with defaults, rules, status and scale; its objects go with it."""
    made = await kube.create(
        widgets,
        {"metadata": {"name": "a"}, "spec": {"size": 3, "free": {"x": [1]}, "port": "http", "odd": 1}},
        namespace,
    )
    assert made["spec"] == {"size": 3, "mode": "slow", "replicas": 1, "free": {"x": [1]}, "port": "http"}
    for spec, words in (
        ({"size": 0}, "spec.size"),
        ({"size": 6, "mode": "fast"}, "fast ones are at most 5"),
        ({"size": 1, "tags": ["x"]}, "tags start with t"),
        ({"size": 1, "tags": ["t", "t"]}, "[Dd]uplicate"),
        ({"size": 1, "port": 1.5}, "spec.port"),
        ({}, "spec.size"),
    ):
        with pytest.raises(Invalid, match=words):
            await kube.create(widgets, {"metadata": {"name": "b"}, "spec": spec}, namespace)
    with pytest.raises(Invalid, match="size may only grow"):
        await kube.patch(widgets, "a", {"spec": {"size": 2}}, namespace)
    assert (await kube.patch(widgets, "a", {"spec": {"size": 4}}, namespace))["spec"]["size"] == 4
    path = f"/apis/{GROUP}/v1/namespaces/{namespace}/widgets/a/scale"
    code, scale = await raw(
        "PATCH", path, data=b'{"spec":{"replicas":3}}', headers={"Content-Type": "application/merge-patch+json"}
    )
    assert (code, scale["spec"]["replicas"]) == (200, 3)
    assert (await kube.get(widgets, "a", namespace))["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"metadata": {"name": "wrong.example.com"}}, "metadata.name", id="name"),
        pytest.param({"spec": {"scope": "Galaxy"}}, "spec.scope", id="scope"),
        pytest.param({"spec": {"versions": []}}, "spec.versions", id="no versions"),
    ],
)
async def test_definitions_that_are_refused(kube: KubeClient, change: dict[str, Any], words: str) -> None:
    """422 naming the field."""
    body = definition("gadgets", "Gadget")
    body["spec"] = {**body["spec"], **change.get("spec", {})}
    body["metadata"] = change.get("metadata", body["metadata"])
    with pytest.raises(Invalid, match=words):
        await kube.create(resources.CRD, body)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        pytest.param({"type": "object", "properties": {"a": {}}}, "type", id="not structural"),
        pytest.param(
            {"type": "object", "properties": {"a": {"type": "string", "default": 1}}}, "default", id="wrong default"
        ),
        pytest.param(
            {"type": "object", "x-kubernetes-validations": [{"rule": "self.nope == 1"}]},
            "undefined field",
            id="rule on no field",
        ),
    ],
)
async def test_schemas_that_are_refused(kube: KubeClient, schema: dict[str, Any], words: str) -> None:
    """422 saying what is wrong with the schema."""
    with pytest.raises(Invalid, match=words):
        await kube.create(resources.CRD, definition("gadgets", "Gadget", schema))


async def test_tekton_kinds(kube: KubeClient, namespace: str) -> None:
    """Open specs, own status."""
    body = {"metadata": {"name": "run"}, "spec": {"pipelineSpec": {"tasks": []}, "anything": {"goes": [1, "2"]}}}
    if resources.PIPELINE_RUN not in await kube.discover():
        pytest.fail("this cluster has no Tekton Pipelines, which kubernaut-ray needs")
    made = await kube.create(resources.PIPELINE_RUN, body, namespace, dry_run=True)
    assert made["metadata"]["name"] == "run"
