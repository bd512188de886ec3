"""Silence: signals that open nothing for a while, because somebody said so; after Alertmanager's silences.

Made by people, through the gateway's API, the CLI or kubectl; in force from ``startsAt`` until ``endsAt``, and with
``timeIntervals`` (Alertmanager's, for recurring maintenance windows) only inside them. It never becomes another silence:
its matchers stay, so that its count tells of one thing. The gateway writes the status.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from kubernaut_ray import matchers
from kubernaut_ray.crds.base import CustomResource, Meta, Model, PrinterColumn, ShortText, Text, Timestamp

_DAY = "(sunday|monday|tuesday|wednesday|thursday|friday|saturday)"
_DATE = "-?([1-9]|[12][0-9]|3[01])"
_MONTH = "(january|february|march|april|may|june|july|august|september|october|november|december|[1-9]|1[0-2])"
_CLOCK = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"

ClockTime = Annotated[str, Field(pattern=_CLOCK, max_length=5)]
WeekdayRange = Annotated[str, Field(pattern=f"^{_DAY}(:{_DAY})?$", max_length=24)]
DateRange = Annotated[str, Field(pattern=f"^{_DATE}(:{_DATE})?$", max_length=8)]
MonthRange = Annotated[str, Field(pattern=f"^{_MONTH}(:{_MONTH})?$", max_length=24)]
YearRange = Annotated[str, Field(pattern="^[1-9][0-9]{3}(:[1-9][0-9]{3})?$", max_length=9)]


_COMPILES: JsonDict = {
    "x-kubernetes-validations": [
        {
            "rule": "!self.isRegex || (''.matches(self.value) ? true : true)",
            "message": "value is no regular expression",
        }
    ]
}
_SAME_AND_NARROW: JsonDict = {
    "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "matchers are immutable; make another silence and expire this one"},
        {
            "rule": "self.exists(m, !m.isEqual || (m.isRegex ? !''.matches('^(?:' + m.value + ')$') : m.value != ''))",
            "message": "at least one matcher must not match the empty string",
        },
    ]
}
_ENDS: JsonDict = {
    "x-kubernetes-validations": [
        {"rule": "self.endsAt >= self.startsAt", "message": "endsAt must not be before startsAt"}
    ]
}


class SilenceMatcher(Model):
    """A condition on one label of a signal. A missing label counts as empty; an expression (RE2) matches the whole value."""

    model_config = ConfigDict(json_schema_extra=_COMPILES)

    name: Annotated[str, Field(min_length=1, max_length=256)]
    value: Annotated[str, Field(max_length=matchers.MAX_EXPRESSION)]
    is_regex: bool = False
    is_equal: bool = True

    @property
    def operator(self) -> matchers.Operator:
        if self.is_regex:
            return "=~" if self.is_equal else "!~"
        return "=" if self.is_equal else "!="

    def compiled(self) -> matchers.Matcher:
        """Raises ``InvalidInput`` on an expression that does not compile."""
        return matchers.Matcher.of(self.name, self.operator, self.value)

    @classmethod
    def of(cls, matcher: matchers.Matcher) -> SilenceMatcher:
        return cls(
            name=matcher.name,
            value=matcher.value,
            is_regex=matcher.operator in {"=~", "!~"},
            is_equal=matcher.operator in {"=", "=~"},
        )


class TimeRange(Model):
    """``startTime`` belongs to it, ``endTime`` (at most 24:00) does not; it stays within one day."""

    start_time: ClockTime
    end_time: ClockTime


class TimeInterval(Model):
    """Alertmanager's time_interval: an instant is inside when it is in one range of each list that is not empty.

    Ranges are ``first:last``, both included, and do not wrap around; days of the month may be counted from its end (-1).
    """

    times: Annotated[tuple[TimeRange, ...], Field(max_length=48)] = ()
    weekdays: Annotated[tuple[WeekdayRange, ...], Field(max_length=7)] = ()
    days_of_month: Annotated[tuple[DateRange, ...], Field(max_length=31)] = ()
    months: Annotated[tuple[MonthRange, ...], Field(max_length=12)] = ()
    years: Annotated[tuple[YearRange, ...], Field(max_length=16)] = ()
    location: Annotated[str, Field(max_length=64)] = ""
    """IANA time zone, for example ``Europe/Berlin``; UTC when empty."""


TimeIntervals = Annotated[tuple[TimeInterval, ...], Field(max_length=16)]


class SilenceSpec(Model):
    matchers: Annotated[
        tuple[SilenceMatcher, ...],
        Field(min_length=1, max_length=64, json_schema_extra=_SAME_AND_NARROW),
    ]
    """All must hold."""
    starts_at: Timestamp
    ends_at: Timestamp
    created_by: ShortText
    """Who says to have made it; the gateway's API puts the authenticated user into an annotation besides."""
    comment: Text
    """Why."""
    time_intervals: TimeIntervals = ()
    """Recurring windows: it is in force only inside one of them; always, from start to end, when there is none."""


class SilenceStatus(Model):
    summary: ShortText = ""
    """The matchers as text."""
    silenced_count: Annotated[int, Field(ge=0)] = 0
    """How many signals it silenced."""
    first_silenced_at: Timestamp | None = None
    last_silenced_at: Timestamp | None = None


class Silence(CustomResource):
    """Signals that match it open nothing while it is in force."""

    META: ClassVar[Meta] = Meta(
        plural="silences",
        singular="silence",
        short_names=("sil",),
        columns=(
            PrinterColumn("Matchers", ".status.summary"),
            PrinterColumn("Starts", ".spec.startsAt"),
            PrinterColumn("Ends", ".spec.endsAt"),
            PrinterColumn("By", ".spec.createdBy"),
            PrinterColumn("Silenced", ".status.silencedCount", "integer"),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
            PrinterColumn("Comment", ".spec.comment", priority=1),
        ),
    )

    spec: Annotated[SilenceSpec, Field(json_schema_extra=_ENDS)]
    status: SilenceStatus = SilenceStatus()
