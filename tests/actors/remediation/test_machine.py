"""A random life of a remediation: whatever its children, people and the gateway do, and wherever it dies, the rules hold.

Legal transitions only (the engine checks them), at most one execution an attempt, none without leave where leave is needed,
nothing new once it has ended, and an end in every case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.remediation.controller import RemediationController
from catalog.account.story import reconstruct
from kubernaut_ray import crds, names
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.contracts.timeline import GapKind
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import (
    AIAnalysisPhase,
    AIAnalysisReason,
    AIAnalysisSubReason,
    ApprovalDecision,
    NotificationPhase,
    RemediationPhase,
    SignalProcessingPhase,
    WorkflowExecutionPhase,
)
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.settings import Settings
from tests import build
from tests.crash import Crash
from tests.machines import Client, Driven, Line, Trail, Trouble, World, examples, places, troubles

NAMESPACE = names.SYSTEM_NAMESPACE
KEY = Key(NAMESPACE, "rr-1")
REQUEST = build.remediation_request()
SIBLING = build.remediation_request("rr-2", spec={"signal_fingerprint": "cd" * 32})


class Judged(World):
    """Judges every execution in the moment in which it is created."""

    def __init__(self, now: Any) -> None:
        super().__init__(now, "RemediationRequest")
        self.executions: list[str] = []

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        created = await super().create(resource, obj, namespace, dry_run=dry_run)
        name = created["metadata"]["name"]
        if resource == resources.WORKFLOW_EXECUTION and name.startswith("we-rr-1"):
            assert name not in self.executions, f"{name} was created a second time"
            self.executions.append(name)
            suffix = name.removeprefix("we-")
            analysis = await self.get(resources.AI_ANALYSIS, f"ai-{suffix}", NAMESPACE)
            if analysis["status"].get("approvalRequired") is not False:
                asked = await self.get(resources.APPROVAL_REQUEST, f"rar-{suffix}", NAMESPACE)
                assert asked["status"]["sealedDecision"] == "Approved", "an execution without leave"
        return created


class Life(RuleBasedStateMachine):
    SETTINGS = Settings()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = build.NOW
        self.kube = Judged(lambda: self.now)
        self.client = Client(self.kube)
        self.sink = Trail(self.client)
        self.ended: str | None = None
        self.deleted: set[tuple[str, str]] = set()

    def teardown(self) -> None:
        """Left alone, it ends."""
        try:
            for _ in range(80):
                if self.phase() in {None, *TERMINAL}:
                    break
                self.reconcile("none", 0)
                self.now += timedelta(minutes=5)
            assert self.phase() in {None, *TERMINAL}, f"stuck in {self.phase()}"
            self.the_trail_tells_it()
        finally:
            self.loop.close()

    def tick(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def the_trail_tells_it(self) -> None:
        """Whatever happened, and wherever the orchestrator died, its own facts make one walk to the end that was reached."""
        told = reconstruct("rr-1", self.sink.facts.values())
        own = {
            gap for gap in told.gaps if gap.event_type.startswith("orchestrator.") and "approval" not in gap.event_type
        }
        assert {gap.kind for gap in own} <= {GapKind.SUPERSEDED, GapKind.STILL_OPEN}, own
        phase = self.phase()
        if phase is not None:
            assert told.ending is not None
            assert (told.ending.phase, told.phases[-1].phase) == (phase, phase)
            assert told.request is not None
            assert told.request.spec == REQUEST.spec.to_object()

    def find(self, kind: type[CustomResource], name: str) -> Object | None:
        try:
            found: Object = self.run(self.kube.get(resources.of(kind), name, NAMESPACE))
        except NotFound:
            return None
        return found

    def phase(self) -> str | None:
        found = self.find(crds.RemediationRequest, "rr-1")
        return None if found is None else str(found.get("status", {}).get("overallPhase", ""))

    def attempt(self) -> int:
        found = self.find(crds.RemediationRequest, "rr-1") or {}
        return int(found.get("status", {}).get("recoveryAttempts", 0))

    def write(self, kind: type[CustomResource], name: str, status: dict[str, Any]) -> None:
        """What another controller writes, which never leaves an end that it has reached."""
        found = self.find(kind, name)
        if found is None or found.get("status", {}).get("phase") in {"Completed", "Failed", "Sent"}:
            return
        body = {"status": status}
        self.run(self.kube.patch(resources.of(kind), name, body, NAMESPACE, subresource="status"))

    @initialize()
    def begin(self) -> None:
        self.run(self.kube.create(resources.REMEDIATION_REQUEST, REQUEST.to_object()))

    @rule(trouble=troubles, at=places)
    def reconcile(self, trouble: Trouble, at: int) -> None:
        """Up to three reconciles of one process, which meets trouble at its ``at``-th call, if it gets there."""
        deps = Deps(self.client, self.SETTINGS, Endpoints(), lambda: "token", lambda _ns, _name: None)
        controller: Any = Driven(RemediationController(deps), self.client)
        reconcile = Reconciler(controller, self.client, self.sink, clock=self.tick)
        self.client.line = Line(trouble, at)
        try:
            for _ in range(3):
                self.run(reconcile(KEY))
        except (Crash, Retryable):
            pass
        finally:
            self.client.line = Line()

    @rule(
        good=st.integers(0, 5),
        approval=st.sampled_from([True, True, False, None]),
        found=st.sampled_from(["selected"] * 6 + ["not needed", "unsure", "broken"]),
        step=st.sampled_from(["one", "two", "three", "four"]),
        half_way=st.booleans(),
        trouble=troubles,
        at=places,
    )
    def it_goes_on(
        self, good: int, approval: bool | None, found: str, step: str, half_way: bool, trouble: Trouble, at: int
    ) -> None:
        """Whoever has the ball plays it, mostly well, and the orchestrator looks."""
        match self.phase():
            case "Processing":
                self.processing_ends(good=good > 0)
            case "Analyzing":
                self.analysis_ends(approval=approval, end=found)
            case "AwaitingApproval":
                decision = ApprovalDecision.APPROVED if good else ApprovalDecision.REJECTED
                self.somebody_decides(decision=decision, sealed=True)
            case "Executing":
                end = WorkflowExecutionPhase.COMPLETED if good > 3 else WorkflowExecutionPhase.FAILED
                self.execution_moves(end=end, step=step, half_way=half_way)
            case _:
                self.messages_arrive(end=NotificationPhase.SENT)
        self.reconcile(trouble, at)

    @rule(minutes=st.sampled_from([1, 1, 1, 1, 4, 4, 16, 61]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    def processing_ends(self, good: bool) -> None:
        end = SignalProcessingPhase.COMPLETED if good else SignalProcessingPhase.FAILED
        self.write(crds.SignalProcessing, "sp-rr-1", build.signal_processing(REQUEST, end).status.to_object())

    def analysis_ends(self, approval: bool | None, end: str) -> None:
        attempt = self.attempt()
        status = {
            "selected": build.ai_analysis(REQUEST, approval_required=approval),
            "not needed": build.ai_analysis(
                REQUEST, reason=AIAnalysisReason.WORKFLOW_NOT_NEEDED, selected_workflow=None
            ),
            "unsure": build.ai_analysis(
                REQUEST,
                AIAnalysisPhase.FAILED,
                reason=AIAnalysisReason.WORKFLOW_RESOLUTION_FAILED,
                sub_reason=AIAnalysisSubReason.LOW_CONFIDENCE,
            ),
            "broken": build.ai_analysis(REQUEST, AIAnalysisPhase.FAILED, reason=AIAnalysisReason.API_ERROR),
            "empty": build.ai_analysis(REQUEST, selected_workflow=None),
        }[end].status
        self.write(crds.AIAnalysis, names.ai_analysis("rr-1", attempt), status.to_object())

    def somebody_decides(self, decision: ApprovalDecision, sealed: bool) -> None:
        """Sealed by the controller, or only written by a person."""
        name = names.approval_request("rr-1", self.attempt())
        found = self.find(crds.RemediationApprovalRequest, name)
        if found is not None and not found.get("status", {}).get("sealedDecision"):
            status = {"decision": str(decision), **({"sealedDecision": str(decision)} if sealed else {})}
            self.write(crds.RemediationApprovalRequest, name, status)

    def execution_moves(self, end: WorkflowExecutionPhase, step: str, half_way: bool) -> None:
        attempt = self.attempt()
        run = build.workflow_execution(REQUEST, end, attempt=attempt, step=step, half_way=half_way, ended=self.now)
        self.write(crds.WorkflowExecution, run.name, run.status.to_object())

    def messages_arrive(self, end: NotificationPhase) -> None:
        for item in self.run(self.kube.list(resources.NOTIFICATION_REQUEST, NAMESPACE)).items:
            self.write(crds.NotificationRequest, item["metadata"]["name"], {"phase": str(end)})

    def somebody_else_works_on_the_target(self, phase: WorkflowExecutionPhase) -> None:
        other = build.workflow_execution(SIBLING, phase, ended=self.now)
        if self.find(crds.WorkflowExecution, other.name) is None:
            body = other.to_object()
            del body["metadata"]["ownerReferences"]
            self.run(self.kube.create(resources.WORKFLOW_EXECUTION, body))
        self.write(crds.WorkflowExecution, other.name, other.status.to_object())

    def the_gateway_counts(self) -> None:
        """Another writer of the same status."""
        seen = {"firstSeenAt": rfc3339(build.NOW), "lastSeenAt": rfc3339(self.now), "occurrenceCount": 2}
        if self.find(crds.RemediationRequest, "rr-1") is not None:
            self.run(
                self.kube.patch(
                    resources.REMEDIATION_REQUEST,
                    "rr-1",
                    {"status": {"deduplication": seen}},
                    NAMESPACE,
                    subresource="status",
                )
            )

    def it_is_called_off(self, which: str) -> None:
        if which == "resolved":
            body = {"status": {"resolved": {"resolvedAt": rfc3339(self.now), "source": "alertmanager"}}}
            self.run(self.kube.patch(resources.REMEDIATION_REQUEST, "rr-1", body, NAMESPACE, subresource="status"))
        else:
            note = {"metadata": {"annotations": {names.ANNOTATION_CANCEL: "enough"}}}
            self.run(self.kube.patch(resources.REMEDIATION_REQUEST, "rr-1", note, NAMESPACE))

    def a_child_is_deleted(self, kind: type[CustomResource]) -> None:
        for item in self.run(self.kube.list(resources.of(kind), NAMESPACE)).items[:1]:
            self.deleted.add((kind.kind(), item["metadata"]["name"]))
            self.run(self.kube.delete(resources.of(kind), item["metadata"]["name"], NAMESPACE))

    @rule(
        what=st.sampled_from(["count", "count", "busy", "done", "unsealed", "early", "deleted", "resolved", "cancel"]),
        kind=st.sampled_from(list(crds.KINDS[1:])),
        dice=st.integers(0, 4),
    )
    def it_is_disturbed(self, what: str, kind: type[CustomResource], dice: int) -> None:
        """Other writers, other executions, impatient people. What ends a life is seldom."""
        match what:
            case "count":
                self.the_gateway_counts()
            case "busy":
                self.somebody_else_works_on_the_target(WorkflowExecutionPhase.RUNNING)
            case "done":
                self.somebody_else_works_on_the_target(WorkflowExecutionPhase.COMPLETED)
            case "unsealed":
                self.somebody_decides(ApprovalDecision.APPROVED, sealed=False)
            case "early":
                self.analysis_ends(approval=True, end="empty")
            case "deleted" if dice == 0:
                self.a_child_is_deleted(kind)
            case "resolved" | "cancel" if dice == 0 and self.phase() not in {None, ""}:
                self.it_is_called_off(what)
            case _:
                pass

    @invariant()
    def an_end_is_an_end(self) -> None:
        phase = self.phase()
        if self.ended is not None:
            assert phase in {self.ended, None}
        elif phase in TERMINAL:
            self.ended = phase

    @invariant()
    def attempts_are_limited(self) -> None:
        assert len(self.kube.executions) <= 1 + self.SETTINGS.orchestrator.max_recovery_attempts

    @invariant()
    def no_child_is_made_twice(self) -> None:
        """But for one that a person deleted, and never an execution."""
        again = {key for key, times in self.kube.made.items() if times > 1}
        assert again <= self.deleted
        assert not any(kind == "WorkflowExecution" and name.startswith("we-rr-1") for kind, name in again)


TERMINAL = {str(phase) for phase in RemediationPhase if phase.terminal}

TestLife = Life.TestCase
TestLife.settings = examples(12, steps=40)
