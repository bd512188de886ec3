"""What clients learn before they ask for anything."""

from __future__ import annotations

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from tests.conformance.conftest import Raw

pytestmark = pytest.mark.conformance
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def test_version_and_health(raw: Raw, kube: KubeClient) -> None:
    """Up, and says what it is."""
    assert (await kube.version()).startswith("v1.")
    for path in ("/healthz", "/livez", "/readyz"):
        assert await raw("GET", path) == (200, "ok")


async def test_every_kind_we_talk_about_is_served(kube: KubeClient) -> None:
    """In the version we use."""
    served = set(await kube.discover())
    assert not [r for r in resources.BY_KIND.values() if r not in served]


async def test_classic_discovery(raw: Raw) -> None:
    """/api, /apis, /apis/GROUP and /apis/GROUP/VERSION."""
    assert "v1" in (await raw("GET", "/api"))[1]["versions"]
    _, groups = await raw("GET", "/apis")
    found = {g["name"]: g["preferredVersion"]["groupVersion"] for g in groups["groups"]}
    assert (found["apps"], found["kubernaut.ai"]) == ("apps/v1", "kubernaut.ai/v1alpha1")
    _, group = await raw("GET", "/apis/kubernaut.ai")
    assert (group["kind"], group["name"]) == ("APIGroup", "kubernaut.ai")
    _, listed = await raw("GET", "/apis/kubernaut.ai/v1alpha1")
    rows = {r["name"]: r for r in listed["resources"]}
    assert tuple(rows["remediationrequests"][k] for k in ("kind", "namespaced", "singularName")) == (
        "RemediationRequest",
        True,
        "remediationrequest",
    )
    assert "rr" in rows["remediationrequests"]["shortNames"]
    assert "remediationrequests/status" in rows
    _, core = await raw("GET", "/api/v1")
    assert {"pods", "pods/status", "pods/log", "namespaces", "serviceaccounts/token"} <= {
        r["name"] for r in core["resources"]
    }
    assert (await raw("GET", "/apis/nothing.example.com"))[0] == 404


async def test_aggregated_discovery(raw: Raw) -> None:
    """One document for all groups, when asked for."""
    for path in ("/api", "/apis"):
        code, body = await raw("GET", path, headers={"Accept": f"{AGGREGATED},application/json"})
        assert (code, body["kind"]) == (200, "APIGroupDiscoveryList")
    groups = {g["metadata"]["name"]: g["versions"] for g in body["items"]}
    [ours] = [r for r in groups["kubernaut.ai"][0]["resources"] if r["resource"] == "remediationrequests"]
    assert (ours["scope"], ours["responseKind"]["kind"]) == ("Namespaced", "RemediationRequest")
    assert "status" in [s["subresource"] for s in ours["subresources"]]


async def test_openapi(raw: Raw) -> None:
    """v3 documents by group version, each with our schema under its kind."""
    _, index = await raw("GET", "/openapi/v3")
    entry = index["paths"]["apis/kubernaut.ai/v1alpha1"]
    code, document = await raw("GET", entry["serverRelativeURL"])
    assert code == 200
    kinds = {
        g["kind"]: schema
        for schema in document["components"]["schemas"].values()
        for g in schema.get("x-kubernetes-group-version-kind", ())
    }
    assert "signalFingerprint" in kinds["RemediationRequest"]["properties"]["spec"]["properties"]
    assert "apis/apps/v1" in index["paths"]
    assert "api/v1" in index["paths"]
