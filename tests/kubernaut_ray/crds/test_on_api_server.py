"""Our CRDs on a real API server: immutability, enums, defaults, and the shortest way to each kind."""

from __future__ import annotations

import pytest

from kubernaut_ray import crds
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import Invalid
from tests import build

pytestmark = pytest.mark.integration

REQUEST = build.remediation_request()
OBJECTS: tuple[CustomResource, ...] = (
    REQUEST,
    build.signal_processing(REQUEST),
    build.ai_analysis(REQUEST),
    build.approval_request(REQUEST),
    build.workflow_execution(REQUEST),
    build.notification_request(),
)


def fresh(obj: CustomResource, namespace: str) -> dict[str, object]:
    return {**obj.to_object(), "metadata": {"name": obj.name, "namespace": namespace}}


@pytest.mark.parametrize(
    "obj",
    [*OBJECTS, build.silence(silenced_count=3, summary="x"), build.declared_workflow()],
    ids=lambda obj: obj.kind(),
)
async def test_what_we_write_is_stored_whole(kube: KubeClient, namespace: str, obj: CustomResource) -> None:
    """Nothing is refused, nothing is pruned, in spec and in status."""
    resource = resources.of(type(obj))
    body = fresh(obj, namespace)
    await kube.create(resource, body)
    stored = await kube.patch(resource, obj.name, {"status": body["status"]}, namespace, subresource="status")
    read = type(obj).from_object(stored)
    assert (read.spec, read.status) == (obj.spec, obj.status)  # type: ignore[attr-defined]


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: obj.kind())
async def test_what_must_not_change_does_not(kube: KubeClient, namespace: str, obj: CustomResource) -> None:
    """The API server itself refuses, whoever asks; labels may change as ever."""
    resource = resources.of(type(obj))
    await kube.create(resource, fresh(obj, namespace))
    change = (
        {"signalFingerprint": "0" * 64}
        if isinstance(obj, crds.RemediationRequest)
        else {"deadline": "2030-01-01T00:00:00Z"}
    )
    if isinstance(obj, crds.NotificationRequest):
        change = {"subject": "another"}
    if isinstance(obj, crds.RemediationApprovalRequest):
        change = {"requiredBy": "2030-01-01T00:00:00Z"}
    with pytest.raises(Invalid, match="immutable"):
        await kube.patch(resource, obj.name, {"spec": change}, namespace)
    await kube.patch(resource, obj.name, {"metadata": {"labels": {"a": "b"}}}, namespace)


async def test_words_that_are_not_ours_are_refused(kube: KubeClient, namespace: str) -> None:
    """The message names the field and the words that would be right."""
    obj = build.signal_processing(REQUEST)
    await kube.create(resources.SIGNAL_PROCESSING, fresh(obj, namespace))
    wrong = {"status": {"phase": "enriching"}}
    with pytest.raises(Invalid, match=r"status\.phase.*Enriching"):
        await kube.patch(resources.SIGNAL_PROCESSING, obj.name, wrong, namespace, subresource="status")


async def test_defaults_are_filled_in(kube: KubeClient, namespace: str) -> None:
    """A hand-written object needs only what has no default."""
    body = {
        "metadata": {"name": "hello", "namespace": namespace},
        "spec": {"type": "simple", "subject": "hello", "body": "world"},
    }
    stored = await kube.create(resources.NOTIFICATION_REQUEST, body)
    assert stored["spec"]["priority"] == "medium"
    assert stored["spec"]["retryPolicy"]["maxAttempts"] == 5


async def test_remediations_are_found_by_fingerprint(kube: KubeClient, namespace: str) -> None:
    """The field selector that deduplication relies on."""
    await kube.create(resources.REMEDIATION_REQUEST, fresh(REQUEST, namespace))
    other = build.remediation_request("rr-2", spec={"signal_fingerprint": "c" * 64})
    await kube.create(resources.REMEDIATION_REQUEST, fresh(other, namespace))
    selector = f"spec.signalFingerprint={build.FINGERPRINT}"
    found = await kube.list(resources.REMEDIATION_REQUEST, namespace, fields=selector)
    assert [item["metadata"]["name"] for item in found.items] == ["rr-1"]
