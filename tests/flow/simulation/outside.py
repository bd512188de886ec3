"""Everybody around the platform: who sends signals, who investigates, who decides, who runs pipelines, who takes messages.

They behave by chance: mostly well, sometimes badly, late, or never. What they do is theirs and no fault of anybody's.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.notification.channels.base import UNANSWERED
from actors.workflow_execution.engines.job import CONTAINER, JOB_NAME
from actors.workflow_execution.pipelinerun import succeeded
from kubernaut_ray import clock, names
from kubernaut_ray.contracts.catalog import WorkflowParameter
from kubernaut_ray.contracts.investigation import (
    IncidentRequest,
    IncidentResponse,
    InvestigationSession,
    RootCause,
    SelectedWorkflowAnswer,
    SessionError,
    SessionState,
)
from kubernaut_ray.contracts.statistics import EffectivenessRecord, ExecutionRecord
from kubernaut_ray.crds.enums import ExecutionEngine, HumanReviewReason, ParameterType
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import KubernautError, Permanent, Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.embedded.hub import Event
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import request
from serve_apps.gateway.admit import Admission
from serve_apps.gateway.cluster import Breaker, Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.verdict import Absent, Open
from tests import build
from tests.flow.simulation.client import Life, SimClient

if TYPE_CHECKING:
    from tests.flow.simulation.world import World

HOME, RUNS = names.SYSTEM_NAMESPACE, names.WORKFLOW_NAMESPACE
WORKFLOWS = tuple(
    build.workflow(
        name,
        parameters=(WorkflowParameter(name="STEPS", type=ParameterType.STRING),),
        content=f"execution: {{engine: {engine}}}",
        execution_engine=engine,
    )
    for name, engine in (
        ("restart", ExecutionEngine.TEKTON),
        ("increase-memory", ExecutionEngine.JOB),
        ("roll-back", ExecutionEngine.TEKTON),
    )
)
SHELF = {workflow.workflow_id: workflow for workflow in WORKFLOWS}
"""What the catalog holds."""


class Gateway:
    """The real admission of two replicas that hear the same signals."""

    def __init__(self, world: World, targets: int) -> None:
        self._world = world
        self._numbers = itertools.count()
        self.targets = [self._next() for _ in range(targets)]
        loop = asyncio.get_running_loop()
        self._replicas = []
        for n in range(2):
            client = SimClient(world.server, world.faults, Life(f"gateway-{n}", mortal=False))
            cluster = Cluster(client, attempts=3, breaker=Breaker(monotonic=loop.time))
            self._replicas.append((client, Admission(cluster, Ledger(cluster, HOME), HOME, world.now)))
        self.outcomes: Counter[str] = Counter()

    def _next(self) -> TargetResource:
        number = next(self._numbers)
        target = TargetResource(
            api_version="apps/v1",
            kind="Deployment",
            name=f"web-{number}",
            namespace="shop" if number % 2 else "lab",
        )
        labels = {"app": target.name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]},
        }
        body = {"metadata": {"name": target.name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
        self._world.server.create(self._world.server.kind(resources.DEPLOYMENT), target.namespace, body)
        return target

    async def send(self) -> None:
        """One alert about a target, heard by one replica or by both at once."""
        rng = self._world.rng
        again = [t for t in self.targets if past_help(t.name)] if rng.random() < 0.4 else []
        target = rng.choice(again or self.targets)
        heard = self._replicas if rng.random() < 0.3 else [rng.choice(self._replicas)]
        await asyncio.gather(*(self._hear(client, admission, target) for client, admission in heard))

    async def _hear(self, client: SimClient, admission: Admission, target: TargetResource) -> None:
        fingerprint, now = hashlib.sha256(str(target).encode()).hexdigest(), self._world.now()
        labels = {"namespace": target.namespace, "deployment": target.name}
        signal = Signal("PodDown", "prometheus-alert", "alertmanager", "critical", now, now, labels)

        def build(name: str) -> dict[str, Any]:
            return request.build(signal, Resolution(target), fingerprint, name, HOME)

        try:
            verdict = await admission.verdict(fingerprint)
            if isinstance(verdict, Absent):
                made = await admission.create(fingerprint, verdict, build)
                if isinstance(made, tuple) and made[1]:
                    self.outcomes["created"] += 1
                    return
                verdict = Open(made[0]) if isinstance(made, tuple) else made
            self.outcomes[type(verdict).__name__] += 1
            if isinstance(verdict, Open):
                await self._count(client, verdict.request.name)
        except KubernautError:
            self.outcomes["unavailable"] += 1  # It comes again: the sender repeats what is not taken.

    async def _count(self, client: SimClient, name: str) -> None:
        """Another writer of the request's status: an occurrence, or the end of the signal."""
        at = clock.rfc3339(self._world.now())
        told: dict[str, Any] = {"deduplication": {"firstSeenAt": at, "lastSeenAt": at, "occurrenceCount": 2}}
        if self._world.rng.random() < 0.1:
            told = {"resolved": {"resolvedAt": at, "source": "alertmanager"}}
        await client.patch(resources.REMEDIATION_REQUEST, name, {"status": told}, HOME, subresource="status")


class Investigator:
    """A HolmesGPT-API whose sessions outlive everybody; see ``actors.ai_analysis.controller.Investigations``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sessions: dict[str, InvestigationSession] = {}
        self._ready: dict[str, float] = {}

    def of(self, life: Life) -> _Line:
        return _Line(self, life)

    async def start(self, session_id: str, asked: IncidentRequest) -> InvestigationSession:
        if session_id not in self.sessions:
            now, rng = self._world.now(), self._world.rng
            self.sessions[session_id] = InvestigationSession(
                session_id=session_id, state=SessionState.RUNNING, request=asked, created_at=now, attempt=1
            )
            wait = rng.uniform(0.3, 12.0) if rng.random() > 0.02 else float("inf")
            self._ready[session_id] = asyncio.get_running_loop().time() + wait
        return self.sessions[session_id]

    async def get(self, session_id: str) -> InvestigationSession | None:
        session = self.sessions.get(session_id)
        if session is None or session.state is not SessionState.RUNNING:
            return session
        if asyncio.get_running_loop().time() < self._ready[session_id]:
            return session
        self.sessions[session_id] = session.model_copy(update=self._end(session))
        return self.sessions[session_id]

    def _end(self, session: InvestigationSession) -> Mapping[str, Any]:
        rng = self._world.rng
        dice = rng.random()
        if dice < 0.06:
            error = SessionError(message="the model is away", status=503, retryable=rng.random() < 0.8)
            return {"state": SessionState.FAILED, "error": error}
        chosen = rng.choice(WORKFLOWS)
        answer: dict[str, Any] = {"confidence": rng.choice((0.95, 0.95, 0.95, 0.75, 0.6))}
        if dice < 0.10:
            answer |= {"resolved": True, "confidence": 0.9}
        elif dice < 0.14:
            answer |= {"needs_human_review": True, "human_review_reason": HumanReviewReason.NO_MATCHING_WORKFLOWS}
        else:
            answer["selected_workflow"] = SelectedWorkflowAnswer(
                workflow_id=chosen.workflow_id,
                workflow_name=chosen.workflow_name,
                version=chosen.version,
                engine=chosen.execution_engine,
                container_image=chosen.container_image,
                container_digest=chosen.container_digest,
                confidence=answer["confidence"],
                parameters={"STEPS": "1"},
            )
        response = IncidentResponse(
            incident_id=session.request.incident_id,
            analysis="",
            root_cause_analysis=RootCause(summary="something is wrong"),
            timestamp=self._world.now(),
            model="scripted",
            **answer,
        )
        return {"state": SessionState.DONE, "response": response}


class _Line:
    """The investigator as one process reaches it."""

    def __init__(self, investigator: Investigator, life: Life) -> None:
        self._investigator, self._life = investigator, life

    async def start(self, session_id: str, asked: IncidentRequest) -> InvestigationSession:
        await self._investigator._world.reach(self._life)
        started = await self._investigator.start(session_id, asked)
        await self._investigator._world.reach(self._life)
        return started

    async def get(self, session_id: str) -> InvestigationSession | None:
        await self._investigator._world.reach(self._life)
        return await self._investigator.get(session_id)

    async def close(self) -> None:
        """Nothing is open."""


class Statistics:
    """Data Storage, as far as the controller of executions tells it something."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.told: dict[str, ExecutionRecord] = {}
        self.judged: dict[str, EffectivenessRecord] = {}

    async def judge(self, life: Life, record: EffectivenessRecord) -> None:
        await self._world.reach(life)
        before = self.judged.setdefault(record.execution_id, record)
        # An assessment that somebody deleted is made again; what it comes to then is not what counts.
        again = names.effectiveness_assessment(record.remediation_id) in {
            name for _, name, *_ in self._world.rules.removed
        }
        self._world.rules.hold(before == record or again, f"execution {record.execution_id} was judged in two ways")
        await self._world.reach(life)

    async def record(self, life: Life, execution: ExecutionRecord) -> None:
        await self._world.reach(life)
        before = self.told.setdefault(execution.execution_id, execution)
        self._world.rules.hold(before == execution, f"execution {execution.execution_id} was counted in two ways")
        await self._world.reach(life)


@dataclass
class Effect:
    """What a workflow that succeeded did to its target. ``healthy`` ``None``: nobody reports on it."""

    healthy: bool | None
    firing: bool = False
    silent: bool = False
    """Alertmanager does not answer whoever asks about this target."""


class Effects:
    """What is true of the targets, whatever anybody believes: their health, and the alerts that Alertmanager holds."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.now: dict[str, Effect] = {}
        """By target, as ``namespace/kind/name``."""
        self.well: dict[str, float] = {}
        """When a target was last known to be no worse than it should be."""

    def of(self, life: Life) -> _Alerts:
        return _Alerts(self._world, life)

    async def come(self, target: str, runner: SimClient) -> None:
        """A workflow has done its work: it helped, it helped later, it did not, or nobody can tell."""
        rng = self._world.rng
        dice = 1.0 if past_help(target) else rng.random()
        self._leave(target)
        if dice < 0.50:
            await self._set(target, Effect(True), runner)
        elif dice < 0.60:
            await self._set(target, Effect(False, firing=True), runner)
            self._world.actors.later(self._recover(target, self.now[target], runner))
        elif dice < 0.65:
            await self._set(target, Effect(None, silent=True), runner)
        elif dice < 0.70:
            await self._set(target, Effect(True, firing=True), runner)
        elif dice < 0.75:
            await self._set(target, Effect(True), runner)
            self._world.actors.later(self._drift(target, runner))
        else:
            await self._set(target, Effect(False, firing=rng.random() < 0.7), runner)

    def was_well(self, target: str, since: float) -> bool:
        """Whether the target was in order at some moment since."""
        self._leave(target)
        return self.well.get(target, -1.0) >= since

    def _leave(self, target: str) -> None:
        found = self.now.get(target)
        if found is not None and found.healthy is not False:
            self.well[target] = self._world.loop.time()

    async def _set(self, target: str, effect: Effect, runner: SimClient) -> None:
        self.now[target] = effect
        namespace, _, name = target.split("/")
        ready = int(effect.healthy or 0)
        status: Any = {"observedGeneration": 1000, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready}
        told = {"status": None if effect.healthy is None else status}
        await insist(lambda: runner.patch(resources.DEPLOYMENT, name, told, namespace, subresource="status"))

    async def _recover(self, target: str, effect: Effect, runner: SimClient) -> None:
        await asyncio.sleep(self._world.rng.uniform(5.0, 250.0))
        if self.now[target] is effect:
            await self._set(target, Effect(True), runner)

    async def _drift(self, target: str, runner: SimClient) -> None:
        """Somebody else is at work on the target."""
        await asyncio.sleep(self._world.rng.uniform(1.0, 120.0))
        namespace, _, name = target.split("/")
        change = {"spec": {"replicas": 2}}
        await insist(lambda: runner.patch(resources.DEPLOYMENT, name, change, namespace))


class _Alerts:
    """Alertmanager as one process reaches it."""

    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def alerts(self, name: str) -> tuple[Mapping[str, str], ...]:
        await self._world.reach(self._life)
        found = self._world.effects.now
        if name != "PodDown" or (any(e.silent for e in found.values()) and self._world.rng.random() < 0.3):
            raise Retryable("Alertmanager does not answer")
        return tuple(
            {"namespace": target.split("/")[0], "deployment": target.split("/")[2]}
            for target, effect in found.items()
            if effect.firing
        )

    async def close(self) -> None:
        """Nothing is open."""


class Channels:
    """Whoever takes messages: now and then nobody does, and now and then the message arrives and the answer does not."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.marked: Counter[tuple[str, str]] = Counter()

    async def send(self, life: Life, notification: str, key: str, possible_duplicate: bool) -> None:
        rng = self._world.rng
        await self._world.reach(life)
        dice = rng.random() if self._world.faults.on else 1.0
        if dice < 0.10:
            raise Retryable("503", after=rng.choice((None, 5.0)))
        if dice < 0.11:
            raise Permanent("404")
        if dice < 0.12:
            await asyncio.sleep(3600)
        self.arrived[notification, key] += 1
        self.marked[notification, key] += possible_duplicate
        if dice < 0.13:
            raise Retryable("the answer was lost", reason=UNANSWERED)
        life.check()


class Actors:
    """People and the pipeline runner: they see what is stored, and act on it later."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runner = SimClient(world.server, world.faults, Life("runner", mortal=False))
        self._people = [
            SimClient(world.server, world.faults, Life(name, mortal=False), desk=world.desk, user=name)
            for name in ("ann", "bob")
        ]
        self._tasks: set[asyncio.Task[None]] = set()

    def see(self, event: Event) -> None:
        """React to a write; called at once, acts later."""
        if event.type != "ADDED":
            return
        meta, rng = event.entry.obj["metadata"], self._world.rng
        match event.resource.partition(".")[0]:
            case "pipelineruns":
                self.later(self._run(meta["name"], meta["uid"], target_of(event.entry.obj)))
            case "jobs":
                self.later(self._job(meta["name"], meta["uid"], target_of(event.entry.obj)))
            case "remediationapprovalrequests":
                self.later(self._decide(meta["name"], event.entry.obj["spec"]["requiredBy"]))
            case "remediationrequests":
                if rng.random() < 0.03:
                    self.later(self._cancel(meta["name"]))
                self.later(self._review(meta["name"]))
            case "workflowexecutions":
                self.later(self._clear(meta["name"]))
                if rng.random() < 0.01:
                    self.later(self._delete(resources.WORKFLOW_EXECUTION, meta))
            case "signalprocessings" if rng.random() < 0.01:
                self.later(self._delete(resources.SIGNAL_PROCESSING, meta))
            case "aianalyses" if rng.random() < 0.01:
                self.later(self._delete(resources.AI_ANALYSIS, meta))
            case "effectivenessassessments" if rng.random() < 0.01:
                self.later(self._delete(resources.EFFECTIVENESS_ASSESSMENT, meta))
            case "notificationrequests" if rng.random() < 0.01:
                self.later(self._delete(resources.NOTIFICATION_REQUEST, meta))

    def later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, name: str, uid: str, target: str) -> None:
        """Tekton: starts, ends in one way or another, heeds a cancellation; hangs, or loses the run."""
        rng, kind = self._world.rng, resources.PIPELINE_RUN
        await asyncio.sleep(rng.uniform(0.1, 3.0))
        while (made := await self._found(kind, name, RUNS)) is not None and made["metadata"]["uid"] == uid:
            if made["spec"].get("status") != "PipelineRunPending":
                break
            await asyncio.sleep(2.0)
        dice = rng.random()
        if dice < 0.03:
            return  # Nobody runs it.
        if dice < 0.06:
            await self._status(name, uid, "False", "CouldntGetPipeline", ended=True)
            return
        await self._status(name, uid, "Unknown", "Running")
        for _ in range(rng.randrange(1, 4)):
            await asyncio.sleep(rng.uniform(1.0, 15.0))
            run = await self._found(kind, name, RUNS)
            if run is None or run["metadata"]["uid"] != uid:
                return
            if run["spec"].get("status") == "Cancelled":
                await self._status(name, uid, "False", "Cancelled", ended=True)
                return
        if dice < 0.08:
            await self._insist(lambda: self._runner.delete(kind, name, RUNS, uid=uid))
        elif dice < 0.10:
            return  # It hangs.
        elif dice < 0.35:
            await self._fail(name, uid)
        else:
            await self._world.effects.come(target, self._runner)
            await self._status(name, uid, "True", "Succeeded", ended=True)

    async def _job(self, name: str, uid: str, target: str) -> None:
        """The Job controller and the kubelet: one pod, which ends in one way or another; a suspended Job's is stopped."""
        rng, kind, at = self._world.rng, resources.JOB, lambda: clock.rfc3339(self._world.now())
        await asyncio.sleep(rng.uniform(0.1, 3.0))
        while (made := await self._job_of(name, uid)) is not None and made["spec"].get("suspend"):
            await asyncio.sleep(2.0)
        dice = rng.random()
        if dice < 0.03 or made is None:
            return  # Nobody runs it.
        await self._told_of_job(name, uid, {"startTime": at(), "active": 1})
        for _ in range(rng.randrange(1, 4)):
            await asyncio.sleep(rng.uniform(1.0, 15.0))
            job = await self._job_of(name, uid)
            if job is None:
                return
            if job["spec"].get("suspend"):
                await self._told_of_job(name, uid, {"active": None, "conditions": [_condition("Suspended", at())]})
                return
        if dice < 0.05:
            await self._insist(lambda: self._runner.delete(kind, name, RUNS, uid=uid))
        elif dice < 0.07:
            return  # It hangs.
        elif dice < 0.32:
            await self._fail_pod(name, uid)
            await self._told_of_job(
                name,
                uid,
                {"active": None, "failed": 1, "conditions": [_condition("Failed", at(), "BackoffLimitExceeded")]},
            )
        else:
            await self._world.effects.come(target, self._runner)
            ended = {
                "active": None,
                "succeeded": 1,
                "completionTime": at(),
                "conditions": [_condition("Complete", at())],
            }
            await self._told_of_job(name, uid, ended)

    async def _job_of(self, name: str, uid: str) -> Any:
        job = await self._found(resources.JOB, name, RUNS)
        return job if job is not None and job["metadata"]["uid"] == uid else None

    async def _told_of_job(self, name: str, uid: str, status: Mapping[str, Any]) -> None:
        patch = {"metadata": {"uid": uid}, "status": status}
        await self._insist(lambda: self._runner.patch(resources.JOB, name, patch, RUNS, subresource="status"))

    async def _fail_pod(self, name: str, uid: str) -> None:
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True}
        body = {
            "metadata": {"name": f"{name}-{uid[:5]}", "labels": {JOB_NAME: name}, "ownerReferences": [owner]},
            "spec": {"restartPolicy": "Never", "containers": [{"name": CONTAINER, "image": "registry.example/fix:1"}]},
        }
        at = clock.rfc3339(self._world.now())[:19] + "Z"
        end = {"exitCode": self._world.rng.choice((1, 2, 3)), "reason": "Error", "startedAt": at, "finishedAt": at}
        told = {"status": {"containerStatuses": [{"name": CONTAINER, "state": {"terminated": end}}]}}
        await self._insist(lambda: self._runner.create(resources.POD, body, RUNS))
        await self._insist(
            lambda: self._runner.patch(resources.POD, f"{name}-{uid[:5]}", told, RUNS, subresource="status")
        )

    async def _fail(self, name: str, uid: str) -> None:
        step = self._world.rng.choice(("one", "two", "three"))
        condition = {"type": "Succeeded", "status": "False", "reason": "Failed", "message": f'"step-{step}" failed'}
        body = {
            "metadata": {
                "name": f"{name}-{uid[:8]}-fix",
                "labels": {"tekton.dev/pipelineTask": "fix", "tekton.dev/pipelineRun": name},
                "ownerReferences": [
                    {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "name": name, "uid": uid, "controller": True}
                ],
            },
            "status": {
                "conditions": [condition],
                "steps": [
                    {"name": step, "terminationReason": "Error", "terminated": {"exitCode": 1, "reason": "Error"}}
                ],
            },
        }
        told = {"status": body["status"]}
        task = body["metadata"]["name"]
        await self._insist(lambda: self._runner.create(resources.TASK_RUN, body, RUNS))
        await self._insist(lambda: self._runner.patch(resources.TASK_RUN, task, told, RUNS, subresource="status"))
        await self._status(name, uid, "False", "Failed", ended=True)

    async def _status(self, name: str, uid: str, status: str, reason: str, *, ended: bool = False) -> None:
        at = clock.rfc3339(self._world.now())
        body: dict[str, Any] = {
            "conditions": [{"type": "Succeeded", "status": status, "reason": reason, "message": f"{reason}."}]
        }
        if reason == "Running":
            body["startTime"] = at
        if ended:
            body["completionTime"] = at
        run = await self._found(resources.PIPELINE_RUN, name, RUNS)
        if run is None or run["metadata"]["uid"] != uid or succeeded(run).get("status") in {"True", "False"}:
            return
        patch = {"metadata": {"uid": uid}, "status": body}
        await self._insist(lambda: self._runner.patch(resources.PIPELINE_RUN, name, patch, RUNS, subresource="status"))

    async def _decide(self, name: str, required_by: str) -> None:
        """Mostly in time; sometimes late, twice, or not at all."""
        world, rng = self._world, self._world.rng
        if rng.random() < 0.15:
            return
        left = (clock.parse_rfc3339(required_by) - world.now()).total_seconds()
        await asyncio.sleep(rng.uniform(2.0, 300.0) if rng.random() < 0.9 else max(0.0, left + rng.uniform(-5.0, 30.0)))
        for person in rng.sample(self._people, rng.choice((1, 1, 1, 2))):
            decision = rng.choice(("Approved", "Approved", "Approved", "Rejected"))
            body = {"status": {"decision": decision}}
            await self._insist(
                lambda p=person, b=body: p.patch(resources.APPROVAL_REQUEST, name, b, HOME, subresource="status")
            )
            await asyncio.sleep(rng.uniform(0.0, 2.0))

    async def _cancel(self, name: str) -> None:
        await asyncio.sleep(self._world.rng.uniform(1.0, 400.0))
        note = {"metadata": {"annotations": {names.ANNOTATION_CANCEL: "enough"}}}
        await self._insist(lambda: self._people[0].patch(resources.REMEDIATION_REQUEST, name, note, HOME))

    async def _review(self, name: str) -> None:
        """Somebody looks after a while at what asks for a person."""
        await asyncio.sleep(self._world.rng.uniform(1200.0, 3000.0))
        note = {"metadata": {"annotations": {names.ANNOTATION_REVIEWED: "true"}}}
        await self._insist(lambda: self._people[0].patch(resources.REMEDIATION_REQUEST, name, note, HOME))

    async def _clear(self, name: str) -> None:
        """Somebody looks at a target whose workflow stopped half-way, and clears it."""
        await asyncio.sleep(self._world.rng.uniform(600.0, 1500.0))
        clearance = {
            "clearedAt": clock.rfc3339(self._world.now()),
            "clearedBy": "ann",
            "clearReason": "looked",
            "clearMethod": "StatusField",
        }
        body = {"status": {"blockClearance": clearance}}
        await self._insist(
            lambda: self._people[0].patch(resources.WORKFLOW_EXECUTION, name, body, HOME, subresource="status")
        )

    async def _delete(self, kind: Resource, meta: Mapping[str, Any]) -> None:
        await asyncio.sleep(self._world.rng.expovariate(1 / 20.0))
        await self._insist(lambda: self._people[0].delete(kind, meta["name"], HOME, uid=meta["uid"]))

    async def _found(self, kind: Resource, name: str, namespace: str) -> Any:
        for _ in range(20):
            try:
                return await self._runner.get(kind, name, namespace)
            except Retryable:
                await asyncio.sleep(0.5)
            except Permanent:
                return None
        return None

    async def _insist(self, attempt: Any) -> None:
        await insist(attempt)


async def insist(attempt: Any) -> None:
    """Try again while that can help; a refusal is an answer."""
    for _ in range(20):
        try:
            await attempt()
        except Retryable:
            await asyncio.sleep(0.5)
        except KubernautError:
            return
        else:
            return


def past_help(target: str) -> bool:
    """Whether no workflow of ours ever helps a target; about these there are more alerts than about others."""
    return int(target.rpartition("-")[2]) % 3 == 0


def target_of(run: Mapping[str, Any]) -> str:
    """Return what a run is to work on, as ``namespace/kind/name``."""
    return str((run["metadata"].get("annotations") or {}).get(names.ANNOTATION_TARGET_RESOURCE, ""))


def _condition(type_: str, at: str, reason: str = "Told") -> dict[str, Any]:
    return {"type": type_, "status": "True", "reason": reason, "message": f"{reason}.", "lastTransitionTime": at}
