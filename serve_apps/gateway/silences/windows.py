"""Recurring maintenance windows: whether an instant lies in a time interval, by Alertmanager's rules (``timeinterval``).

All in the wall-clock time of the interval's location, to the minute: an hour that summer time skips is in no window, one that
it repeats is in the window twice. Nothing wraps around: a window over midnight is two ranges, Saturday to Sunday is two
weekdays (a week begins on Sunday). Days of the month are cut to the month's length, and counted from its end when negative.
"""

from __future__ import annotations

import calendar
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from kubernaut_ray.crds.silence import TimeInterval, TimeRange
from kubernaut_ray.errors import InvalidInput

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_LONGEST_MONTH = 31

Span = tuple[int, int]
"""First and last, both included."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time interval ready to be asked. Empty lists restrict nothing. ``minutes`` end before their last."""

    minutes: tuple[Span, ...]
    weekdays: tuple[Span, ...]
    dates: tuple[Span, ...]
    months: tuple[Span, ...]
    years: tuple[Span, ...]
    zone: tzinfo

    def contains(self, instant: datetime) -> bool:
        local = instant.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        return (
            (not self.minutes or any(first <= minute < end for first, end in self.minutes))
            and _within(self.dates and tuple(_clamped(span, local) for span in self.dates), local.day)
            and _within(self.months, local.month)
            and _within(self.weekdays, local.isoweekday() % 7)
            and _within(self.years, local.year)
        )


def window(interval: TimeInterval, path: str = "timeInterval") -> Window:
    """Read an interval. Raises ``InvalidInput`` with every range that can never be, under ``path``."""
    problems: list[tuple[str, str]] = []
    zone: tzinfo = UTC
    if interval.location:
        try:
            zone = zoneinfo.ZoneInfo(interval.location)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            problems.append((f"{path}.location", f"{interval.location!r} is no IANA time zone, such as Europe/Berlin"))
    made = Window(
        minutes=tuple(_minutes(times, f"{path}.times[{i}]", problems) for i, times in enumerate(interval.times)),
        weekdays=_spans(interval.weekdays, WEEKDAYS, 0, f"{path}.weekdays", problems),
        dates=tuple(
            _dates(text, f"{path}.daysOfMonth[{i}]", problems) for i, text in enumerate(interval.days_of_month)
        ),
        months=_spans(interval.months, MONTHS, 1, f"{path}.months", problems),
        years=_spans(interval.years, (), 0, f"{path}.years", problems),
        zone=zone,
    )
    if problems:
        told = "; ".join(f"{where}: {what}" for where, what in problems)
        raise InvalidInput(f"not a time interval: {told}", problems=tuple(problems))
    return made


def next_minute(now: datetime) -> datetime:
    """Return when a window can open or close next."""
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _within(spans: Sequence[Span], value: int) -> bool:
    return not spans or any(first <= value <= last for first, last in spans)


def _clamped(span: Span, local: datetime) -> Span:
    """Return days of this month; a first day beyond the month's end gives a span that no day is in."""
    length = calendar.monthrange(local.year, local.month)[1]
    first, last = (day if day > 0 else length + day + 1 for day in span)
    return (first, first - 1) if first > length else (max(first, -length), min(last, length))


def _minutes(times: TimeRange, path: str, problems: list[tuple[str, str]]) -> Span:
    first, end = (int(text[:2]) * 60 + int(text[3:]) for text in (times.start_time, times.end_time))
    if first >= end:
        problems.append(
            (path, "endTime must be after startTime; write a window over midnight as two, until 24:00 and from 00:00")
        )
    return first, end


def _spans(
    texts: Sequence[str], words: tuple[str, ...], base: int, path: str, problems: list[tuple[str, str]]
) -> tuple[Span, ...]:
    spans = []
    for i, text in enumerate(texts):
        first, last = (words.index(part) + base if part in words else int(part) for part in _ends(text))
        if first > last:
            problems.append((f"{path}[{i}]", f"{text} ends before it begins; ranges do not wrap around, write two"))
        spans.append((first, last))
    return tuple(spans)


def _dates(text: str, path: str, problems: list[tuple[str, str]]) -> Span:
    first, last = (int(part) for part in _ends(text))
    if first < 0 < last:
        problems.append((path, f"{text}: a range that begins from the end of the month must end from its end too"))
    else:
        latest = [day if day > 0 else _LONGEST_MONTH + day + 1 for day in (first, last)]
        if latest[0] > latest[1]:
            problems.append((path, f"{text} ends before it begins"))
    return first, last


def _ends(text: str) -> tuple[str, str]:
    first, _, last = text.partition(":")
    return first, last or first
