"""Runs of executions through a real API server that asks the webhook: by the present owner of the shard, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from actors.workflow_execution import pipelinerun
from kubernaut_ray import names
from kubernaut_ray.contracts import fencing
from kubernaut_ray.contracts.fencing import Stamp
from kubernaut_ray.control import shards
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import AlreadyExists, Forbidden, NotFound, Unavailable
from kubernaut_ray.settings import ExecutionSettings
from tests import build
from tests.serve_apps.admission.world import HOME, World, world

RUNS = names.WORKFLOW_NAMESPACE
EXECUTION = build.workflow_execution(build.remediation_request("rr-1"))
SHARD = names.shard_of("rr-1")


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "world") as made:
        yield made


def owner(it: World, place: str, part: ShardRange | None = None) -> ShardLease:
    return ShardLease(it.of("platform"), HOME, "workflowexecutions", part or ShardRange(), place)


def run(stamp: Mapping[str, str], **changes: Any) -> Object:
    body = pipelinerun.build(EXECUTION, ExecutionSettings(), build.NOW)
    meta = body["metadata"]
    return {**body, "metadata": {**meta, "annotations": {**meta["annotations"], **stamp}, **changes}}


async def refused(it: World, obj: Object, why: str) -> None:
    """The platform itself is refused, by a reason that it understands, and nothing is stored."""
    with pytest.raises(Forbidden, match=why) as caught:
        await it.of("platform").create(resources.PIPELINE_RUN, obj)
    assert caught.value.reason == fencing.REFUSED
    with pytest.raises(NotFound):
        await it.kube.get(resources.PIPELINE_RUN, obj["metadata"]["name"], RUNS)


async def test_the_owner_creates_and_a_former_owner_does_not(it: World) -> None:
    """Until somebody else takes the shards, what the owner writes is taken; afterwards what the other writes."""
    old, new = owner(it, "a"), owner(it, "b", shards.ranges(3)[SHARD * 3 // 64])
    assert await old.attempt()
    before = run(old.stamp(run({})))
    await it.of("platform").create(resources.PIPELINE_RUN, before)
    await it.kube.delete(resources.PIPELINE_RUN, before["metadata"]["name"], RUNS)
    await old.release()
    await refused(it, before, "which has given up or was put out")
    assert await new.attempt()
    await refused(it, before, "token 1 is old, 2 is current")
    await it.of("platform").create(resources.PIPELINE_RUN, run(new.stamp(before)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"annotations": {}}, "no fencing token", id="no stamp at all"),
        pytest.param({"shard": ""}, "no fencing token", id="no shard"),
        pytest.param({"shard": str((SHARD + 32) % 64)}, "does not stand for shard", id="another shard's Lease"),
        pytest.param({"lease": "kubernaut-aianalyses-00-03"}, "does not stand for shard", id="another kind's Lease"),
        pytest.param({"holder": "kubernaut-by-me#1#uid"}, "not by kubernaut-by-me", id="another holder"),
        pytest.param({"token": "7"}, "token 7 is old, 1 is current", id="a token that never was"),
    ],
)
async def test_what_is_no_stamp_of_the_owner(it: World, changes: dict[str, Any], why: str) -> None:
    """Each of its parts counts."""
    mine = owner(it, "a")
    assert await mine.attempt()
    made = Stamp.of({"metadata": {"annotations": mine.stamp(run({}))}})
    assert made is not None
    told = Stamp(
        changes.get("lease", made.lease), int(changes.get("token", made.token)), changes.get("holder", made.holder)
    )
    obj = run(changes.get("annotations", told.annotations))
    if "shard" in changes:
        obj["metadata"]["labels"] = {**obj["metadata"]["labels"], names.LABEL_SHARD: changes["shard"]}
    await refused(it, obj, why)


async def test_a_job_is_judged_like_a_pipeline_run_and_other_peoples_are_not(it: World) -> None:
    """What carries no label of an execution is none of the platform's."""
    container = {"name": "run", "image": "i"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    meta = run({})["metadata"]
    job = {"metadata": {**meta, "annotations": {}}, "spec": {"template": template}}
    with pytest.raises(Forbidden, match="no fencing token"):
        await it.kube.create(resources.JOB, job, RUNS)
    others = {"metadata": {"name": "backup"}, "spec": {"template": template}}
    await it.kube.create(resources.JOB, others, RUNS)
    with pytest.raises(AlreadyExists):
        await it.kube.create(resources.JOB, others, RUNS)


async def test_while_the_webhook_is_away_no_execution_starts(it: World) -> None:
    """It is tried again later; nothing is let through unseen."""
    mine = owner(it, "a")
    assert await mine.attempt()
    configuration = await it.kube.get(resources.VALIDATING_WEBHOOKS, "kubernaut-fencing")
    [webhook] = configuration["webhooks"]
    webhook["clientConfig"]["url"] = "https://127.0.0.1:9/validate"
    await it.kube.replace(resources.VALIDATING_WEBHOOKS, configuration)
    with pytest.raises(Unavailable, match=r"owner\.executions\.kubernaut\.ai"):
        await it.of("platform").create(resources.PIPELINE_RUN, run(mine.stamp(run({}))))
