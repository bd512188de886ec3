"""Patches in every form, server-side apply, and scale."""

from __future__ import annotations

import pytest

from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import ApiError, Conflict, Invalid, NotFound
from tests.conformance.conftest import CM, DEPLOY, RR, Raw, config_map, deployment, remediation

pytestmark = pytest.mark.conformance


async def test_merge_patch(kube: KubeClient, namespace: str) -> None:
    """null removes, lists are replaced."""
    await kube.create(CM, config_map("x", {"a": "1", "b": "2"}), namespace)
    done = await kube.patch(CM, "x", {"data": {"a": None, "c": "3"}}, namespace)
    assert done["data"] == {"b": "2", "c": "3"}


async def test_json_patch(kube: KubeClient, namespace: str) -> None:
    """Operations in order, all or nothing; a failed test changes nothing."""
    await kube.create(CM, config_map("x", {"a": "1"}), namespace)
    operations = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b", "value": "2"}]
    done = await kube.patch(CM, "x", operations, namespace, kind="json")
    assert done["data"] == {"a": "1", "b": "2"}
    with pytest.raises(ApiError):
        await kube.patch(
            CM,
            "x",
            [{"op": "add", "path": "/data/c", "value": "3"}, {"op": "test", "path": "/data/a", "value": "9"}],
            namespace,
            kind="json",
        )
    assert (await kube.get(CM, "x", namespace))["data"] == {"a": "1", "b": "2"}


async def test_strategic_patch(kube: KubeClient, namespace: str) -> None:
    """Containers and their environment merge by name."""
    await kube.create(DEPLOY, deployment(), namespace)
    container = {"name": "app", "env": [{"name": "B", "value": "2"}], "resources": {"limits": {"memory": "1Gi"}}}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    done = await kube.patch(DEPLOY, "web", patch, namespace, kind="strategic")
    [app] = done["spec"]["template"]["spec"]["containers"]
    assert app["image"] == "registry.invalid/app:1"
    assert {e["name"]: e["value"] for e in app["env"]} == {"A": "1", "B": "2"}
    assert app["resources"]["limits"]["memory"] == "1Gi"


async def test_custom_resources_take_no_strategic_patch(kube: KubeClient, namespace: str) -> None:
    """415: there are no merge keys."""
    await kube.create(RR, remediation(), namespace)
    with pytest.raises(ApiError) as caught:
        await kube.patch(RR, "rr-1", {"spec": {"severity": "x"}}, namespace, kind="strategic")
    assert caught.value.status == 415


async def test_patching_nothing(kube: KubeClient, namespace: str) -> None:
    """NotFound; a patch cannot rename either."""
    with pytest.raises(NotFound):
        await kube.patch(CM, "x", {"data": {}}, namespace)
    await kube.create(CM, config_map("x"), namespace)
    with pytest.raises(Invalid):
        await kube.patch(CM, "x", {"metadata": {"name": "y"}}, namespace)


def applied(**data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


async def test_apply(kube: KubeClient, namespace: str) -> None:
    """Creates, changes, and removes what a manager no longer states; others' fields stay."""
    made = await kube.patch(CM, "x", applied(a="1", b="1"), namespace, kind="apply", field_manager="one")
    [entry] = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    await kube.patch(CM, "x", applied(c="1"), namespace, kind="apply", field_manager="two")
    done = await kube.patch(CM, "x", applied(a="2"), namespace, kind="apply", field_manager="one")
    assert done["data"] == {"a": "2", "c": "1"}


async def test_apply_conflicts(kube: KubeClient, namespace: str) -> None:
    """Another manager's field with another value is a conflict unless forced; with the same value it is shared."""
    await kube.patch(CM, "x", applied(a="1"), namespace, kind="apply", field_manager="one")
    with pytest.raises(Conflict, match=r"\.data\.a"):
        await kube.patch(CM, "x", applied(a="2"), namespace, kind="apply", field_manager="two")
    await kube.patch(CM, "x", applied(a="1"), namespace, kind="apply", field_manager="three")
    await kube.patch(CM, "x", applied(a="2"), namespace, kind="apply", field_manager="two", force=True)
    done = await kube.patch(CM, "x", applied(), namespace, kind="apply", field_manager="one")
    assert done["data"] == {"a": "2"}


async def test_apply_after_an_update(kube: KubeClient, namespace: str) -> None:
    """Who changes a field owns it."""
    await kube.patch(CM, "x", applied(a="1"), namespace, kind="apply", field_manager="one")
    await kube.patch(CM, "x", {"data": {"a": "2"}}, namespace, field_manager="editor")
    with pytest.raises(Conflict, match="editor"):
        await kube.patch(CM, "x", applied(a="1"), namespace, kind="apply", field_manager="one")


async def test_apply_again_changes_nothing(kube: KubeClient, namespace: str) -> None:
    """The resourceVersion stays."""
    body = deployment()
    first = await kube.patch(DEPLOY, "web", body, namespace, kind="apply", field_manager="one")
    again = await kube.patch(DEPLOY, "web", body, namespace, kind="apply", field_manager="one")
    assert first["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]


async def test_apply_lists_by_key(kube: KubeClient, namespace: str) -> None:
    """Two managers own two environment variables of one container."""
    await kube.patch(DEPLOY, "web", deployment(), namespace, kind="apply", field_manager="one")
    container = {"name": "app", "env": [{"name": "B", "value": "2"}]}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    done = await kube.patch(DEPLOY, "web", patch, namespace, kind="apply", field_manager="two")
    [app] = done["spec"]["template"]["spec"]["containers"]
    assert {"A", "B"} == {e["name"] for e in app["env"]}
    container.pop("env")
    done = await kube.patch(DEPLOY, "web", patch, namespace, kind="apply", field_manager="two")
    [app] = done["spec"]["template"]["spec"]["containers"]
    assert [e["name"] for e in app["env"]] == ["A"]


async def test_apply_status(kube: KubeClient, namespace: str) -> None:
    """Status can be applied through its own endpoint."""
    await kube.create(RR, remediation(), namespace)
    body = {"apiVersion": "kubernaut.ai/v1alpha1", "kind": "RemediationRequest", "metadata": {"name": "rr-1"}}
    done = await kube.patch(
        RR,
        "rr-1",
        {**body, "status": {"overallPhase": "Pending"}},
        namespace,
        kind="apply",
        subresource="status",
        field_manager="s",
    )
    assert done["status"]["overallPhase"] == "Pending"


async def test_scale(raw: Raw, kube: KubeClient, namespace: str) -> None:
    """/scale reads and writes replicas."""
    await kube.create(DEPLOY, deployment(), namespace)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web/scale"
    code, scale = await raw("GET", path)
    assert (code, scale["kind"], scale["spec"]["replicas"], scale["status"]["selector"]) == (200, "Scale", 0, "app=web")
    code, scale = await raw("PUT", path, json={**scale, "spec": {"replicas": 0}})
    assert code == 200
    code, _ = await raw(
        "PATCH", path, data=b'{"spec":{"replicas":-1}}', headers={"Content-Type": "application/merge-patch+json"}
    )
    assert code == 422


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"selector": {"matchLabels": {"app": "other"}}}, "spec"),
        (
            {"template": {"spec": {"containers": []}, "metadata": {"labels": {"app": "web"}}}},
            "spec.template.spec.containers",
        ),
        ({"replicas": -1}, "spec.replicas"),
    ],
)
async def test_deployments_that_are_refused(
    kube: KubeClient, namespace: str, change: dict[str, object], field: str
) -> None:
    """422 naming the field."""
    with pytest.raises(Invalid, match=field):
        await kube.create(DEPLOY, deployment(**change), namespace)


async def test_deployment_selectors_never_change(kube: KubeClient, namespace: str) -> None:
    """spec.selector is immutable."""
    await kube.create(DEPLOY, deployment(), namespace)
    labels = {"app": "other"}
    patch = {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}
    with pytest.raises(Invalid, match="immutable"):
        await kube.patch(DEPLOY, "web", patch, namespace)
