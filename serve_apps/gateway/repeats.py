"""The short way for what has been seen before: groups of which every alert repeats one that an open request has on record.

Such a group is most of a storm. It needs no parsing beyond the bytes of each alert's labels, by which the finding of an earlier
walk is recognised, and one look at the ledger; it is answered exactly as the long way would answer it. Whatever is not
that simple (something new, resolved, held, ended) makes ``take`` return ``None``, and the whole group goes the long way.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
import orjson

from kubernaut_ray.crds.enums import SignalOutcome
from kubernaut_ray.errors import KubernautError
from serve_apps.gateway.intake import Intake
from serve_apps.gateway.ledger import Requests
from serve_apps.gateway.located import Located
from serve_apps.gateway.metrics import RepeatedLabels
from serve_apps.gateway.occurrences import Address
from serve_apps.gateway.outcome import summary
from serve_apps.gateway.signal import Parsed, Signal
from serve_apps.gateway.verdict import Absent, Held, Known, Open, Verdict

FRESH_SECONDS = 60.0
"""What an alert is about changes with lost nodes and silences, which have their own say, and hardly ever otherwise."""
CAPACITY = 10_000
MAX_LABELS_BYTES = 8192
_FIRING = "firing"


class _Alert(msgspec.Struct, rename="camel"):
    labels: msgspec.Raw
    status: str = ""
    starts_at: str = ""


class _Group(msgspec.Struct, rename="camel"):
    alerts: list[_Alert]
    status: str = ""
    common_labels: dict[str, str] | None = None


_decode = msgspec.json.Decoder(_Group).decode

Answer = tuple[int, bytes]
"""HTTP status and JSON body."""


class Repeats:
    """Remembers label sets by their bytes, for payloads in the form of Alertmanager's webhook."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._judged: dict[str, tuple[Requests, Requests | None, Open]] = {}
        self._known: dict[bytes, tuple[Located, float, int, str]] = {}

    def learn(self, body: bytes, parsed: Sequence[Parsed], located: Mapping[int, Located], generation: int) -> None:
        """Remember what the long way found out about the alerts of this payload.

        ``generation`` is the locator's from before: what has changed since must not pass for known.
        """
        if not located:
            return
        try:
            alerts = _decode(body).alerts
        except msgspec.DecodeError:
            return
        until = time.monotonic() + FRESH_SECONDS
        for place, found in located.items():
            entry = parsed[place]
            raw = bytes(alerts[place].labels) if place < len(alerts) else b""
            if not isinstance(entry, Signal) or entry.resolved or not 0 < len(raw) <= MAX_LABELS_BYTES:
                continue
            if orjson.loads(raw) != entry.labels:
                continue  # Some of its labels are the group's, and another group's are others.
            if len(self._known) >= CAPACITY:
                self._known.clear()
            self._known[raw] = (found.bare(), until, generation, alerts[place].starts_at)

    def find(self, body: bytes) -> list[Located] | None:
        """Return what each alert of the payload is about, if all of them fire and were seen a short while ago."""
        if not self._known:
            return None
        try:
            group = _decode(body)
        except msgspec.DecodeError:
            return None
        if not group.alerts:
            return None
        common = (group.common_labels or {}).items()
        now, generation = time.monotonic(), self._intake.locator.generation
        found: list[Located] = []
        for alert in group.alerts:
            if (alert.status or group.status or _FIRING) != _FIRING:
                return None
            known = self._known.get(bytes(alert.labels))
            if (
                known is None
                or known[1] < now
                or known[2] != generation
                or known[3] != alert.starts_at  # On which it may depend whether a lost node is behind it.
                or not common <= known[0].signal.labels.items()
            ):
                return None
            found.append(known[0])
        return found

    async def take(self, body: bytes) -> Answer | None:
        """Count a group of repeats and return the answer; ``None`` when it has to go the long way, uncounted."""
        alerts = self.find(body)
        if alerts is None:
            return None
        groups: dict[str, list[Located]] = {}
        for located in alerts:
            group = groups.get(located.fingerprint)
            if group is None:
                groups[located.fingerprint] = [located]
            else:
                group.append(located)
        try:
            found = await self._intake.look(groups)
        except KubernautError:
            return None
        standing: dict[str, Open | Held] = {}
        for fingerprint, group in groups.items():
            verdict = self._verdict(group, found)
            if isinstance(verdict, Absent):
                return None
            if isinstance(verdict, Open):
                for one in group:
                    if one.recorded_by is not verdict.request:
                        if not one.on_record(verdict.request):
                            return None
                        one.recorded_by = verdict.request
            standing[fingerprint] = verdict
        for fingerprint, group in groups.items():
            self._count(group, standing[fingerprint].request)
        answer = _render(alerts, standing, self._intake.namespace)
        self._tell(alerts)
        return answer

    def _verdict(self, group: Sequence[Located], found: Mapping[str, Requests]) -> Verdict:
        """Judge; what was judged open by the very same readings is so again."""
        fingerprint = group[0].fingerprint
        home = self._intake.folding.home(fingerprint)
        basis = (found[fingerprint], None if home is None else found.get(home.fingerprint))
        judged = self._judged.get(fingerprint)
        if judged is not None and judged[0] is basis[0] and judged[1] is basis[1]:
            return judged[2]
        verdict = self._intake.verdict(group, found)
        if isinstance(verdict, Open):
            if len(self._judged) >= CAPACITY:
                self._judged.clear()
            self._judged[fingerprint] = (*basis, verdict)
        return verdict

    def _count(self, group: Sequence[Located], known: Known) -> None:
        now = self._intake.now()
        tally = self._intake.occurrences.tally(Address.of(known))
        tally.count(len(group), now, group[0].signal.source, duplicates=len(group))
        for located in group:
            if located.is_own(known.fingerprint):
                tally.symptom(located.symptom, now)

    def _tell(self, alerts: Sequence[Located]) -> None:
        """Count them in metrics and storms, once for each name."""
        metrics, now = self._intake.metrics, self._intake.now()
        by_name: dict[RepeatedLabels, list[str]] = {}
        for located in alerts:
            resources = by_name.get(located.answer_labels)
            if resources is None:
                by_name[located.answer_labels] = [located.resource]
            else:
                resources.append(located.resource)
        for labels, resources in by_name.items():
            metrics.repeated(labels, len(resources))
            if (storm := self._intake.storms.observe(labels[2], resources, now)) is not None:
                metrics.storm(storm)


def _render(alerts: Sequence[Located], standing: Mapping[str, Open | Held], namespace: str) -> Answer:
    answers = []
    for located in alerts:
        verdict = standing[located.fingerprint]
        stands = f"{verdict.request.uid}{verdict.why if isinstance(verdict, Held) else ''}"
        if located.answer_for != stands:
            outcome = located.repeated(verdict, namespace)
            signal = located.signal
            located.answer = orjson.dumps(outcome.to_json())
            located.answer_labels = (signal.type, signal.severity, signal.name, outcome.reason)
            located.answer_for = stands
        answers.append(located.answer)
    if len(answers) == 1:
        return 202, answers[0]
    return 207, b'{"results":[' + b",".join(answers) + b'],"summary":' + orjson.dumps(summary({SignalOutcome.DUPLICATE: len(answers)})) + b"}"
