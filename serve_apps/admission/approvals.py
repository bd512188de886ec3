"""What happens to a write on the status of a RemediationApprovalRequest: stamped with who wrote it, then judged.

``stamp`` is the mutating half: it puts the authenticated user, the time and a signature on a decision, and counts it where
several are needed. ``judge`` is the validating half: it lets through only what ``stamp`` made, in time, from somebody who may,
and nothing that belongs to the controllers. The platform's own account writes everything but decisions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import ValidationError

from kubernaut_ray import clock
from kubernaut_ray.contracts import grants
from kubernaut_ray.crds.approval import DecisionRecord, WorkflowOverride
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest as Approval
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequestStatus as Status
from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.signing import SigningKey
from serve_apps.admission.overrides import Catalog, Found, Unusable, resolve
from serve_apps.admission.review import Allowed, Caller, Denied, Request, Verdict

VIA = "kubernaut.ai/decided-via"
"""Extra field of a user: through what a person decided. Only a service that may impersonate can set it."""
_TOLD_VIA = frozenset({"cli", "console", "kubectl"})
"""What a client may say of itself; it is no proof of anything, and the person is established either way."""
PEOPLES = frozenset(
    {
        "decision",
        "decided_by",
        "decided_at",
        "decided_via",
        "decision_message",
        "workflow_override",
        "approvals",
        "rejection",
    }
)
"""What a decision changes. Everything else in the status belongs to controllers."""
_DECISIONS = (ApprovalDecision.APPROVED, ApprovalDecision.REJECTED)


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that is asked about a decision. ``may`` tells whether a user may decide approvals at all."""

    key: SigningKey
    catalog: Catalog
    may: Callable[[UserInfo], Awaitable[bool]]
    platform: str
    """User name of the platform's own account."""
    now: clock.Clock


@dataclass(frozen=True, slots=True)
class _Write:
    old: Approval
    new: Approval
    caller: Caller

    @property
    def user(self) -> str:
        return self.caller.username

    @property
    def decides(self) -> bool:
        """Is this a first decision?"""
        before = self.old.status
        return self.new.status.decision in _DECISIONS and not before.decision and not before.sealed_decision


def _read(request: Request) -> _Write | Denied:
    try:
        old = Approval.from_object(request.old_object or {})
        new = Approval.from_object(request.object or {})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return Denied(f"{where}: {first['msg']}", reason="Invalid", code=422)
    return _Write(old, new, request.user_info)


async def stamp(request: Request, desk: Desk) -> Verdict:
    """Put on a decision who made it. Everything else passes as it is: ``judge`` comes after us."""
    write = _read(request)
    if isinstance(write, Denied):
        return write
    if write.user == desk.platform or not write.decides:
        return Allowed()
    old, new = write.old, write.new
    now, status = desk.now(), new.status
    override = await _resolved(desk, new, status.workflow_override or old.status.workflow_override)
    status = status.replace(workflow_override=override)
    via = request.user_info.said(VIA) or (status.decided_via if status.decided_via in _TOLD_VIA else "kubectl")
    record = grants.sign_record(
        desk.key,
        new.uid,
        DecisionRecord(
            decision=status.decision,
            by=write.user,
            at=now,
            via=via[:64],
            message=status.decision_message,
            subject=grants.subject(grants.decided_workflow(new, status)),
        ),
    )
    stamped = status.replace(decided_by=write.user, decided_at=now, decided_via=record.via, rejection=None)
    if record.decision is ApprovalDecision.REJECTED:
        stamped = stamped.replace(rejection=record, approvals=old.status.approvals)
        return _patched(request, stamped)
    given = (*old.status.approvals, record)
    stamped = stamped.replace(approvals=given)
    have, needed = len({r.by for r in given}), new.spec.required_approvals
    if have >= needed:
        return _patched(request, stamped)
    # Not enough yet: the approval is on record, and the question stays open for the next person.
    waiting = stamped.replace(
        decision=ApprovalDecision.NONE, decided_by="", decided_at=None, decided_via="", decision_message=""
    )
    return _patched(request, waiting, f"{have} of {needed} approvals: the decision waits for {needed - have} more")


async def judge(request: Request, desk: Desk) -> Verdict:
    """Let a write through, or say why not."""
    write = _read(request)
    if isinstance(write, Denied):
        return write
    old, new = write.old.status, write.new.status
    changed = {name for name in Status.model_fields if getattr(old, name) != getattr(new, name)}
    if not changed:
        return Allowed()
    if write.user == desk.platform:
        return _platform(write)
    if old.sealed_decision or old.decision:
        taken = old.sealed_decision or old.decision
        return Denied(
            f"already decided: {taken} by {old.decided_by or 'unknown'}; a decision is final",
            reason="Conflict",
            code=409,
        )
    if new.decision is ApprovalDecision.EXPIRED:
        return Denied("only the deadline lets a request expire; write Approved or Rejected")
    if foreign := sorted(Status.model_fields[f].alias or f for f in changed - PEOPLES):
        return Denied(f"status.{', status.'.join(foreign)}: written by the platform only")
    return await _decision(write, desk)


def _platform(write: _Write) -> Verdict:
    """The platform seals, expires and counts; it never decides."""
    if write.decides:
        return Denied("the platform decides nothing; a decision is written in the name of the person who made it")
    return Allowed()


async def _decision(write: _Write, desk: Desk) -> Verdict:
    old, new, request = write.old.status, write.new.status, write.new
    record = _record(old, new)
    if record is None or record.by != write.user or not grants.record_holds(desk.key, request.uid, record):
        return Denied(
            "write status.decision (Approved or Rejected); who decided, when and how often is stamped, never given"
        )
    if desk.now() >= request.spec.required_by:
        return Denied(
            f"too late: the decision was needed by {clock.rfc3339(request.spec.required_by)}", reason="Expired"
        )
    if not await desk.may(write.caller.user):
        return Denied(f"{write.user} may not decide approvals: that takes update on approvals in kubernaut.ai")
    if record.decision is ApprovalDecision.REJECTED:
        return Allowed()
    if request.spec.four_eyes and request.spec.requested_by == write.user:
        return Denied(f"{write.user} caused this remediation, and somebody else must approve it (four eyes)")
    if any(earlier.by == write.user for earlier in old.approvals):
        return Denied(f"{write.user} approved already; {request.spec.required_approvals} different people must")
    if any(earlier.subject != record.subject for earlier in old.approvals):
        return Denied("the others approved something else to run: approve the same workflow and parameters, or reject")
    return await _override(desk, request, new.workflow_override)


async def _override(desk: Desk, request: Approval, override: WorkflowOverride | None) -> Verdict:
    """Is what would run in place of the recommended workflow still what the catalog has?"""
    if override is None:
        return Allowed()
    match await resolve(desk.catalog, request, override):
        case Unusable(why):
            return Denied(why, reason="Invalid", code=422)
        case Found(workflow) if workflow != override.resolved:
            return Denied(
                "workflowOverride.resolved is filled in from the catalog, never given", reason="Invalid", code=422
            )
        case Found():
            return Allowed()


async def _resolved(desk: Desk, request: Approval, override: WorkflowOverride | None) -> WorkflowOverride | None:
    """Fill in the catalog's workflow; nothing where it has none, which ``judge`` says in words."""
    if override is None:
        return None
    found = await resolve(desk.catalog, request, override)
    return override.replace(resolved=found.workflow if isinstance(found, Found) else None)


def _record(old: Status, new: Status) -> DecisionRecord | None:
    """Return the one record that this write adds, if that is all it adds."""
    if new.rejection is not None and old.rejection is None and new.approvals == old.approvals:
        return new.rejection if new.decision is ApprovalDecision.REJECTED else None
    if new.rejection is None and len(new.approvals) == len(old.approvals) + 1 and new.approvals[:-1] == old.approvals:
        return new.approvals[-1] if new.approvals[-1].decision is ApprovalDecision.APPROVED else None
    return None


def _patched(request: Request, status: Status, *warnings: str) -> Allowed:
    told = (request.object or {}).get("status")
    wanted = status.to_object()
    patch = () if told == wanted else ({"op": "add", "path": "/status", "value": wanted},)
    return Allowed(patch, warnings)
