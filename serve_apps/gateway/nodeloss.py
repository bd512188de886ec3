"""Is a lost node behind this? The judgement, pure: from the pods in question and their nodes to the one that explains them.

::

    a pod in question runs on a node that is not lost ────────────── nothing explained: it has a trouble of its own
      (one that is being deleted there has none)
    a pod waits to be placed since before the loss ───────────────── nothing explained
    the signal began to fire before any of the nodes was lost ────── nothing explained
    otherwise, of the lost nodes that fit in time ────────────────── the one with most of the pods, then the first by name

A pod that came after the loss and has no node yet is the replacement of a lost one; it speaks neither for nor against.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubernaut_ray import clock


@dataclass(frozen=True, slots=True)
class Place:
    """A pod in question, and where it runs; ``node`` is empty when it has not been placed."""

    node: str
    unready_since: datetime | None = None
    created: datetime | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """``since`` is when it was lost, ``None`` when nobody knows. ``exists`` is false when the object is gone."""

    name: str
    lost: bool
    since: datetime | None = None
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is looked at. ``pods`` are the named pod, or every pod of the named workload that is not ready.

    A node that nothing is known of is left out of ``nodes``. ``firing_time`` ``None`` fits any loss.
    """

    pods: tuple[Place, ...]
    nodes: tuple[NodeState, ...]
    firing_time: datetime | None
    window: timedelta


@dataclass(frozen=True, slots=True)
class Loss:
    """The lost node that explains a signal."""

    node: str
    since: datetime | None
    exists: bool

    def __str__(self) -> str:
        since = "" if self.since is None else f" since {clock.rfc3339(self.since)[:19]}Z"
        return f"node {self.node}, which {'is not ready' if self.exists else 'is gone'}{since}"


def explain(snapshot: Snapshot) -> Loss | None:
    """Return the lost node that the signal is about, or ``None``."""
    states = {state.name: state for state in snapshot.nodes if state.lost}
    on: defaultdict[str, list[Place]] = defaultdict(list)
    for pod in snapshot.pods:
        if pod.node in states:
            on[pod.node].append(pod)
        elif pod.node and not pod.leaving:
            return None
    losses = [Loss(name, states[name].since or _latest(pods), states[name].exists) for name, pods in on.items()]
    fitting = [loss for loss in losses if _not_before(snapshot.firing_time, loss, snapshot.window)]
    if not fitting:
        return None
    chosen = min(fitting, key=lambda loss: (-len(on[loss.node]), loss.node))
    waiting = (pod for pod in snapshot.pods if not pod.node and not pod.leaving)
    return chosen if all(_not_before(pod.created, chosen, snapshot.window) for pod in waiting) else None


def _not_before(instant: datetime | None, loss: Loss, window: timedelta) -> bool:
    return instant is None or loss.since is None or instant >= loss.since - window


def _latest(pods: Iterable[Place]) -> datetime | None:
    """Tell when the pods of a node stopped being ready: the best that is left to date the loss of a node that is gone."""
    return max((pod.unready_since for pod in pods if pod.unready_since is not None), default=None)
