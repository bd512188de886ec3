"""Who calls a remediation off and who clears a block: stamped by the webhook of a real API server, by CLI and by kubectl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kubernaut_ray import clock, names
from kubernaut_ray.cli import app
from kubernaut_ray.cli.connection import Exit
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import Forbidden, Invalid
from tests import build
from tests.serve_apps.admission.world import EVE, HOME, World, world

ADMIN = "kubernaut-admin"


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "world") as made:
        yield made


async def command(it: World, *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, [*words, "--kubeconfig", str(it.server.kubeconfig)])


async def failed_execution(it: World, phase: str = "Failed") -> str:
    """Store an execution of rr-1 as its controller left it."""
    made = build.workflow_execution(build.remediation_request("rr-1"))
    body = made.to_object()
    body.pop("status", None)
    body["metadata"] = {"name": made.name, "namespace": HOME, "labels": {names.LABEL_REMEDIATION: "rr-1"}}
    await it.kube.create(resources.WORKFLOW_EXECUTION, body)
    status = {"status": {"phase": phase, "message": "step one failed"}}
    await it.of("platform").patch(resources.WORKFLOW_EXECUTION, made.name, status, HOME, subresource="status")
    return made.name


async def clear(it: World, name: str, client: Any = None, **clearance: Any) -> dict[str, Any]:
    change = {
        "status": {"blockClearance": {"clearedAt": clock.rfc3339(build.NOW), "clearedBy": "mallory", **clearance}}
    }
    written = await (client or it.kube).patch(resources.WORKFLOW_EXECUTION, name, change, HOME, subresource="status")
    cleared: dict[str, Any] = written["status"]["blockClearance"]
    return cleared


async def test_who_calls_a_remediation_off_is_on_it(it: World) -> None:
    """As the API server knows them, whatever they say; a later change of something else keeps it."""
    remediation = build.remediation_request("rr-1").to_object()
    remediation.pop("status", None)
    remediation["metadata"] = {"name": "rr-1", "namespace": HOME}
    await it.of("platform").create(resources.REMEDIATION_REQUEST, remediation)
    told = await command(it, "cancel", "rr-1", "--reason", "planned maintenance")
    assert told.exit_code == 0, told.output
    found = await it.kube.get(resources.REMEDIATION_REQUEST, "rr-1", HOME)
    notes = found["metadata"]["annotations"]
    assert (notes[names.ANNOTATION_CANCEL], notes[names.ANNOTATION_CANCELLED_BY]) == ("planned maintenance", ADMIN)
    forged = {"metadata": {"annotations": {names.ANNOTATION_CANCELLED_BY: "mallory"}}}
    changed = await it.kube.patch(resources.REMEDIATION_REQUEST, "rr-1", forged, HOME)
    assert changed["metadata"]["annotations"][names.ANNOTATION_CANCELLED_BY] == ADMIN


async def test_what_has_ended_is_not_called_off(it: World) -> None:
    """The command says so and changes nothing; an unknown name has a code of its own."""
    remediation = build.remediation_request("rr-1").to_object()
    remediation.pop("status", None)
    remediation["metadata"] = {"name": "rr-1", "namespace": HOME}
    await it.of("platform").create(resources.REMEDIATION_REQUEST, remediation)
    ended = {"status": {"overallPhase": "Completed"}}
    await it.of("platform").patch(resources.REMEDIATION_REQUEST, "rr-1", ended, HOME, subresource="status")
    told = await command(it, "cancel", "rr-1", "--reason", "too late")
    assert (told.exit_code, "has ended already: Completed" in told.output) == (Exit.REFUSED, True)
    assert (await command(it, "cancel", "rr-9", "--reason", "x")).exit_code == Exit.NOT_FOUND


async def test_a_block_is_cleared_by_whoever_the_api_server_knows(it: World) -> None:
    """By the remediation's name too, once, and the first clearance stays."""
    name = await failed_execution(it)
    told = await command(it, "unblock", "rr-1", "--reason", "rolled back by hand")
    assert told.exit_code == 0, told.output
    stored = await it.kube.get(resources.WORKFLOW_EXECUTION, name, HOME)
    cleared = stored["status"]["blockClearance"]
    assert (cleared["clearedBy"], cleared["clearReason"]) == (ADMIN, "rolled back by hand")
    assert (await command(it, "unblock", name, "--reason", "again")).exit_code == Exit.REFUSED
    with pytest.raises(KubernautError, match=f"cleared already, by {ADMIN}"):
        await clear(it, name, clearReason="again")


async def test_a_clearance_is_stamped_whatever_it_claims(it: World) -> None:
    """Name and time are the API server's and ours."""
    name = await failed_execution(it)
    cleared = await clear(it, name, clearReason="looked at it")
    assert (cleared["clearedBy"], cleared["clearMethod"]) == (ADMIN, "StatusField")
    assert clock.parse_rfc3339(cleared["clearedAt"]) > build.NOW


async def test_what_does_not_clear_is_refused(it: World) -> None:
    """Without a reason, of what did not fail, by who may not, and anything else in the status."""
    name = await failed_execution(it)
    with pytest.raises(Invalid, match="clearReason must say"):
        await clear(it, name, clearReason=" ")
    with pytest.raises(Forbidden):
        await clear(it, name, it.of(EVE), clearReason="not mine")
    with pytest.raises(Forbidden, match="only blockClearance is for people"):
        await it.kube.patch(
            resources.WORKFLOW_EXECUTION, name, {"status": {"phase": "Completed"}}, HOME, subresource="status"
        )
    status = {"status": {"phase": "Running"}}
    await it.of("platform").patch(resources.WORKFLOW_EXECUTION, name, status, HOME, subresource="status")
    with pytest.raises(Forbidden, match="did not fail"):
        await clear(it, name, clearReason="too early")
