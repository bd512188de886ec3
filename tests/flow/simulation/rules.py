"""What must hold whatever happens, judged in the moment of every write, and once more when everything is at rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from actors.ai_analysis.phases import TABLE as ANALYSIS
from actors.approval.phases import TABLE as APPROVAL
from actors.notification.phases import TABLE as NOTIFICATION
from actors.remediation.phases import TABLE as REMEDIATION
from actors.signal_processing.phases import TABLE as PROCESSING
from actors.workflow_execution.phases import TABLE as EXECUTION
from actors.workflow_execution.pipelinerun import Ownership, is_over
from catalog.account.story import reconstruct
from kubernaut_ray import names
from kubernaut_ray.clock import parse_rfc3339
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.timeline import GapKind
from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import RemediationPhase
from kubernaut_ray.kube.embedded.hub import Event
from kubernaut_ray.kube.embedded.status import Obj
from kubernaut_ray.kube.embedded.store import Store
from tests.trail import fits

TABLES: Mapping[str, PhaseTable] = {
    "remediationrequests": REMEDIATION,
    "signalprocessings": PROCESSING,
    "aianalyses": ANALYSIS,
    "remediationapprovalrequests": APPROVAL,
    "workflowexecutions": EXECUTION,
    "notificationrequests": NOTIFICATION,
}
ONCE: Mapping[str, tuple[str, ...]] = {
    "remediationrequests": ("startTime", "completedAt", "outcome", "failureReason", "retentionExpiryTime"),
    "signalprocessings": ("startTime", "completionTime"),
    "aianalyses": ("startedAt", "completedAt", "selectedWorkflow"),
    "remediationapprovalrequests": ("createdAt", "sealedDecision", "grant", "usedBy", "targetUid"),
    "workflowexecutions": ("startTime", "completionTime", "pipelineRunUid", "failureDetails"),
    "notificationrequests": ("queuedAt", "completionTime"),
}
"""Fields of a status that are written once and then stay."""
TERMINAL = {str(phase) for phase in RemediationPhase if phase.terminal}
_WORK = ("signalprocessings", "aianalyses", "remediationapprovalrequests", "workflowexecutions")
_SLACK = timedelta(minutes=12)
"""A deadline is acted on by whoever is up: outages, lost events and a resync lie between."""


class Broken(AssertionError):
    """A rule does not hold."""


def plural(table: str) -> str:
    return table.partition(".")[0]


def phase_of(kind: str, obj: Obj) -> str:
    status = obj.get("status") or {}
    if kind == "remediationapprovalrequests":
        return str(status.get("sealedDecision") or ("Pending" if status.get("createdAt") else ""))
    return str(status.get("overallPhase" if kind == "remediationrequests" else "phase") or "")


class Rules:
    """Listens to the store and to the audit trail. Problems are collected: the first one is seldom the whole story."""

    def __init__(self, store: Store, now: Callable[[], datetime], *, overall: timedelta) -> None:
        self._store, self._now, self._overall = store, now, overall
        self.problems: list[str] = []
        self.paths: dict[str, list[str]] = defaultdict(list)
        """Phases of each RemediationRequest, by name, as its status was written."""
        self.requests: dict[str, Obj] = {}
        """The last state of each RemediationRequest."""
        self.notices: dict[str, dict[str, Obj]] = defaultdict(dict)
        """The last state of each NotificationRequest, by RemediationRequest."""
        self.facts: dict[str, dict[str, AuditEvent]] = defaultdict(dict)
        self.transitions: Counter[str] = Counter()
        self.removed: set[str] = set()
        """UIDs of what was deleted on purpose by people or by the orchestrator's own cancellation."""
        self._made: Counter[tuple[str, str, str]] = Counter()
        self._runs: dict[str, str] = {}
        self._approved: dict[str, str] = {}
        self._live: dict[str, str] = {}

    def hold(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(f"{self._now():%H:%M:%S.%f}: {problem}")

    def see(self, event: Event) -> None:
        """Judge a write."""
        kind, obj = plural(event.resource), event.entry.obj
        if kind == "pipelineruns":
            self._run(event, obj)
        if kind not in TABLES:
            return
        if event.type == "DELETED":
            self._unfinished(kind, obj)
            return
        if event.type == "ADDED":
            self._child(kind, obj)
        old = event.previous.obj if event.previous is not None else {}
        before, after = phase_of(kind, old), phase_of(kind, obj)
        if before != after:
            self.transitions[f"{kind}: {before} → {after}"] += 1
            name = obj["metadata"]["name"]
            self.hold(TABLES[kind].allows(before, after), f"{kind} {name} went from {before!r} to {after!r}")
            if kind == "remediationrequests":
                self.paths[name].append(after)
        self._once(kind, old, obj)
        if kind == "remediationrequests":
            self.requests[obj["metadata"]["name"]] = obj
        if kind == "notificationrequests":
            owner = (obj["spec"].get("remediationRequestRef") or {}).get("name", "")
            self.notices[owner][obj["metadata"]["name"]] = obj

    def told(self, event: AuditEvent) -> None:
        """Take a fact into the trail, which keeps one an id."""
        known = self.facts[event.correlation_id].setdefault(event.event_id, fits(event))
        self.hold(
            (known.event_type, known.resource_id, known.event_outcome)
            == (event.event_type, event.resource_id, event.event_outcome),
            f"one id, two facts: {known.event_type} and {event.event_type} of {event.correlation_id}",
        )

    def _once(self, kind: str, old: Obj, new: Obj) -> None:
        was, now = old.get("status") or {}, new.get("status") or {}
        for field in ONCE[kind]:
            if was.get(field) not in (None, "", {}) and was[field] != now.get(field):
                name = new["metadata"]["name"]
                self.hold(False, f"{kind} {name}: {field} went from {was[field]!r} to {now.get(field)!r}")

    def _child(self, kind: str, obj: Obj) -> None:
        """No child twice, and nothing new for what has ended, but messages."""
        meta = obj["metadata"]
        owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
        if owner is None:
            return
        key = (kind, meta["name"], owner["uid"])
        self._made[key] += 1
        self.hold(
            self._made[key] == 1 or (kind != "workflowexecutions" and key_uid(key) in self.removed),
            f"{kind} {meta['name']} was created {self._made[key]} times",
        )
        request = self._store.get("remediationrequests.kubernaut.ai", meta["namespace"], owner["name"])
        if kind in _WORK and request is not None:
            phase = phase_of("remediationrequests", request.obj)
            self.hold(phase not in TERMINAL, f"{kind} {meta['name']} was created after {owner['name']} was {phase}")

    def _unfinished(self, kind: str, obj: Obj) -> None:
        meta = obj["metadata"]
        owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
        if owner is not None:
            self.removed.add(key_uid((kind, meta["name"], owner["uid"])))

    def _run(self, event: Event, run: Obj) -> None:
        """One PipelineRun an execution, one a leave, one at a time on a target, none without the leave that it needs."""
        uid, name = run["metadata"]["uid"], run["metadata"]["name"]
        target = (run["metadata"].get("annotations") or {}).get(names.ANNOTATION_TARGET_RESOURCE, "")
        if event.type == "DELETED" or is_over(run):
            if self._live.get(target) == uid:
                del self._live[target]
            return
        if event.type != "ADDED":
            return
        owner = Ownership.of(run)
        self.hold(target not in self._live, f"two PipelineRuns at a time on {target}")
        self._live[target] = uid
        first = self._runs.setdefault(owner.execution_uid, uid)
        self.hold(first == uid, f"{owner.execution} made the PipelineRun {name} a second time")
        home = names.SYSTEM_NAMESPACE
        execution = self._store.get("workflowexecutions.kubernaut.ai", home, owner.execution)
        self.hold(execution is not None, f"a PipelineRun for {owner.execution}, which is not there")
        if execution is None:
            return
        deadline = execution.obj["spec"].get("deadline")
        self.hold(deadline is None or self._now() < parse_rfc3339(deadline) + _SLACK, f"{owner.execution} began too late")
        suffix = owner.execution.removeprefix("we-")
        asked = self._store.get("remediationapprovalrequests.kubernaut.ai", home, f"rar-{suffix}")
        analysis = self._store.get("aianalyses.kubernaut.ai", home, f"ai-{suffix}")
        needed = analysis is None or analysis.obj.get("status", {}).get("approvalRequired") is not False
        if analysis is not None and needed:
            status = asked.obj.get("status", {}) if asked is not None else {}
            self.hold(status.get("sealedDecision") == "Approved", f"{owner.execution} ran without leave")
        if asked is not None:
            leave = asked.obj["metadata"]["uid"]
            self.hold(self._approved.setdefault(leave, uid) == uid, f"rar-{suffix} was used twice")

    def rest(self, deleted: set[str]) -> None:
        """Judge the world at rest: every incident has an end, somebody was told of each failure, and the trail tells it all."""
        for name, request in self.requests.items():
            self._ended(name, request)
        for owner, notices in self.notices.items():
            for name, notice in notices.items():
                phase = phase_of("notificationrequests", notice)
                gone = notice["metadata"]["uid"] in deleted
                self.hold(gone or phase in NOTIFICATION.terminal, f"{name} of {owner} is left in {phase!r}")
        for table in ("signalprocessings", "aianalyses", "workflowexecutions", "remediationapprovalrequests"):
            for entry in self._store.scan(f"{table}.kubernaut.ai"):
                phase = phase_of(table, entry.obj)
                self.hold(phase in TABLES[table].terminal, f"{table} {entry.obj['metadata']['name']} is left in {phase!r}")

    def _ended(self, name: str, request: Obj) -> None:
        status = request.get("status") or {}
        phase, path = phase_of("remediationrequests", request), self.paths[name]
        self.hold(phase in TERMINAL, f"{name} is stuck in {phase!r} ({' → '.join(path)}): {status.get('message', '')}")
        if phase not in TERMINAL:
            return
        took = parse_rfc3339(status["completedAt"]) - parse_rfc3339(request["metadata"]["creationTimestamp"])
        paused = status.get("failurePhase") == "Blocked"
        self.hold(paused or took <= self._overall + _SLACK, f"{name} took {took}")
        asks = status.get("requiresManualReview") or status.get("outcome") == "ManualReviewRequired"
        inherited = status.get("duplicateOf") and status.get("blockReason") == "DuplicateInProgress"
        if (phase in {"Failed", "TimedOut"} or asks) and not inherited:
            told = self.notices[name]
            self.hold(bool(told), f"{name} ended as {phase} and nobody was told")
        self._trail(name, path, phase)

    def _trail(self, name: str, path: list[str], phase: str) -> None:
        """Each transition is told exactly once, and the facts make one walk."""
        facts = self.facts[name].values()
        moves = Counter(
            (str(f.event_data["from_phase"]), str(f.event_data["to_phase"]))
            for f in facts
            if f.event_type == "orchestrator.phase.transitioned"
        )
        walked = Counter(zip(["", *path[:-1]], path, strict=True))
        for move, times in walked.items():
            self.hold(moves[move] >= times, f"{name}: {move[0]!r} → {move[1]!r} happened {times} times, told {moves[move]}")
        story = reconstruct(name, facts)
        self.hold([span.phase for span in story.phases] == path, f"{name}: {[s.phase for s in story.phases]} told of {path}")
        odd = [
            gap
            for gap in story.gaps
            if gap.kind not in {GapKind.SUPERSEDED, GapKind.STILL_OPEN}
            and gap.event_type.startswith("orchestrator.")
            and "approval" not in gap.event_type
        ]
        self.hold(not odd, f"{name}: {odd}")
        self.hold(story.ending is not None and story.ending.phase == phase, f"{name}: the trail ends with {story.ending}")


def key_uid(key: tuple[str, str, str]) -> str:
    return "/".join(key)
