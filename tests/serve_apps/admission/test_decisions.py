"""Decisions through a real API server that asks the webhook over HTTPS: who, once, in time, and only what may be decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray import clock, names
from kubernaut_ray.contracts import grants
from kubernaut_ray.contracts.catalog import WorkflowParameter
from kubernaut_ray.crds.enums import ApprovalDecision, WorkflowStatus
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import Conflict, Forbidden, Invalid
from tests import build
from tests.conftest import kubectl
from tests.serve_apps.admission.world import ANN, BOB, EVE, HOME, World, world

APPROVED, REJECTED, NONE = ApprovalDecision.APPROVED, ApprovalDecision.REJECTED, ApprovalDecision.NONE


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admission")


@pytest.fixture
async def it(data_dir: Path) -> AsyncIterator[World]:
    async with world(data_dir / "world") as made:
        yield made


async def test_a_decision_is_stamped_with_who_made_it(it: World) -> None:
    """Name, time and way come from the API server; what the request claims about them is overwritten."""
    asked = await it.ask("rr-1")
    claims = {"decidedBy": "mallory", "decidedAt": "2020-01-01T00:00:00Z", "decidedVia": "slack"}
    written = (await it.write(ANN, asked.name, decision="Approved", decisionMessage="go", **claims)).status
    assert (written.decision, written.decided_by, written.decided_via) == (APPROVED, ANN, "kubectl")
    assert written.decided_at is not None
    assert abs(clock.utcnow() - written.decided_at) < timedelta(minutes=1)
    [record] = written.approvals
    assert (record.by, record.message) == (ANN, "go")
    stored = await it.found(asked.name)
    assert grants.approvers(it.key, stored, stored.status.approvals, grants.decided_workflow(stored)) == (ANN,)


async def test_a_decision_is_made_once(it: World) -> None:
    """Not by another person, not another way, and not undone."""
    asked = await it.ask("rr-1")
    await it.write(ANN, asked.name, decision="Rejected", decisionMessage="no")
    for person, decision in ((BOB, "Approved"), (ANN, "Approved"), (ANN, "")):
        with pytest.raises(Conflict, match=f"already decided: Rejected by {ANN}"):
            await it.write(person, asked.name, decision=decision)
    status = (await it.found(asked.name)).status
    assert status.rejection is not None
    assert (status.decision, status.rejection.by) == (REJECTED, ANN)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        pytest.param({"decision": "Expired"}, "only the deadline", id="nobody but the clock expires"),
        pytest.param({"decision": "Approved", "sealedDecision": "Approved"}, "sealedDecision", id="sealing it oneself"),
        pytest.param({"targetUid": "x"}, "targetUid", id="a field of the controller"),
        pytest.param({"usedBy": "x"}, "usedBy", id="using it up"),
        pytest.param({"authenticated": True}, "authenticated", id="claiming to be authenticated"),
        pytest.param({"decidedBy": "mallory"}, "stamped, never given", id="a name without a decision"),
        pytest.param({"workflowOverride": {"workflowName": "x"}}, "stamped, never given", id="an override alone"),
    ],
)
async def test_what_people_may_not_write(it: World, status: dict[str, Any], why: str) -> None:
    """The refusal names it, and nothing is changed."""
    asked = await it.ask("rr-1")
    with pytest.raises(Forbidden, match=why):
        await it.write(ANN, asked.name, **status)
    assert (await it.found(asked.name)).status == asked.status


async def test_forged_records_are_not_taken(it: World) -> None:
    """Approvals are recorded by the webhook; those that a request brings are thrown away."""
    asked = await it.ask("rr-1", required_approvals=2)
    forged = {
        "decision": "Approved",
        "by": BOB,
        "at": clock.rfc3339(clock.utcnow()),
        "subject": grants.subject(grants.decided_workflow(asked)),
    }
    with pytest.raises(Forbidden, match="stamped"):
        await it.write(ANN, asked.name, approvals=[forged])
    written = await it.write(ANN, asked.name, decision="Approved", approvals=[forged])
    assert [record.by for record in written.status.approvals] == [ANN]
    assert written.status.decision is NONE


async def test_a_decision_after_the_deadline_is_refused(it: World) -> None:
    """With when it was needed."""
    asked = await it.ask("rr-1", required_by=clock.utcnow() - timedelta(seconds=1))
    with pytest.raises(Forbidden, match="too late"):
        await it.write(ANN, asked.name, decision="Approved")


async def test_who_may_write_the_status_may_not_decide_for_that(it: World) -> None:
    """Deciding is a right of its own: update on approvals."""
    asked = await it.ask("rr-1")
    with pytest.raises(Forbidden, match=f"{EVE} may not decide"):
        await it.write(EVE, asked.name, decision="Approved")


async def test_the_platform_seals_and_expires_and_never_decides(it: World) -> None:
    """Its writes pass without the webhook; a decision in its name carries no stamp, so it counts for nothing."""
    asked = await it.ask("rr-1")
    sealed = {"decision": "Expired", "sealedDecision": "Expired", "expired": True, "decidedBy": "system"}
    assert (await it.write("platform", asked.name, **sealed)).status.expired
    other = await it.ask("rr-2")
    status = (await it.write("platform", other.name, decision="Approved", decidedBy=ANN)).status
    assert (status.approvals, status.rejection) == ((), None)


async def test_four_eyes(it: World) -> None:
    """Whoever caused it is not who approves it; rejecting is always possible."""
    asked = await it.ask("rr-1", four_eyes=True, requested_by=ANN)
    with pytest.raises(Forbidden, match="four eyes"):
        await it.write(ANN, asked.name, decision="Approved")
    assert (await it.write(BOB, asked.name, decision="Approved")).status.decided_by == BOB
    other = await it.ask("rr-2", four_eyes=True, requested_by=ANN)
    assert (await it.write(ANN, other.name, decision="Rejected")).status.decision is REJECTED


async def test_two_of_two(it: World) -> None:
    """The first approval is recorded and decides nothing, the same person counts once, the second decides."""
    asked = await it.ask("rr-1", required_approvals=2)
    first = (await it.write(ANN, asked.name, decision="Approved", decisionMessage="fine")).status
    assert (first.decision, first.decided_by, first.decision_message) == (NONE, "", "")
    assert [(r.by, r.message) for r in first.approvals] == [(ANN, "fine")]
    with pytest.raises(Forbidden, match="approved already; 2 different people must"):
        await it.write(ANN, asked.name, decision="Approved")
    second = (await it.write(BOB, asked.name, decision="Approved")).status
    assert (second.decision, second.decided_by) == (APPROVED, BOB)
    assert [r.by for r in second.approvals] == [ANN, BOB]


async def test_one_of_two_rejects(it: World) -> None:
    """Any rejection is the end of it."""
    asked = await it.ask("rr-1", required_approvals=2)
    await it.write(ANN, asked.name, decision="Approved")
    status = (await it.write(BOB, asked.name, decision="Rejected")).status
    assert status.rejection is not None
    assert (status.decision, status.rejection.by, len(status.approvals)) == (REJECTED, BOB, 1)


MEMORY = WorkflowParameter(name="MEMORY_LIMIT", required=True, pattern="^[0-9]+Mi$")


async def test_an_override_is_pinned_from_the_catalog(it: World) -> None:
    """Name, or the recommended workflow with other parameters; image and digest are the catalog's."""
    held = build.workflow("restart-rollout", parameters=(MEMORY,))
    it.catalog.held.append(held)
    asked = await it.ask("rr-1")
    forged = {"workflowId": "x", "version": "1", "containerImage": "evil"}
    override = {"workflowName": "restart-rollout", "parameters": {"MEMORY_LIMIT": "64Mi"}, "resolved": forged}
    status = (await it.write(ANN, asked.name, decision="Approved", workflowOverride=override)).status
    assert status.workflow_override is not None
    resolved = status.workflow_override.resolved
    assert resolved is not None
    assert (resolved.workflow_id, resolved.container_digest) == (held.workflow_id, held.container_digest)
    workflow = grants.decided_workflow(await it.found(asked.name))
    assert (workflow.workflow_name, workflow.parameters) == ("restart-rollout", {"MEMORY_LIMIT": "64Mi"})


@pytest.mark.parametrize(
    ("override", "why"),
    [
        pytest.param({"workflowName": "unheard-of"}, "no active workflow unheard-of", id="not in the catalog"),
        pytest.param({"workflowName": "retired"}, "no active workflow retired", id="disabled"),
        pytest.param(
            {"workflowName": "known", "version": "9.9.9"}, "no active workflow known 9.9.9", id="no such version"
        ),
        pytest.param({"workflowName": "known"}, "MEMORY_LIMIT: required", id="a parameter is missing"),
        pytest.param(
            {"workflowName": "known", "parameters": {"MEMORY_LIMIT": "lots"}}, "MEMORY_LIMIT", id="a wrong value"
        ),
        pytest.param(
            {"workflowName": "known", "parameters": {"MEMORY_LIMIT": "1Mi", "X": "y"}},
            "no such parameter",
            id="unknown",
        ),
    ],
)
async def test_an_override_that_does_not_fit(it: World, override: dict[str, Any], why: str) -> None:
    """Refused with what is wrong; nothing is decided."""
    retired = build.workflow("retired", status=WorkflowStatus.DISABLED)
    it.catalog.held += [build.workflow("known", parameters=(MEMORY,)), retired]
    asked = await it.ask("rr-1")
    with pytest.raises(Invalid, match=why):
        await it.write(ANN, asked.name, decision="Approved", workflowOverride=override)
    assert (await it.found(asked.name)).status == asked.status


async def test_without_the_catalog_no_override_is_approved(it: World) -> None:
    """Fail closed, and say that it may be tried again."""
    it.catalog.away = True
    asked = await it.ask("rr-1")
    with pytest.raises(Retryable, match="cannot be checked now"):
        await it.write(ANN, asked.name, decision="Approved", workflowOverride={"workflowName": "known"})
    assert (await it.write(ANN, asked.name, decision="Approved")).status.decision is APPROVED


async def test_people_approve_the_same_thing(it: World) -> None:
    """The second of two cannot turn the first one's approval into leave for something else."""
    it.catalog.held.append(build.workflow("other"))
    asked = await it.ask("rr-1", required_approvals=2)
    await it.write(ANN, asked.name, decision="Approved")
    with pytest.raises(Forbidden, match="approved something else"):
        await it.write(BOB, asked.name, decision="Approved", workflowOverride={"workflowName": "other"})


async def test_a_service_may_decide_for_a_person_whom_it_may_impersonate(it: World) -> None:
    """The person is the one who decided; through what is said by an extra field that nobody else can set."""
    asked = await it.ask("rr-1")
    group = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["zoe@example.com"]},
        {
            "apiGroups": [""],
            "resources": ["groups"],
            "verbs": ["impersonate"],
            "resourceNames": ["kubernaut:approvers"],
        },
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["userextras/kubernaut.ai/decided-via"],
            "verbs": ["impersonate"],
            "resourceNames": ["slack"],
        },
    ]
    await it.kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": "bot"}, "rules": rules})
    subject = {"kind": "User", "apiGroup": group, "name": EVE}
    ref = {"apiGroup": group, "kind": "ClusterRole", "name": "bot"}
    await it.kube.create(
        resources.CLUSTER_ROLE_BINDING, {"metadata": {"name": "bot"}, "roleRef": ref, "subjects": [subject]}
    )
    headers = {
        "Authorization": f"Bearer {it.tokens[EVE]}",
        "Content-Type": "application/merge-patch+json",
        "Impersonate-User": "zoe@example.com",
        "Impersonate-Group": "kubernaut:approvers",
        "Impersonate-Extra-Kubernaut.ai%2Fdecided-Via": "slack",
    }
    path = f"{it.server.url}{resources.APPROVAL_REQUEST.path(HOME, asked.name, 'status')}"
    code, body = await it.http("PATCH", path, headers, {"status": {"decision": "Approved"}})
    assert code == 200, body
    status = (await it.found(asked.name)).status
    assert (status.decided_by, status.decided_via) == ("zoe@example.com", "slack")
    console = {**headers, "Impersonate-Extra-Kubernaut.ai%2Fdecided-Via": "console"}
    code, body = await it.http("PATCH", path, console, {"status": {"decision": "Approved"}})
    assert (code, "cannot impersonate" in str(body)) == (403, True)


async def test_kubectl_shows_who_and_why_not(it: World) -> None:
    """``kubectl patch --subresource=status`` with a person's token, once and again."""
    asked = await it.ask("rr-1")

    def patch(person: str, decision: str) -> tuple[int, str]:
        body = f'{{"status":{{"decision":"{decision}","decidedBy":"mallory"}}}}'
        done = kubectl(
            it.server.kubeconfig, f"--token={it.tokens[person]}", "-n", HOME, "patch", "rar", asked.name,
            "--subresource=status", "--type=merge", "-p", body,
        )  # fmt: skip
        return done.returncode, done.stderr

    code, told = await asyncio.to_thread(patch, ANN, "Approved")
    assert code == 0, told
    code, told = await asyncio.to_thread(patch, BOB, "Rejected")
    assert code != 0
    assert (
        f'admission webhook "decision.approvals.kubernaut.ai" denied the request: already decided: Approved by {ANN}'
        in told
    )


async def test_while_the_webhook_is_away_nobody_decides_and_the_platform_goes_on(it: World) -> None:
    """Failure policy Fail for people; the controller's own writes do not pass by the webhook."""
    asked = await it.ask("rr-1")
    for configuration in await it.configurations():
        for webhook in configuration["webhooks"]:
            webhook["clientConfig"]["url"] = "https://127.0.0.1:1/validate"
        await it.kube.replace(resources.BY_KIND[configuration["kind"]], configuration)
    with pytest.raises(Retryable, match="failed calling webhook"):
        await it.write(ANN, asked.name, decision="Approved")
    assert (await it.write("platform", asked.name, message="still here")).status.message == "still here"
    remediation = build.remediation_request("rr-9").to_object()
    remediation.pop("status", None)
    remediation["metadata"] = {"name": "rr-9", "namespace": HOME}
    assert await it.kube.create(resources.REMEDIATION_REQUEST, remediation)


async def test_who_asks_for_a_remediation_is_on_it(it: World) -> None:
    """Whatever the object claims, also later; machines are nobody."""
    remediation = build.remediation_request("rr-1").to_object()
    remediation.pop("status", None)
    claimed = {names.ANNOTATION_REQUESTED_BY: "mallory", "other": "kept"}
    remediation["metadata"] = {"name": "rr-1", "namespace": HOME, "annotations": claimed}
    made = await it.kube.create(resources.REMEDIATION_REQUEST, remediation)
    assert made["metadata"]["annotations"] == {names.ANNOTATION_REQUESTED_BY: "kubernaut-admin", "other": "kept"}
    change = {"metadata": {"annotations": {names.ANNOTATION_REQUESTED_BY: None}}}
    changed = await it.kube.patch(resources.REMEDIATION_REQUEST, "rr-1", change, HOME)
    assert changed["metadata"]["annotations"][names.ANNOTATION_REQUESTED_BY] == "kubernaut-admin"
    remediation["metadata"] = {"name": "rr-2", "namespace": HOME}
    by_machine = await it.of("platform").create(resources.REMEDIATION_REQUEST, remediation)
    assert names.ANNOTATION_REQUESTED_BY not in by_machine["metadata"].get("annotations", {})


async def test_only_the_api_server_may_ask(it: World) -> None:
    """It shows a token; without it nobody learns anything, and what is no review is said to be none."""
    url = f"https://127.0.0.1:{it.settings.admission.port}"
    assert (await it.http("POST", f"{url}/validate", {}, {}))[0] == 401
    assert (await it.http("POST", f"{url}/mutate", {"Authorization": "Bearer wrong"}, {}))[0] in (401, 403)
    assert it.settings.admission.caller_token is not None
    token = it.settings.admission.caller_token.read_text()
    code, body = await it.http("POST", f"{url}/validate", {"Authorization": f"Bearer {token}"}, {"kind": "Pod"})
    assert (code, body["title"]) == (400, "Bad Request")
    assert (await it.http("GET", f"{url}/ready", {}, None))[0] == 200


async def test_the_certificate_is_rotated_while_it_serves(it: World) -> None:
    """A new certificate of the same authority is shown to the next connection, and decisions go on."""
    before = await it.certificate()
    it.wear_out_certificate()
    async with asyncio.timeout(20):
        while await it.certificate() == before:
            await asyncio.sleep(0.05)
    asked = await it.ask("rr-1")
    assert (await it.write(ANN, asked.name, decision="Approved")).status.decided_by == ANN
