"""Storms of Alertmanager-shaped webhooks: which alerts there are, and when which of them are sent. Pure, but for the dice.

Every alert carries the label ``zero_loss_id``, the identity of what it is about: equal in all its repetitions, and also the
name of the Deployment that it names. There need be no such Deployment.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks._load import Plan

NAMESPACE = "zero-loss"
ID_LABEL = "zero_loss_id"
INTRODUCED_BY = 0.8
"""By this part of a storm everything in it has been seen once."""
SECOND_SYMPTOM = 0.1
PAIR = 0.25
"""So many of the webhooks are sent by two senders at once, as a pair of Alertmanagers does."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a storm looks like."""

    seconds: float
    rate: float
    """Webhooks a second."""
    incidents: int
    """How many things there are to be told about; each alert is about one of them. 0: each alert about one of its own."""
    one_name: bool = False
    """All alerts have one name, as in a storm of one cause."""
    largest_group: int = 20
    started: str = "2026-01-01T00:00:00Z"
    """When the alerts began to fire, RFC 3339."""


@dataclass(frozen=True, slots=True)
class Storm:
    """``plans`` is one a sender; ``contents`` says for each body the ids of its alerts, in order."""

    plans: tuple[Plan, ...]
    contents: tuple[tuple[str, ...], ...]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(one for content in self.contents for one in content)


def storm(prefix: str, shape: Shape, dice: random.Random) -> Storm:
    """Draw a storm for two senders. Ids begin with ``prefix``; webhooks arrive as a Poisson process with 1 to 20 alerts."""
    moments = sorted(dice.uniform(0, shape.seconds) for _ in range(max(1, round(shape.rate * shape.seconds))))
    sizes = [dice.randint(1, shape.largest_group) for _ in moments]
    contents = list(_contents(prefix, shape, moments, sizes, dice))
    bodies = tuple(
        orjson.dumps(webhook([_alert(one, shape, dice) for one in content], group=f"{prefix}-{n}"))
        for n, content in enumerate(contents)
    )
    shots: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([], [])
    for body, at in enumerate(moments):
        first = dice.randrange(2)
        shots[first].append((at, body))
        if shape.incidents and dice.random() < PAIR:
            shots[1 - first].append((at, body))
    return Storm(tuple(Plan(bodies, tuple(part)) for part in shots), tuple(contents))


def _contents(
    prefix: str, shape: Shape, moments: Sequence[float], sizes: Sequence[int], dice: random.Random
) -> Sequence[tuple[str, ...]]:
    if not shape.incidents:
        counter = iter(range(sum(sizes)))
        return [tuple(f"{prefix}-{next(counter):05d}" for _ in range(size)) for size in sizes]
    until = INTRODUCED_BY * shape.seconds
    contents, known = [], 0
    for at, size in zip(moments, sizes, strict=True):
        due = min(shape.incidents, max(1, round(shape.incidents * at / until)))
        new = range(known, min(due, known + size))
        known += len(new)
        numbers = [*new, *dice.sample(range(new.start), min(size - len(new), new.start))]
        dice.shuffle(numbers)
        contents.append(tuple(f"{prefix}-{number:05d}" for number in numbers))
    return contents


def _alert(one: str, shape: Shape, dice: random.Random) -> dict[str, Any]:
    if shape.one_name:
        return alert(one, f"ZeroLoss{one.rpartition('-')[0]}", started=shape.started)
    second = "Latency" if shape.incidents and dice.random() < SECOND_SYMPTOM else ""
    return alert(one, f"ZeroLoss{one}{second}", started=shape.started)


def alert(one: str, name: str, *, started: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    """One alert of an Alertmanager webhook about the Deployment of this name."""
    return {
        "status": "firing",
        "labels": {
            "alertname": name, "namespace": namespace, "deployment": one, "severity": "warning", ID_LABEL: one,
        },
        "annotations": {"summary": f"{one} does not answer", "description": f"Half of what {one} is asked for fails."},
        "startsAt": started,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org/graph",
        "fingerprint": "0123456789abcdef",
    }  # fmt: skip


def webhook(alerts: Sequence[dict[str, Any]], group: str = "") -> dict[str, Any]:
    """An Alertmanager webhook, version 4."""
    return {
        "version": "4", "groupKey": f'{{}}:{{group="{group}"}}', "truncatedAlerts": 0, "status": "firing",
        "receiver": "zero-loss", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org", "alerts": list(alerts),
    }  # fmt: skip
