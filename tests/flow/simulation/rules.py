"""What must hold whatever happens, judged in the moment of every write, and once more when everything is at rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from actors.workflow_execution import engines
from actors.workflow_execution.marks import Ownership
from catalog.account.story import reconstruct
from kubernaut_ray import names
from kubernaut_ray.clock import parse_rfc3339
from kubernaut_ray.contracts import fencing
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.timeline import GapKind
from kubernaut_ray.crds.enums import RemediationPhase
from kubernaut_ray.kube.embedded.hub import Event
from kubernaut_ray.kube.embedded.status import Obj
from tests.flow.simulation.server import Server
from tests.lifecycles import TABLES, ended, phase_of, problems
from tests.trail import fits

TERMINAL = {str(phase) for phase in RemediationPhase if phase.terminal}
_WORK = ("SignalProcessing", "AIAnalysis", "RemediationApprovalRequest", "WorkflowExecution", "EffectivenessAssessment")
TABLES_AT_REST = (
    "signalprocessings",
    "aianalyses",
    "remediationapprovalrequests",
    "workflowexecutions",
    "effectivenessassessments",
    "notificationrequests",
)
_CALLED_OFF = ("signalprocessings", "aianalyses", "remediationapprovalrequests", "workflowexecutions")
_SLACK = timedelta(minutes=12)
"""A deadline is acted on by whoever is up: outages, lost events and a resync lie between."""


class Rules:
    """Listens to the store and to the audit trail. Problems are collected: the first one is seldom the whole story."""

    def __init__(
        self, server: Server, now: Callable[[], datetime], *, overall: timedelta, chain: int, truth: Truth, leased: bool
    ) -> None:
        self._store, self._now, self._overall, self._leased = server.store, now, overall, leased
        self._writer, self._slept = (lambda: server.writer), (lambda: server.late)
        self._owners: dict[str, tuple[str, str]] = {}
        """By Lease of a block: the process that has it, and the Lease by which that lives."""
        self._chain, self._truth = chain, truth
        self.problems: list[str] = []
        self.paths: dict[str, list[str]] = defaultdict(list)
        """Phases of each RemediationRequest, by name, as its status was written."""
        self.requests: dict[str, Obj] = {}
        """The last state of each RemediationRequest."""
        self.notices: dict[str, dict[str, Obj]] = defaultdict(dict)
        """The last state of each NotificationRequest, by RemediationRequest."""
        self.facts: dict[str, dict[str, AuditEvent]] = defaultdict(dict)
        self.transitions: Counter[str] = Counter()
        self.removed: set[Child] = set()
        """What was there and is gone: deleted by people, called off, or gone with its owner."""
        self._untouched: set[Child] = set()
        """Those of them that nobody had taken up: nothing of an execution like that has happened."""
        self.situations: Counter[str] = Counter()
        """How often what is to be judged came about at all: a rule over nothing says nothing."""
        self._late: set[str] = set()
        """UIDs of what processes created that had slept over the end of its request."""
        self._slow: set[str] = set()
        """UIDs of what processes created that had slept: nobody who judged meanwhile could know of it."""
        self._made: Counter[Child] = Counter()
        self._runs: dict[str, str] = {}
        self._begun: set[str] = set()
        self._approved: dict[str, str] = {}
        self._live: dict[str, str] = {}

    def hold(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(f"{self._now():%H:%M:%S.%f}: {problem}")

    def see(self, event: Event) -> None:
        """Judge a write."""
        obj = event.entry.obj
        kind, name = obj["kind"], obj["metadata"]["name"]
        if kind == "Lease":
            self._lease(event, obj)
        if kind in {"PipelineRun", "Job"}:
            self._run(event, obj)
        if kind not in TABLES:
            return
        if event.type == "DELETED":
            self.removed.update(_child_of(obj))
            if phase_of(obj) == "":
                self._untouched.update(_child_of(obj))
            return
        if event.type == "ADDED":
            self._child(kind, obj)
            if kind == "RemediationRequest":
                self.hold(name not in self.requests, f"{name} bears the name of one that was removed")
        old = event.previous.obj if event.previous is not None else None
        before, after = phase_of(old) if old is not None else "", phase_of(obj)
        if before != after:
            self.transitions[f"{kind}: {before} → {after}"] += 1
            if kind == "RemediationRequest":
                self.paths[name].append(after)
        for problem in problems(old, obj):
            self.hold(False, problem)
        if kind == "RemediationRequest":
            self.requests[name] = obj
            if before == "Verifying" and after == "Completed":
                self._verified(obj)
            if before != after == "Cancelled":
                self._called_off(obj)
        if kind == "WorkflowExecution" and event.type == "ADDED":
            self._worth_trying(obj)
        if kind == "NotificationRequest":
            self.notices[(obj["spec"].get("remediationRequestRef") or {}).get("name", "")][name] = obj

    def told(self, event: AuditEvent) -> None:
        """Take a fact into the trail, which keeps one an id."""
        known = self.facts[event.correlation_id].setdefault(event.event_id, fits(event))
        self.hold(
            (known.event_type, known.resource_id, known.event_outcome)
            == (event.event_type, event.resource_id, event.event_outcome),
            f"one id, two facts: {known.event_type} and {event.event_type} of {event.correlation_id}",
        )

    def _lease(self, event: Event, lease: Obj) -> None:
        """Note which process has the shards of a block: whoever wrote itself into its Lease last, until it is put out."""
        name, holder = lease["metadata"]["name"], (lease.get("spec") or {}).get("holderIdentity") or ""
        if "-by-" in name:
            if event.type == "DELETED" or not holder:
                self._owners = {block: who for block, who in self._owners.items() if who[1] != name}
        elif event.type != "DELETED":
            before = self._owners.get(name, ("", ""))
            self.situations["takeovers"] += bool(before[0]) and before[0] != self._writer()
            self._owners[name] = (self._writer(), holder.partition("#")[0])

    def _owned(self, run: Obj, what: str) -> None:
        """No run by a process whose shard is another's by now."""
        writer = self._writer()
        block = fencing.block_lease("workflowexecutions", int(run["metadata"]["labels"][names.LABEL_SHARD]))
        owner = self._owners.get(block, ("nobody", ""))[0]
        self.hold(writer == owner, f"{what} was made by {writer}, and its shard was {owner}'s by then")

    def _verified(self, request: Obj) -> None:
        """No remediation without effect is called one."""
        name, status = request["metadata"]["name"], request["status"]
        told = next(c for c in status["conditions"] if c["type"] == "EffectivenessAssessed")
        self.situations[f"effect {told['status']}"] += 1
        remediated = status.get("outcome") == "Remediated"
        self.hold(told["status"] != "False" or not remediated, f"{name} did not help and ended as Remediated")
        if remediated and told["status"] == "True":
            ref, since = request["spec"]["targetResource"], parse_rfc3339(status["verifyingStartTime"])
            target = _target(ref)
            self.hold(
                self._truth(target, since), f"{name} ended as Remediated, and {target} was down from then on until now"
            )

    def _called_off(self, request: Obj) -> None:
        """With a remediation everything is called off that works for it, what was created a moment ago too."""
        for table in _CALLED_OFF:
            for child in (entry.obj for entry in self._store.scan(f"{table}.kubernaut.ai")):
                meta = child["metadata"]
                if any(owner == request["metadata"]["uid"] for _, _, owner, _ in _child_of(child)):
                    self.situations["child of a cancelled one"] += 1
                    over = ended(child) or "deletionTimestamp" in meta or meta["uid"] in self._slow
                    self.hold(over, f"{child['kind']} {meta['name']} goes on after its remediation was cancelled")

    def _worth_trying(self, execution: Obj) -> None:
        """Where the last remediations of a target did not help, there is no other one."""
        meta, target = execution["metadata"], execution["spec"]["targetResource"]
        owner = next((o["uid"] for o in meta.get("ownerReferences") or ()), "")
        found = [e.obj for e in self._store.scan("effectivenessassessments.kubernaut.ai")]
        verdicts = [
            one["status"]["effective"]
            for one in sorted(found, key=lambda one: one["metadata"]["creationTimestamp"], reverse=True)
            if one["spec"]["remediationRequestRef"]["uid"] != owner
            and _target(one["spec"]["remediationTarget"]) == target
            and (one.get("status") or {}).get("effective") is not None
        ]
        self.situations["execution after an ineffective one"] += verdicts[:1] == [False]
        self.hold(
            len(verdicts) < self._chain or any(verdicts[: self._chain]),
            f"{meta['name']} was created, and the last {self._chain} did not help {target}",
        )

    def _child(self, kind: str, obj: Obj) -> None:
        """No child twice, and nothing new for what has ended, but messages."""
        meta = obj["metadata"]
        for key in _child_of(obj):
            _, name, _, owner = key
            self._made[key] += 1
            if self._slept():
                self._slow.add(meta["uid"])
            self.hold(
                self._made[key] == 1 or key in (self._untouched if kind == "WorkflowExecution" else self.removed),
                f"{kind} {name} was created {self._made[key]} times",
            )
            request = self._store.get("remediationrequests.kubernaut.ai", meta["namespace"], owner)
            if kind in _WORK and request is not None:
                phase = phase_of(request.obj)
                if phase in TERMINAL and self._slept():
                    self._late.add(meta["uid"])  # It may be created; nothing may come of it.
                    self.situations[f"late {kind}"] += 1
                else:
                    self.hold(phase not in TERMINAL, f"{kind} {name} was created after {owner} was {phase}")

    def _run(self, event: Event, run: Obj) -> None:
        """One run an execution, whatever its engine, one a leave, one at a time on a target, none without the leave that it needs."""
        uid, name = run["metadata"]["uid"], run["metadata"]["name"]
        target = (run["metadata"].get("annotations") or {}).get(names.ANNOTATION_TARGET_RESOURCE, "")
        kind = run["kind"]
        if event.type == "DELETED" or engines.of(run).is_over(run):
            if self._live.get(target) == uid:
                del self._live[target]
            return
        if uid not in self._begun and not engines.of(run).held(run):
            self._begun.add(uid)
            self._began(Ownership.of(run).execution)
        if event.type != "ADDED":
            return
        self.situations[kind] += 1
        if self._leased:
            self._owned(run, f"{kind} {name}")
        owner = Ownership.of(run)
        self.hold(target not in self._live, f"two runs at a time on {target}")
        self._live[target] = uid
        self.hold(owner.execution_uid not in self._late, f"{owner.execution} ran, and was created when all was over")
        first = self._runs.setdefault(owner.execution_uid, uid)
        self.hold(first == uid, f"{owner.execution} made the {kind} {name} a second time")
        home = names.SYSTEM_NAMESPACE
        execution = self._store.get("workflowexecutions.kubernaut.ai", home, owner.execution)
        self.hold(execution is not None, f"a {kind} for {owner.execution}, which is not there")
        if execution is None:
            return
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

    def _began(self, name: str) -> None:
        """A run acts from when it is let go; one that somebody who had slept creates is never."""
        execution = self._store.get("workflowexecutions.kubernaut.ai", names.SYSTEM_NAMESPACE, name)
        self.hold(execution is not None, f"a run began for {name}, which is not there")
        if execution is not None:
            deadline = execution.obj["spec"].get("deadline")
            self.situations["began"] += 1
            self.hold(deadline is None or self._now() < parse_rfc3339(deadline) + _SLACK, f"{name} began too late")

    def at_rest(self) -> bool:
        """Whether nothing is on its way any more."""
        return all(map(ended, self.requests.values())) and not any(True for _ in self._open())

    def _open(self) -> Iterator[Obj]:
        for table in TABLES_AT_REST:
            yield from (e.obj for e in self._store.scan(f"{table}.kubernaut.ai") if not ended(e.obj))

    def rest(self) -> None:
        """Judge the world at rest: every incident has an end, somebody was told of each failure, and the trail tells it all."""
        for name, request in self.requests.items():
            self._ended(name, request)
        for obj in self._open():
            self.hold(False, f"{obj['kind']} {obj['metadata']['name']} is left in {phase_of(obj)!r}")

    def _ended(self, name: str, request: Obj) -> None:
        status = request.get("status") or {}
        phase, path = phase_of(request), self.paths[name]
        self.hold(phase in TERMINAL, f"{name} is stuck in {phase!r} ({' → '.join(path)}): {status.get('message', '')}")
        if phase not in TERMINAL:
            return
        took = parse_rfc3339(status["completedAt"]) - parse_rfc3339(request["metadata"]["creationTimestamp"])
        paused = status.get("failurePhase") == "Blocked"
        self.hold(paused or took <= self._overall + _SLACK, f"{name} took {took}")
        self.situations[str(status.get("skipReason") or "not skipped")] += 1
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
            self.hold(
                moves[move] >= times, f"{name}: {move[0]!r} → {move[1]!r} happened {times} times, told {moves[move]}"
            )
        story = reconstruct(name, facts)
        self.hold(
            [span.phase for span in story.phases] == path, f"{name}: {[s.phase for s in story.phases]} told of {path}"
        )
        odd = [
            gap
            for gap in story.gaps
            if gap.kind not in {GapKind.SUPERSEDED, GapKind.STILL_OPEN}
            and gap.event_type.startswith("orchestrator.")
            and "approval" not in gap.event_type
        ]
        self.hold(not odd, f"{name}: {odd}")
        self.hold(
            story.ending is not None and story.ending.phase == phase, f"{name}: the trail ends with {story.ending}"
        )


Truth = Callable[[str, datetime], bool]
"""Whether a target (``namespace/kind/name``) was in order at some moment since."""
Child = tuple[str, str, str, str]
"""Kind, name, and the owner's UID and name."""


def _target(ref: Mapping[str, str]) -> str:
    return f"{ref['namespace']}/{ref['kind'].lower()}/{ref['name']}"


def _child_of(obj: Obj) -> Iterator[Child]:
    meta = obj["metadata"]
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            yield obj["kind"], meta["name"], owner["uid"], owner["name"]
