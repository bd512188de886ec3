"""Lists, selectors, pages, and watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, WatchEvent
from kubernaut_ray.kube.errors import Gone, Invalid
from tests.conformance.conftest import CM, DEPLOY, RR, Raw, config_map, deployment, remediation

pytestmark = pytest.mark.conformance


def names(objects: Any) -> list[str]:
    return [o["metadata"]["name"] for o in objects if o["metadata"]["name"] != "kube-root-ca.crt"]


@pytest.fixture
async def labelled(kube: KubeClient, namespace: str) -> str:
    for name, labels in (
        ("a", {"app": "web", "tier": "1"}),
        ("b", {"app": "web", "tier": "2"}),
        ("c", {"app": "db"}),
        ("d", {}),
    ):
        await kube.create(CM, config_map(name, labels=labels), namespace)
    return namespace


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=web", "ab"),
        ("app==web,tier!=1", "b"),
        ("app in (web,db)", "abc"),
        ("app notin (web)", "cd"),
        ("app", "abc"),
        ("!app", "d"),
        ("app,!tier", "c"),
    ],
)
async def test_label_selectors(kube: KubeClient, labelled: str, selector: str, expected: str) -> None:
    """Equality and set-based requirements."""
    assert list(expected) == names((await kube.list(CM, labelled, labels=selector)).items)


async def test_selectors_that_cannot_be_read(kube: KubeClient, namespace: str) -> None:
    """400."""
    with pytest.raises(Invalid):
        await kube.list(CM, namespace, labels="a b c")
    with pytest.raises(Invalid):
        await kube.list(CM, namespace, fields="data.x=1")


async def test_field_selectors(kube: KubeClient, namespace: str) -> None:
    """By name, and by the fields that our kinds declare selectable."""
    for name, fingerprint in (("one", "a" * 64), ("two", "b" * 64)):
        body = remediation(name)
        body["spec"]["signalFingerprint"] = fingerprint
        await kube.create(RR, body, namespace)
    assert names((await kube.list(RR, namespace, fields="metadata.name=two")).items) == ["two"]
    assert names((await kube.list(RR, namespace, fields=f"spec.signalFingerprint={'a' * 64}")).items) == ["one"]
    assert names(
        (await kube.list(RR, fields=f"metadata.namespace={namespace},spec.signalFingerprint!={'a' * 64}")).items
    ) == ["two"]
    await kube.patch(RR, "one", {"status": {"overallPhase": "Pending"}}, namespace, subresource="status")
    assert names((await kube.list(RR, namespace, fields="status.overallPhase=Pending")).items) == ["one"]


async def test_event_fields(kube: KubeClient, namespace: str) -> None:
    """Events are found by the object that they are about."""
    about = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": namespace, "uid": "u1"}
    stamp = "2026-01-31T12:00:00Z"
    await kube.create(
        resources.EVENT,
        {
            "metadata": {"name": "web.1"},
            "involvedObject": about,
            "type": "Warning",
            "reason": "OOMKilled",
            "message": "killed",
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "source": {"component": "test"},
        },
        namespace,
    )
    for fields in ("involvedObject.name=web,involvedObject.kind=Deployment", "type=Warning", "reason=OOMKilled"):
        assert names((await kube.list(resources.EVENT, namespace, fields=fields)).items) == ["web.1"]
    assert (await kube.list(resources.EVENT, namespace, fields="involvedObject.name=other")).items == ()


async def test_pages(kube: KubeClient, labelled: str) -> None:
    """limit and continue walk the whole list, once."""
    seen: list[str] = []
    token = ""
    while True:
        page = await kube.list(CM, labelled, labels="app", limit=2, continue_token=token)
        assert len(page.items) <= 2
        seen += names(page.items)
        token = page.continue_token
        if not token:
            break
    assert seen == ["a", "b", "c"]


async def test_list_shape(raw: Raw, labelled: str) -> None:
    """A list has a kind, a version to watch from, and items."""
    code, body = await raw("GET", f"/api/v1/namespaces/{labelled}/configmaps")
    assert (code, body["kind"], body["apiVersion"]) == (200, "ConfigMapList", "v1")
    assert body["metadata"]["resourceVersion"]
    code, body = await raw("GET", f"/apis/kubernaut.ai/v1alpha1/namespaces/{labelled}/remediationrequests")
    assert (code, body["kind"], body["items"]) == (200, "RemediationRequestList", [])


async def test_tables(raw: Raw, kube: KubeClient, namespace: str) -> None:
    """Tables have the definition's columns and carry metadata."""
    await kube.create(RR, remediation(), namespace)
    path = f"/apis/kubernaut.ai/v1alpha1/namespaces/{namespace}/remediationrequests"
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    code, body = await raw("GET", path, headers=accept)
    assert (code, body["kind"], body["apiVersion"]) == (200, "Table", "meta.k8s.io/v1")
    columns = [c["name"] for c in body["columnDefinitions"]]
    assert columns[:3] == ["Name", "Phase", "Outcome"]
    [row] = body["rows"]
    assert row["cells"][0] == "rr-1"
    assert (row["object"]["kind"], row["object"]["metadata"]["name"]) == ("PartialObjectMetadata", "rr-1")
    partial = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"}
    code, body = await raw("GET", path, headers=partial)
    assert body["kind"] == "PartialObjectMetadataList"
    assert "spec" not in body["items"][0]


async def test_unacceptable(raw: Raw) -> None:
    """406 for a representation that there is not."""
    assert (await raw("GET", "/api/v1/namespaces", headers={"Accept": "image/png"}))[0] == 406


async def collect(events: AsyncIterator[WatchEvent], until: Callable[[list[WatchEvent]], bool]) -> list[WatchEvent]:
    found: list[WatchEvent] = []
    async with asyncio.timeout(20):
        async for event in events:
            if event.type != "BOOKMARK":
                found.append(event)
            if until(found):
                return found
    return found


def seen(events: list[WatchEvent]) -> list[tuple[str, str]]:
    return [
        (e.type, e.object["metadata"]["name"]) for e in events if e.object["metadata"]["name"] != "kube-root-ca.crt"
    ]


async def test_watch_from_a_list(kube: KubeClient, namespace: str) -> None:
    """List, then watch from its version: every later change, in order, once, even if it came before the watch."""
    await kube.create(CM, config_map("old"), namespace)
    version = (await kube.list(CM, namespace)).resource_version
    await kube.create(CM, config_map("a"), namespace)
    await kube.patch(CM, "a", {"data": {"k": "v"}}, namespace)
    await kube.delete(CM, "a", namespace)
    found = await collect(kube.watch(CM, namespace, resource_version=version), lambda f: len(seen(f)) == 3)
    assert seen(found) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(e.object["metadata"]["resourceVersion"]) for e in found]
    assert sorted(set(versions)) == versions


async def test_watch_without_a_version(kube: KubeClient, namespace: str) -> None:
    """Starts with what is there."""
    await kube.create(CM, config_map("old"), namespace)

    async def change() -> None:
        await kube.create(CM, config_map("new"), namespace)

    watching = asyncio.create_task(collect(kube.watch(CM, namespace), lambda f: ("ADDED", "new") in seen(f)))
    await asyncio.sleep(0.1)
    await change()
    assert seen(await watching) == [("ADDED", "old"), ("ADDED", "new")]


async def test_watch_with_a_selector(kube: KubeClient, namespace: str) -> None:
    """Entering the selection is ADDED, leaving it is DELETED."""
    version = (await kube.list(CM, namespace)).resource_version
    await kube.create(CM, config_map("x", labels={"in": "no"}), namespace)
    await kube.patch(CM, "x", {"metadata": {"labels": {"in": "yes"}}}, namespace)
    await kube.patch(CM, "x", {"data": {"k": "v"}}, namespace)
    await kube.patch(CM, "x", {"metadata": {"labels": {"in": "no"}}}, namespace)
    events = kube.watch(CM, namespace, resource_version=version, labels="in=yes")
    found = await collect(events, lambda f: len(f) == 3)
    assert seen(found) == [("ADDED", "x"), ("MODIFIED", "x"), ("DELETED", "x")]


async def test_watch_ends_on_time(kube: KubeClient, namespace: str) -> None:
    """timeoutSeconds is the server's to keep."""
    async with asyncio.timeout(10):
        async for _ in kube.watch(CM, namespace, timeout_seconds=1):
            pass


async def test_watch_from_too_long_ago(raw: Raw, kube: KubeClient, namespace: str) -> None:
    """410 Gone, as an ERROR event or as the answer: list again."""
    with pytest.raises(Gone):
        async for _ in kube.watch(CM, namespace, resource_version="1", timeout_seconds=5):
            pass
    assert (await raw("GET", f"/api/v1/namespaces/{namespace}/configmaps?watch=1&resourceVersion=abc"))[0] == 400


async def test_bookmarks(raw: Raw, kube: KubeClient, namespace: str) -> None:
    """With allowWatchBookmarks a watch that ends on time tells how far it came."""
    version = (await kube.list(CM, namespace)).resource_version
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=1&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={version}"
    code, text = await raw("GET", path)
    lines = text if isinstance(text, str) else orjson.dumps(text).decode()
    assert code == 200
    events = [orjson.loads(line) for line in lines.splitlines()]
    assert {"BOOKMARK"} >= {e["type"] for e in events}
    for event in events:
        assert event["object"]["kind"] == "ConfigMap"
        assert event["object"]["metadata"]["resourceVersion"]


async def test_watch_one_kind_everywhere(kube: KubeClient, namespace: str) -> None:
    """A watch over all namespaces with a field selector, as kubectl wait and our caches make it."""
    version = (await kube.list(DEPLOY)).resource_version
    await kube.create(DEPLOY, deployment("web"), namespace)
    await kube.create(DEPLOY, deployment("other"), namespace)
    events = kube.watch(DEPLOY, resource_version=version, fields=f"metadata.name=other,metadata.namespace={namespace}")
    assert seen(await collect(events, lambda f: len(f) == 1)) == [("ADDED", "other")]
