"""Admission webhooks: who is asked about what, what the answer does, and how a refusal reads."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import AlreadyExists, ApiError, Invalid
from tests.conformance.conftest import CM, RR, Raw, Run, config_map, eventually, remediation
from tests.webhook import Webhook, allow, deny, patch, slow, webhook

pytestmark = pytest.mark.conformance

PLURALS = {True: "mutatingwebhookconfigurations", False: "validatingwebhookconfigurations"}
Configure = Callable[..., Awaitable[str]]


def typed(name: str) -> dict[str, Any]:
    """A ConfigMap with all that a request of one's own must say."""
    return {"apiVersion": "v1", "kind": "ConfigMap", **config_map(name, {"volume": "loud"})}


@pytest.fixture
async def hook(tmp_path: Path) -> AsyncIterator[Webhook]:
    async with webhook(tmp_path) as it:
        yield it


@pytest.fixture
async def configure(raw: Raw, hook: Webhook, namespace: str) -> AsyncIterator[Configure]:
    """Stores a configuration about this test's namespace, and waits until it is in force."""
    made: list[str] = []

    async def store(
        *paths: str,
        mutating: bool = False,
        plural: str = "configmaps",
        wait: bool = True,
        name: str = "",
        **fields: Any,
    ) -> str:
        name = f"{name or 'test'}-{uuid.uuid4().hex[:8]}"
        rule = {
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "apiGroups": ["*"],
            "apiVersions": ["*"],
            "resources": [plural],
        }
        webhooks = [
            {
                "name": f"{path.strip('/')}.{name}.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "timeoutSeconds": 2,
                "clientConfig": hook.client(path),
                "rules": [rule],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                **fields,
            }
            for path in paths
        ]
        kind = "MutatingWebhookConfiguration" if mutating else "ValidatingWebhookConfiguration"
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": webhooks,
        }
        path = f"/apis/admissionregistration.k8s.io/v1/{PLURALS[mutating]}"
        code, answer = await raw("POST", path, json=body)
        assert code == 201, answer
        made.append(f"{path}/{name}")
        if wait:
            await _in_force(raw, hook, namespace, paths[-1])
        return str(answer["webhooks"][0]["name"])

    yield store
    for path in made:
        await raw("DELETE", path)


async def _in_force(raw: Raw, hook: Webhook, namespace: str, path: str) -> None:
    """Configurations take a moment to reach every API server."""
    collection = f"/api/v1/namespaces/{namespace}/configmaps"
    kept = dict(hook.answers)
    hook.answers.update(dict.fromkeys(kept, allow()))

    async def asked() -> bool:
        await raw("POST", f"{collection}?dryRun=All", json=typed("probe"))
        return bool(hook.about(path))

    await eventually(asked, seconds=20)
    hook.answers.update(kept)
    hook.asked.clear()


async def test_configurations_are_stored_with_their_defaults(configure: Configure, hook: Webhook, kctl: Run) -> None:
    """As kubectl shows them."""
    hook.answers["/check"] = allow()
    name = await configure("/check")
    listed = kctl("get", "validatingwebhookconfigurations", "--no-headers").stdout
    assert name.split(".")[1] in listed
    shown = kctl("get", "validatingwebhookconfiguration", name.split(".")[1], "-o", "jsonpath={.webhooks[0]}").stdout
    for text in ('"failurePolicy":"Fail"', '"matchPolicy":"Equivalent"', '"objectSelector":{}', '"scope":"*"'):
        assert text in shown


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        pytest.param({"name": "short"}, "at least three segments", id="a name that is no domain"),
        pytest.param({"clientConfig": {"url": "http://x/y"}}, "https", id="plain HTTP"),
        pytest.param({"clientConfig": {}}, "exactly one of", id="nowhere to call"),
        pytest.param({"sideEffects": "Some"}, "sideEffects", id="side effects"),
        pytest.param({"timeoutSeconds": 31}, "between 1 and 30", id="patience"),
        pytest.param({"failurePolicy": "Maybe"}, "failurePolicy", id="a policy that is none"),
        pytest.param({"admissionReviewVersions": ["v7"]}, "admissionReviewVersions", id="an unknown version"),
        pytest.param(
            {"matchConditions": [{"name": "a", "expression": "request.("}]}, "matchConditions", id="no expression"
        ),
    ],
)
async def test_wrong_configurations_are_refused(raw: Raw, fields: dict[str, Any], wrong: str) -> None:
    """With the field that is wrong."""
    good = {
        "name": "a.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://x/y"},
    }
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"wrong-{uuid.uuid4().hex[:8]}"},
        "webhooks": [{**good, **fields}],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    code, answer = await raw("POST", path, json=body)
    assert (code, answer["reason"]) == (422, "Invalid")
    assert wrong in answer["message"]


async def test_a_webhook_is_told_who_does_what(
    configure: Configure, hook: Webhook, kube: KubeClient, namespace: str
) -> None:
    """The AdmissionRequest names the user, the operation, the object as it would be and as it was."""
    hook.answers["/check"] = allow()
    await configure("/check")
    await kube.create(CM, config_map("a", {"k": "1"}), namespace)
    await kube.patch(CM, "a", {"data": {"k": "2"}}, namespace)
    await kube.delete(CM, "a", namespace)
    create, update, delete = hook.about("/check")
    assert [r["operation"] for r in (create, update, delete)] == ["CREATE", "UPDATE", "DELETE"]
    assert create["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert create["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert (create["namespace"], create["name"], create["dryRun"]) == (namespace, "a", False)
    assert "system:authenticated" in create["userInfo"]["groups"]
    assert create["userInfo"]["username"]
    assert (create["object"]["data"], create["oldObject"]) == ({"k": "1"}, None)
    assert (update["object"]["data"], update["oldObject"]["data"]) == ({"k": "2"}, {"k": "1"})
    assert (delete["object"], delete["oldObject"]["data"]) == (None, {"k": "2"})


@pytest.mark.parametrize(
    ("answer", "code", "reason", "said"),
    [
        pytest.param(deny("not on a Friday"), 400, "", ": not on a Friday", id="a message"),
        pytest.param(deny("no", code=403, reason="Forbidden"), 403, "Forbidden", ": no", id="a code"),
        pytest.param(deny(reason="Sealed"), 400, "Sealed", ": Sealed", id="a reason only"),
        pytest.param(deny(), 400, "", " without explanation", id="nothing"),
    ],
)
async def test_a_refusal_is_worded(
    configure: Configure, hook: Webhook, raw: Raw, namespace: str, answer: Any, code: int, reason: str, said: str
) -> None:
    """With the webhook's name; nothing is stored."""
    hook.answers["/check"] = answer
    name = await configure("/check")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    status, body = await raw("POST", path, json=typed("a"))
    assert (status, body.get("reason", "")) == (code, reason)
    assert body["message"] == f'admission webhook "{name}" denied the request{said}'
    assert (await raw("GET", f"{path}/a"))[0] == 404


async def test_kubectl_shows_the_refusal(configure: Configure, hook: Webhook, kctl: Run) -> None:
    """And ends with an error."""
    hook.answers["/check"] = deny("sealed", code=403)
    name = await configure("/check")
    done = await asyncio.to_thread(kctl, "create", "configmap", "a", "--from-literal=k=v", check=False)
    assert done.returncode != 0
    assert f'admission webhook "{name}" denied the request: sealed' in done.stderr


async def test_patches_are_applied_in_order(
    configure: Configure, hook: Webhook, kube: KubeClient, namespace: str
) -> None:
    """Configurations by name, their webhooks as listed; a validating webhook sees the end of it."""
    for path, value in (("/first", "1"), ("/second", "2")):
        hook.answers[path] = patch({"op": "add", "path": "/data/last", "value": value})
    hook.answers["/check"] = allow()
    await configure("/second", mutating=True, name="b", wait=False)
    await configure("/first", mutating=True, name="a")
    await configure("/check")
    hook.asked.clear()
    made = await kube.create(CM, config_map("a", {"k": "v"}), namespace)
    assert made["data"] == {"k": "v", "last": "2"}
    assert [path for path, _ in hook.asked] == ["/first", "/second", "/check"]
    assert hook.about("/check")[0]["object"]["data"]["last"] == "2"


async def test_a_patched_object_is_judged_anew(
    configure: Configure, hook: Webhook, kube: KubeClient, namespace: str
) -> None:
    """A webhook cannot store what the schema refuses, and may mend what the schema would refuse."""
    hook.answers["/change"] = patch({"op": "replace", "path": "/spec/targetType", "value": "mainframe"})
    hook.answers["/probe"] = allow()
    await configure("/probe", wait=True)
    await configure("/change", mutating=True, plural="remediationrequests", wait=False)

    async def refused() -> bool:
        try:
            await kube.create(RR, remediation(f"rr-{uuid.uuid4().hex[:6]}"), namespace)
        except Invalid as error:
            return "targetType" in str(error)
        return False

    await eventually(refused, seconds=20)
    hook.answers["/change"] = patch({"op": "replace", "path": "/spec/targetType", "value": "kubernetes"})
    wrong = remediation("rr-mended")
    wrong["spec"]["targetType"] = "mainframe"
    assert (await kube.create(RR, wrong, namespace))["spec"]["targetType"] == "kubernetes"


async def test_a_webhook_may_be_asked_again(
    configure: Configure, hook: Webhook, kube: KubeClient, namespace: str
) -> None:
    """``IfNeeded`` after a later one changed the object, once; ``Never`` never."""
    hook.answers["/eager"] = allow()
    hook.answers["/shy"] = allow()
    hook.answers["/change"] = patch({"op": "add", "path": "/data/x", "value": "y"})
    await configure("/eager", mutating=True, name="a", reinvocationPolicy="IfNeeded")
    await configure("/shy", mutating=True, name="b")
    await configure("/change", mutating=True, name="c")
    hook.asked.clear()
    await kube.create(CM, config_map("a", {"k": "v"}), namespace)
    assert [path for path, _ in hook.asked] == ["/eager", "/shy", "/change", "/eager"]
    assert hook.about("/eager")[-1]["object"]["data"] == {"k": "v", "x": "y"}


async def test_only_the_status_is_changed_through_status(
    configure: Configure, hook: Webhook, kube: KubeClient, namespace: str
) -> None:
    """Rules name subresources; without, a status write is not asked about; a patch of anything else goes nowhere."""
    hook.answers["/probe"] = allow()
    hook.answers["/status"] = patch(
        {"op": "replace", "path": "/status/message", "value": "stamped"},
        {"op": "replace", "path": "/spec/signalName", "value": "forged"},
    )
    hook.answers["/main"] = allow()
    await configure("/probe", plural="configmaps")
    await configure("/status", mutating=True, plural="remediationrequests/status", wait=False)
    await configure("/main", plural="remediationrequests", wait=False)
    await kube.create(RR, remediation("rr-1"), namespace)

    async def stamped() -> bool:
        found = await kube.patch(RR, "rr-1", {"status": {"message": "mine"}}, namespace, subresource="status")
        return bool(found["status"]["message"] == "stamped")

    await eventually(stamped, seconds=20)
    [asked, *_] = hook.about("/status")
    assert (asked["subResource"], asked["operation"]) == ("status", "UPDATE")
    assert all("subResource" not in review for review in hook.about("/main"))
    found = await kube.get(RR, "rr-1", namespace)
    assert found["spec"]["signalName"] != "forged"


async def test_selectors_choose(configure: Configure, hook: Webhook, kube: KubeClient, namespace: str) -> None:
    """By the object's labels, as it is or as it was."""
    hook.answers["/probe"] = allow()
    hook.answers["/check"] = allow()
    await configure("/check", objectSelector={"matchLabels": {"watch": "me"}}, wait=False)
    await configure("/probe")

    async def noticed() -> bool:
        await kube.create(CM, config_map(f"probe-{uuid.uuid4().hex[:6]}", labels={"watch": "me"}), namespace)
        return bool(hook.about("/check"))

    await eventually(noticed, seconds=20)
    hook.asked.clear()
    await kube.create(CM, config_map("other"), namespace)
    await kube.create(CM, config_map("watched", labels={"watch": "me"}), namespace)
    await kube.patch(CM, "watched", {"metadata": {"labels": {"watch": None}}}, namespace)
    await kube.patch(CM, "watched", {"data": {"a": "b"}}, namespace)
    assert [(r["operation"], r["name"]) for r in hook.about("/check")] == [("CREATE", "watched"), ("UPDATE", "watched")]


async def test_conditions_choose(configure: Configure, hook: Webhook, kube: KubeClient, namespace: str) -> None:
    """``matchConditions`` over the request and the object."""
    hook.answers["/check"] = allow()
    conditions = [
        {"name": "not-leases", "expression": "request.resource.resource != 'leases'"},
        {
            "name": "loud",
            "expression": "object != null && has(object.data) && object.data.volume == 'loud'",
        },
    ]
    await configure("/check", matchConditions=conditions)
    hook.asked.clear()
    await kube.create(CM, config_map("quiet", {"volume": "low"}), namespace)
    await kube.create(CM, config_map("loud", {"volume": "loud"}), namespace)
    assert [r["name"] for r in hook.about("/check")] == ["loud"]


async def test_a_webhook_that_is_away(configure: Configure, hook: Webhook, raw: Raw, namespace: str) -> None:
    """``Fail`` refuses with 500 and says which; ``Ignore`` lets pass; late is away too."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    hook.answers["/late"] = allow()
    name = await configure("/late", timeoutSeconds=1)
    hook.answers["/late"] = slow
    code, body = await raw("POST", path, json=typed("a"))
    assert (code, body["reason"]) == (500, "InternalError")
    assert f'failed calling webhook "{name}"' in body["message"]
    assert (await raw("GET", f"{path}/a"))[0] == 404


async def test_a_failure_may_be_ignored(configure: Configure, hook: Webhook, raw: Raw, namespace: str) -> None:
    """With ``failurePolicy: Ignore`` a call that does not come off is as if nobody had asked; a refusal still counts."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    hook.answers["/check"] = allow()
    await configure("/check", failurePolicy="Ignore")
    hook.answers["/check"] = lambda review: {"uid": review["uid"] + "x", "allowed": False}
    assert (await raw("POST", path, json=typed("a")))[0] == 201
    hook.answers["/check"] = deny("no")
    assert (await raw("POST", path, json=typed("b")))[0] == 400


async def test_a_dry_run_says_so(configure: Configure, hook: Webhook, raw: Raw, namespace: str) -> None:
    """And warnings of a webhook reach the client."""
    hook.answers["/check"] = allow(warnings=["think twice"])
    await configure("/check")
    path = f"/api/v1/namespaces/{namespace}/configmaps?dryRun=All"
    code, headers = await raw.headers("POST", path, json=typed("a"))
    assert (code, "think twice" in headers["Warning"]) == (201, True)
    assert hook.about("/check")[-1]["dryRun"] is True


async def test_nobody_is_asked_about_configurations(
    raw: Raw, hook: Webhook, configure: Configure, namespace: str
) -> None:
    """Or nobody could ever take back a webhook that refuses everything."""
    hook.answers["/check"] = allow()
    await configure("/check", plural="*", namespaceSelector={})
    hook.answers["/check"] = lambda r: {"allowed": r.get("namespace") != namespace}
    name = await configure("/check", wait=False)
    path = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name.split('.')[1]}"
    assert (await raw("DELETE", path))[0] == 200
    assert not [r for r in hook.about("/check") if r["resource"]["group"] == "admissionregistration.k8s.io"]


async def test_a_change_meanwhile_is_not_lost(
    configure: Configure, hook: Webhook, kube: KubeClient, raw: Raw, namespace: str
) -> None:
    """Somebody writes while the webhook thinks: a patch lands on the new state, a replacement of the old one conflicts."""
    hook.answers["/check"] = allow()
    await configure("/check")
    made = await kube.create(CM, config_map("a", {"k": "1"}), namespace)
    meddled: list[str] = []

    def meddle(operation: str) -> Any:
        async def answer(review: Any) -> Any:
            value = (review.get("object") or {}).get("data", {}).get("k")
            if value == operation and operation not in meddled:
                meddled.append(operation)
                await kube.patch(CM, "a", {"data": {f"other-{operation}": "x"}}, namespace)
            return {"allowed": True}

        return answer

    hook.answers["/check"] = meddle("2")
    patched = await kube.patch(CM, "a", {"data": {"k": "2"}}, namespace)
    assert patched["data"] == {"k": "2", "other-2": "x"}
    hook.answers["/check"] = meddle("3")
    current = await kube.get(CM, "a", namespace)
    assert current["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    wanted = {**current, "data": {**current["data"], "k": "3"}}
    code, body = await raw("PUT", f"/api/v1/namespaces/{namespace}/configmaps/a", json=wanted)
    assert (code, body["reason"]) == (409, "Conflict")
    assert (await kube.get(CM, "a", namespace))["data"]["k"] == "2"


async def test_a_taken_name_is_told_as_such(
    configure: Configure, hook: Webhook, kube: KubeClient, namespace: str
) -> None:
    """Also where a webhook is asked first: whoever takes a name as a lock must know that somebody else has it."""
    hook.answers["/check"] = allow()
    await configure("/check")
    await kube.create(CM, config_map("a", {"k": "1"}), namespace)
    with pytest.raises(AlreadyExists):
        await kube.create(CM, config_map("a", {"k": "2"}), namespace)
    assert (await kube.get(CM, "a", namespace))["data"] == {"k": "1"}


async def test_what_a_webhook_refuses_stays(
    configure: Configure, hook: Webhook, kube: KubeClient, namespace: str
) -> None:
    """Deletion is asked about too."""
    hook.answers["/check"] = allow()
    await configure("/check")
    await kube.create(CM, config_map("a"), namespace)
    hook.answers["/check"] = lambda r: {"allowed": r["operation"] != "DELETE"}
    with pytest.raises(ApiError, match="without explanation"):
        await kube.delete(CM, "a", namespace)
    assert await kube.get(CM, "a", namespace)
    await kube.create(resources.CONFIG_MAP, config_map("b"), namespace)
    hook.answers["/check"] = allow()
