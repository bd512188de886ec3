"""What an incident took with it, in brief: the members of a RemediationRequest by workload.

The members themselves stay in ``status.members`` of the RemediationRequest and may be thousands. This is what an
investigation, a notification and a terminal can show of them: complete counts, and the workloads that were hit most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from kubernaut_ray.crds.base import Model, Name, ShortText
from kubernaut_ray.crds.remediation_request import Member

MAX_WORKLOADS = 40
MAX_SIGNALS = 8


class AffectedWorkload(Model):
    """One workload; ``signals`` are the names seen on most of its resources, the most frequent first."""

    target: ShortText
    resources: Annotated[int, Field(ge=1)]
    over: Annotated[int, Field(ge=0)] = 0
    """Of how many of its resources the source has said that all is over."""
    signals: Annotated[tuple[Name, ...], Field(max_length=MAX_SIGNALS)] = ()


class Affected(Model):
    """Counts are of all members, ``workloads`` lists those with the most resources."""

    resources: Annotated[int, Field(ge=1)]
    workload_count: Annotated[int, Field(ge=1)]
    over: Annotated[int, Field(ge=0)] = 0
    workloads: Annotated[tuple[AffectedWorkload, ...], Field(max_length=MAX_WORKLOADS)] = ()

    def __str__(self) -> str:
        """``400 resources of 40 workloads``, with what is over already."""
        counted = f"{_many(self.resources, 'resource')} of {_many(self.workload_count, 'workload')}"
        return f"{counted} ({self.over} over)" if self.over else counted

    @property
    def unlisted(self) -> int:
        """How many workloads are counted and not listed."""
        return self.workload_count - len(self.workloads)


def affected(members: Iterable[Member]) -> Affected | None:
    """Sum up members; ``None`` without any."""
    groups = by_workload(members)
    if not groups:
        return None
    return Affected(
        resources=sum(workload.resources for workload, _ in groups),
        workload_count=len(groups),
        over=sum(workload.over for workload, _ in groups),
        workloads=tuple(workload for workload, _ in groups[:MAX_WORKLOADS]),
    )


def by_workload(members: Iterable[Member]) -> list[tuple[AffectedWorkload, tuple[Member, ...]]]:
    """Return every workload with its members, those with the most members first."""
    by_target: dict[str, list[Member]] = {}
    for member in members:
        by_target.setdefault(member.target, []).append(member)
    groups = sorted(by_target.items(), key=lambda group: (-len(group[1]), group[0]))
    return [(_workload(target, found), tuple(sorted(found, key=_by_resource))) for target, found in groups]


def _workload(target: str, members: list[Member]) -> AffectedWorkload:
    names = Counter(name for member in members for name in dict.fromkeys((*member.signals, *member.over)))
    ranked = sorted(names.items(), key=lambda counted: (-counted[1], counted[0]))
    return AffectedWorkload(
        target=target,
        resources=len(members),
        over=sum(map(_is_over, members)),
        signals=tuple(name for name, _ in ranked[:MAX_SIGNALS]),
    )


def _by_resource(member: Member) -> str:
    return member.resource


def _is_over(member: Member) -> bool:
    return bool(member.over) and not member.signals


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
