"""Who caused a RemediationRequest, and who called it off, when a person did: written on it as the API server knows them.

Four eyes need the first: whoever asked for a remediation is not the one who may approve it. The second is told to people and
to the audit trail.
"""

from __future__ import annotations

from typing import Any

from kubernaut_ray import names
from serve_apps.admission.review import Allowed, Request

_MACHINES = ("system:serviceaccount:", "system:node:", "system:kube-")
_STAMPED = (names.ANNOTATION_REQUESTED_BY, names.ANNOTATION_CANCELLED_BY)


def stamp(request: Request) -> Allowed:
    """Set the annotations on what a person creates or calls off; put them back on what anybody but a machine changes."""
    user = request.user_info.username
    if user.startswith(_MACHINES):
        return Allowed()
    old, new = _annotations(request.old_object), _annotations(request.object)
    wanted = {
        names.ANNOTATION_REQUESTED_BY: user
        if request.operation == "CREATE"
        else old.get(names.ANNOTATION_REQUESTED_BY, ""),
        names.ANNOTATION_CANCELLED_BY: _canceller(old, new, user),
    }
    if all(new.get(name, "") == who for name, who in wanted.items()):
        return Allowed()
    kept = {name: value for name, value in new.items() if name not in _STAMPED}
    stamped = {name: who for name, who in wanted.items() if who}
    return Allowed(({"op": "add", "path": "/metadata/annotations", "value": {**kept, **stamped}},))


def _canceller(old: dict[str, str], new: dict[str, str], user: str) -> str:
    reason = new.get(names.ANNOTATION_CANCEL)
    if reason is None:
        return ""
    return old.get(names.ANNOTATION_CANCELLED_BY, "") if reason == old.get(names.ANNOTATION_CANCEL) else user


def _annotations(obj: dict[str, Any] | None) -> dict[str, str]:
    metadata = (obj or {}).get("metadata") or {}
    return dict(metadata.get("annotations") or {})
