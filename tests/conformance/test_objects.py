"""Creating, reading, changing and deleting objects of any kind."""

from __future__ import annotations

import asyncio

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import AlreadyExists, Conflict, Invalid, NotFound
from tests.conformance.conftest import CM, DEPLOY, RR, Raw, config_map, deployment, eventually, gone, remediation

pytestmark = pytest.mark.conformance


async def test_create_fills_in_what_the_server_owns(kube: KubeClient, namespace: str) -> None:
    """uid, creationTimestamp, resourceVersion and generation are the server's; what the client says there is ignored."""
    made = await kube.create(
        RR, remediation(uid="mine", creationTimestamp="2001-01-01T00:00:00Z", generation=7), namespace
    )
    metadata = made["metadata"]
    assert ("rr-1", namespace, 1) == (metadata["name"], metadata["namespace"], metadata["generation"])
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] > "2020"
    assert metadata["resourceVersion"]
    assert made == await kube.get(RR, "rr-1", namespace)


async def test_create_twice(kube: KubeClient, namespace: str) -> None:
    """A name is taken once: AlreadyExists, however many ask at the same time."""
    outcomes = await asyncio.gather(
        *(kube.create(CM, config_map("one", {"by": str(i)}), namespace) for i in range(20)), return_exceptions=True
    )
    assert sum(isinstance(o, dict) for o in outcomes) == 1
    assert sum(isinstance(o, AlreadyExists) for o in outcomes) == 19


async def test_generate_name(kube: KubeClient, namespace: str) -> None:
    """The server completes the name."""
    made = await kube.create(CM, {"metadata": {"generateName": "made-"}}, namespace)
    assert made["metadata"]["name"].startswith("made-")
    assert len(made["metadata"]["name"]) > len("made-")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param({"metadata": {"name": "Not_A_Name"}}, "metadata.name", id="name that is no DNS name"),
        pytest.param({"metadata": {}}, "name", id="no name"),
        pytest.param({"metadata": {"name": "x", "labels": {"a b": "c"}}}, "metadata.labels", id="label key"),
        pytest.param({"metadata": {"name": "x", "labels": {"a": "b/c"}}}, "metadata.labels", id="label value"),
        pytest.param(
            {"metadata": {"name": "x", "resourceVersion": "1"}}, "resourceVersion", id="resourceVersion on create"
        ),
        pytest.param({"metadata": {"name": "x", "namespace": "elsewhere"}}, "namespace", id="another namespace"),
        pytest.param({"metadata": {"name": "x"}, "data": {"a": 1}}, "data", id="data that is no text"),
        pytest.param({"metadata": {"name": "x"}, "data": {"a/b": "1"}}, "data", id="data key"),
    ],
)
async def test_objects_that_are_refused(kube: KubeClient, namespace: str, body: dict[str, object], words: str) -> None:
    """400 or 422, naming the field."""
    with pytest.raises(Invalid, match=words):
        await kube.create(CM, body, namespace)


async def test_status_bodies(raw: Raw, namespace: str) -> None:
    """A refusal is a v1.Status with code, reason, details and causes."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    code, body = await raw("GET", f"{path}/nope")
    assert (
        code,
        body["kind"],
        body["status"],
        body["reason"],
        body["code"],
    ) == (404, "Status", "Failure", "NotFound", 404)
    assert body["details"] == {"name": "nope", "kind": "configmaps"}
    bad = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "A"}}
    code, body = await raw("POST", path, json=bad)
    assert (code, body["reason"]) == (422, "Invalid")
    assert [c["field"] for c in body["details"]["causes"]] == ["metadata.name"]
    for json in (
        {"kind": "ConfigMap", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}},
    ):
        assert (await raw("POST", path, json=json))[0] == 400
    assert (await raw("POST", path, data=b"{nonsense", headers={"Content-Type": "application/json"}))[0] == 400
    assert (await raw("POST", path, data=b"x", headers={"Content-Type": "text/csv"}))[0] == 415
    assert (await raw("GET", "/apis/nothing.example.com/v1/things"))[0] == 404
    assert (await raw("PUT", path, json=bad))[0] == 405


async def test_missing_namespace(kube: KubeClient) -> None:
    """Creating in a namespace that does not exist is NotFound."""
    with pytest.raises(NotFound, match="missing-namespace"):
        await kube.create(CM, config_map("x"), "missing-namespace")


async def test_optimistic_concurrency(kube: KubeClient, namespace: str) -> None:
    """A write based on an old resourceVersion is a Conflict, by PUT and by PATCH; without one the last write wins."""
    first = await kube.create(CM, config_map("x", {"a": "1"}), namespace)
    second = await kube.replace(CM, {**first, "data": {"a": "2"}}, namespace)
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await kube.replace(CM, {**first, "data": {"a": "3"}}, namespace)
    version = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    with pytest.raises(Conflict):
        await kube.patch(CM, "x", {**version, "data": {"a": "3"}}, namespace)
    with pytest.raises(Conflict):
        await kube.patch(CM, "x", {"metadata": {"uid": "another"}, "data": {"a": "3"}}, namespace)
    await kube.patch(CM, "x", {"data": {"a": "4"}}, namespace)
    assert (await kube.get(CM, "x", namespace))["data"] == {"a": "4"}


async def test_one_of_many_concurrent_updates_wins(kube: KubeClient, namespace: str) -> None:
    """From one version, exactly one write succeeds."""
    base = await kube.create(CM, config_map("x"), namespace)
    outcomes = await asyncio.gather(
        *(kube.replace(CM, {**base, "data": {"by": str(i)}}, namespace) for i in range(10)), return_exceptions=True
    )
    assert sum(isinstance(o, dict) for o in outcomes) == 1
    assert sum(isinstance(o, Conflict) for o in outcomes) == 9


async def test_a_write_that_changes_nothing(kube: KubeClient, namespace: str) -> None:
    """The resourceVersion stays."""
    made = await kube.create(CM, config_map("x", {"a": "1"}), namespace)
    same = await kube.patch(CM, "x", {"data": {"a": "1"}}, namespace)
    assert made["metadata"]["resourceVersion"] == same["metadata"]["resourceVersion"]


async def test_generation_counts_changes_of_the_spec(kube: KubeClient, namespace: str) -> None:
    """Labels and status leave it alone, for built-in and custom kinds."""
    await kube.create(RR, remediation(), namespace)
    await kube.create(DEPLOY, deployment(), namespace)
    for resource, name, change in ((RR, "rr-1", {"severity": "warning"}), (DEPLOY, "web", {"minReadySeconds": 3})):
        before = (await kube.get(resource, name, namespace))["metadata"]["generation"]
        labelled = await kube.patch(resource, name, {"metadata": {"labels": {"a": "b"}}}, namespace)
        assert before == labelled["metadata"]["generation"]
        changed = await kube.patch(resource, name, {"spec": change}, namespace)
        assert before + 1 == changed["metadata"]["generation"]


async def test_status_is_a_resource_of_its_own(kube: KubeClient, namespace: str) -> None:
    """The main endpoint ignores status, /status ignores everything else; both share one resourceVersion."""
    body = remediation()
    made = await kube.create(RR, {**body, "status": {"overallPhase": "Failed"}}, namespace)
    assert "overallPhase" not in made.get("status", {})
    ignored = await kube.patch(RR, "rr-1", {"status": {"overallPhase": "Failed"}}, namespace)
    assert "overallPhase" not in ignored.get("status", {})
    patch = {"spec": {"severity": "other"}, "metadata": {"labels": {"x": "y"}}, "status": {"overallPhase": "Pending"}}
    done = await kube.patch(RR, "rr-1", patch, namespace, subresource="status")
    assert (
        done["status"]["overallPhase"],
        done["spec"]["severity"],
        done["metadata"]["generation"],
    ) == ("Pending", "critical", 1)
    assert "x" not in done["metadata"].get("labels", {})
    with pytest.raises(Conflict):
        await kube.replace(RR, made, namespace, subresource="status")
    replaced = await kube.replace(
        RR, {**done, "status": {"overallPhase": "Processing"}}, namespace, subresource="status"
    )
    assert replaced["status"]["overallPhase"] == "Processing"
    with pytest.raises(NotFound):
        await kube.patch(CM, "x", {"status": {}}, namespace, subresource="status")


async def test_dry_run(kube: KubeClient, namespace: str) -> None:
    """Everything is checked and answered, nothing is stored."""
    made = await kube.create(CM, config_map("dry", {"a": "1"}), namespace, dry_run=True)
    assert made["data"] == {"a": "1"}
    assert await gone(kube, CM, "dry", namespace)
    await kube.create(CM, config_map("wet", {"a": "1"}), namespace)
    patched = await kube.patch(CM, "wet", {"data": {"a": "2"}}, namespace, dry_run=True)
    assert patched["data"] == {"a": "2"}
    assert (await kube.get(CM, "wet", namespace))["data"] == {"a": "1"}
    with pytest.raises(AlreadyExists):
        await kube.create(CM, config_map("wet"), namespace, dry_run=True)
    with pytest.raises(Invalid):
        await kube.create(CM, config_map("BAD"), namespace, dry_run=True)


async def test_unknown_fields(raw: Raw, namespace: str) -> None:
    """Dropped with a warning by default, refused when strict."""
    path = f"/apis/kubernaut.ai/v1alpha1/namespaces/{namespace}/remediationrequests"
    body = remediation()
    body["spec"]["noSuchField"] = 1
    code, answer = await raw("POST", f"{path}?fieldValidation=Strict", json=body)
    assert (code, 'unknown field "spec.noSuchField"' in answer["message"]) == (400, True)
    code, headers = await raw.headers("POST", f"{path}?fieldValidation=Warn&dryRun=All", json=body)
    assert (code, 'unknown field \\"spec.noSuchField\\"' in headers.get("Warning", "")) == (201, True)
    code, answer = await raw("POST", f"{path}?fieldValidation=Ignore", json=body)
    assert code == 201
    assert "noSuchField" not in answer["spec"]
    typo = deployment()
    typo["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    code, answer = await raw(
        "POST", f"/apis/apps/v1/namespaces/{namespace}/deployments?fieldValidation=Strict", json=typo
    )
    assert (code, "imagePulPolicy" in answer["message"]) == (400, True)


async def test_delete(kube: KubeClient, namespace: str) -> None:
    """Gone at once without finalizers; preconditions hold; again is NotFound."""
    made = await kube.create(CM, config_map("x"), namespace)
    with pytest.raises(Conflict):
        await kube.delete(CM, "x", namespace, uid="another")
    with pytest.raises(Conflict):
        await kube.delete(CM, "x", namespace, resource_version="1")
    await kube.delete(CM, "x", namespace, uid=made["metadata"]["uid"])
    assert await gone(kube, CM, "x", namespace)
    with pytest.raises(NotFound):
        await kube.delete(CM, "x", namespace)


async def test_finalizers_hold_an_object(kube: KubeClient, namespace: str) -> None:
    """It is marked, can be changed, takes no new finalizers, and goes when the last one does."""
    await kube.create(CM, config_map("x", finalizers=["test.kubernaut.ai/hold"]), namespace)
    await kube.delete(CM, "x", namespace)
    marked = await kube.get(CM, "x", namespace)
    assert marked["metadata"]["deletionTimestamp"]
    await kube.delete(CM, "x", namespace)
    await kube.patch(CM, "x", {"data": {"a": "1"}}, namespace)
    with pytest.raises(Invalid, match="finalizers"):
        await kube.patch(
            CM, "x", {"metadata": {"finalizers": ["test.kubernaut.ai/hold", "test.kubernaut.ai/more"]}}, namespace
        )
    await kube.patch(CM, "x", {"metadata": {"finalizers": None}}, namespace)
    assert await gone(kube, CM, "x", namespace)


async def test_delete_collection(raw: Raw, kube: KubeClient, namespace: str) -> None:
    """Deletes what the selector selects."""
    for name, group in (("a", "x"), ("b", "x"), ("c", "y")):
        await kube.create(CM, config_map(name, labels={"group": group}), namespace)
    code, _ = await raw("DELETE", f"/api/v1/namespaces/{namespace}/configmaps?labelSelector=group%3Dx")
    assert code == 200
    assert await gone(kube, CM, "a", namespace)
    assert await gone(kube, CM, "b", namespace)
    assert await kube.get(CM, "c", namespace)


def owned(name: str, *owners: dict[str, object], block: bool = False) -> dict[str, object]:
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": o["metadata"]["name"],
            "uid": o["metadata"]["uid"],
            "blockOwnerDeletion": block,
        }  # type: ignore[index]
        for o in owners
    ]
    return config_map(name, ownerReferences=references)


async def test_dependents_follow_their_owner(kube: KubeClient, namespace: str) -> None:
    """Background: the owner goes at once, its dependents and theirs soon after; one that has another owner stays."""
    one, two = [await kube.create(CM, config_map(n), namespace) for n in ("one", "two")]
    child = await kube.create(CM, owned("child", one), namespace)
    await kube.create(CM, owned("grandchild", child), namespace)
    await kube.create(CM, owned("shared", one, two), namespace)
    await kube.delete(CM, "one", namespace, propagation="Background")
    assert await gone(kube, CM, "one", namespace)
    await eventually(lambda: gone(kube, CM, "child", namespace))
    await eventually(lambda: gone(kube, CM, "grandchild", namespace))
    assert await kube.get(CM, "shared", namespace)


async def test_foreground_deletion(kube: KubeClient, namespace: str) -> None:
    """The owner stays, marked, until the dependents that block it are gone."""
    owner = await kube.create(CM, config_map("owner"), namespace)
    child = owned("child", owner, block=True)
    child["metadata"]["finalizers"] = ["test.kubernaut.ai/hold"]  # type: ignore[index]
    await kube.create(CM, child, namespace)
    await kube.delete(CM, "owner", namespace, propagation="Foreground")
    marked = await kube.get(CM, "owner", namespace)
    assert "foregroundDeletion" in marked["metadata"]["finalizers"]

    async def child_marked() -> bool:
        return "deletionTimestamp" in (await kube.get(CM, "child", namespace))["metadata"]

    await eventually(child_marked)
    assert await kube.get(CM, "owner", namespace)
    await kube.patch(CM, "child", {"metadata": {"finalizers": None}}, namespace)
    await eventually(lambda: gone(kube, CM, "owner", namespace))


async def test_orphans(kube: KubeClient, namespace: str) -> None:
    """Orphan: dependents stay and lose the reference."""
    owner = await kube.create(CM, config_map("owner"), namespace)
    await kube.create(CM, owned("child", owner), namespace)
    await kube.delete(CM, "owner", namespace, propagation="Orphan")
    await eventually(lambda: gone(kube, CM, "owner", namespace))
    assert not (await kube.get(CM, "child", namespace))["metadata"].get("ownerReferences")


async def test_children_of_nobody(kube: KubeClient, namespace: str) -> None:
    """An object whose owner does not exist is garbage."""
    await kube.create(
        CM, owned("child", {"metadata": {"name": "ghost", "uid": "00000000-0000-0000-0000-000000000000"}}), namespace
    )
    await eventually(lambda: gone(kube, CM, "child", namespace))


async def test_namespace_life(kube: KubeClient) -> None:
    """Active with a default account; deleting it removes what is in it and then itself."""
    made = await kube.create(resources.NAMESPACE, {"metadata": {"generateName": "test-life-"}})
    name = made["metadata"]["name"]
    assert name == (await kube.get(resources.NAMESPACE, name))["metadata"]["labels"]["kubernetes.io/metadata.name"]

    async def account() -> bool:
        return not await gone(kube, resources.SERVICE_ACCOUNT, "default", name)

    await eventually(account)
    await kube.create(CM, config_map("held", finalizers=["test.kubernaut.ai/hold"]), name)
    await kube.create(RR, remediation(), name)
    await kube.delete(resources.NAMESPACE, name)

    async def held_marked() -> bool:
        return "deletionTimestamp" in (await kube.get(CM, "held", name))["metadata"]

    await eventually(held_marked)
    assert (await kube.get(resources.NAMESPACE, name))["status"]["phase"] == "Terminating"
    with pytest.raises(Exception, match="being terminated"):
        await kube.create(CM, config_map("late"), name)
    await kube.patch(CM, "held", {"metadata": {"finalizers": None}}, name)
    await eventually(lambda: gone(kube, resources.NAMESPACE, name))
    assert await gone(kube, RR, "rr-1", name)
