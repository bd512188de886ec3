"""The formulas of an assessment: what each component's facts are worth, and what they come to together. Pure and total.

A component that nobody can judge has no score, and takes no part in the sum; it is never counted as good, nor as bad.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubernaut_ray.crds.effectiveness_assessment import Component, Components
from kubernaut_ray.crds.enums import AssessmentReason

HEALTH, ALERT, METRICS = 0.40, 0.35, 0.25
"""Weights of the components."""


@dataclass(frozen=True, slots=True)
class Pods:
    """What a workload's own state says, as far as it concerns the time since the execution ended."""

    desired: int
    ready: int
    restarted: tuple[str, ...] = ()
    """Pods with a container that ended since."""
    oom_killed: tuple[str, ...] = ()
    crash_looping: tuple[str, ...] = ()
    settled: bool = True
    """Whether the workload's controller has taken note of the present spec and rolled it out."""

    @property
    def coming_up(self) -> bool:
        """Not well yet, with nothing that speaks against it becoming so."""
        broken = self.crash_looping or self.oom_killed
        return self.desired > 0 and not broken and (self.ready < self.desired or not self.settled)


def health(pods: Pods) -> Component:
    """All ready 1.0; ready with restarts .75; some ready .5; killed for want of memory .25; crash loop, none or no replica 0."""
    count = f"{pods.ready} of {pods.desired} replicas are ready"
    if pods.desired == 0:
        return Component(score=0.0, details="it has no replicas")
    if pods.crash_looping:
        return Component(score=0.0, details=f"{count}; in a crash loop: {_some(pods.crash_looping)}")
    if pods.ready <= 0:
        return Component(score=0.0, details=count)
    if pods.oom_killed:
        return Component(score=0.25, details=f"{count}; OOMKilled since the execution: {_some(pods.oom_killed)}")
    if pods.ready < pods.desired:
        return Component(score=0.5, details=count)
    if not pods.settled:
        return Component(score=0.5, details=f"{count}, and the present spec is not rolled out")
    if pods.restarted:
        return Component(score=0.75, details=f"{count}; restarted since the execution: {_some(pods.restarted)}")
    return Component(score=1.0, details=count)


@dataclass(frozen=True, slots=True)
class Measured:
    """The means of one query before and after the execution; ``None`` where there were no samples."""

    name: str
    before: float | None
    after: float | None
    higher_is_better: bool = False


def improvement(one: Measured) -> float | None:
    """Return by what share of the value before it got better, 0 to 1; ``None`` where that says nothing.

    A value that was 0 and still is says nothing about an incident; one that left 0 for the worse is no improvement.
    """
    if one.before is None or one.after is None:
        return None
    better = one.after - one.before if one.higher_is_better else one.before - one.after
    if one.before == 0:
        return None if better == 0 else float(better > 0)
    return min(1.0, max(0.0, better / abs(one.before)))


def metrics(measured: Iterable[Measured]) -> Component:
    """The mean improvement over what could be measured."""
    pairs = [(one, improvement(one)) for one in measured]
    known = [share for _, share in pairs if share is not None]
    told = "; ".join(_words(one, share) for one, share in pairs)
    return Component(score=sum(known) / len(known) if known else None, details=told or "no query gave samples")


def overall(components: Components, reason: AssessmentReason | None = None) -> float | None:
    """Return ``Σ score·w / Σ w`` over what was scored, ``None`` where nothing was. After a drift it is 0."""
    if reason is AssessmentReason.SPEC_DRIFT:
        return 0.0
    parts = ((components.health, HEALTH), (components.alert, ALERT), (components.metrics, METRICS))
    scored = [(part.score, weight) for part, weight in parts if part.score is not None]
    if not scored:
        return None
    total = sum(score * weight for score, weight in scored) / sum(weight for _, weight in scored)
    return round(min(1.0, max(0.0, total)), 4)


def effective(score: float | None, components: Components, threshold: float) -> bool | None:
    """Did it help? A target that is down was not helped, whatever else is fine; of nothing scored nothing can be said."""
    if score is None:
        return None
    return score >= threshold and components.health.score != 0.0


def _words(one: Measured, share: float | None) -> str:
    if one.before is None or one.after is None:
        return f"{one.name}: no samples {'before' if one.before is None else 'after'} the execution"
    came_to = "says nothing" if share is None else f"improved by {share:.0%}"
    return f"{one.name}: {one.before:g} before, {one.after:g} after, {came_to}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
