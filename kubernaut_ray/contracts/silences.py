"""What the gateway says over HTTP about silences: Alertmanager's API v2 (camelCase), so that its clients work.

Beyond Alertmanager there are ``timeIntervals``, the counts, and who was authenticated; its clients overlook them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kubernaut_ray.crds.base import Model, ShortText, Text, Timestamp
from kubernaut_ray.crds.enums import SilenceState
from kubernaut_ray.crds.silence import SilenceMatcher, TimeIntervals

PATH = "/api/v2"


class PostedSilence(Model):
    """A silence to make, or with ``id`` to change. ``timeIntervals`` left out keeps those that the silence has."""

    id: Annotated[str, Field(max_length=253)] = ""
    matchers: Annotated[tuple[SilenceMatcher, ...], Field(min_length=1, max_length=64)]
    starts_at: Timestamp
    ends_at: Timestamp
    created_by: ShortText
    comment: Text
    time_intervals: TimeIntervals | None = None


class State(Model):
    state: SilenceState


class SilenceView(Model):
    """A silence as it stands."""

    id: str
    status: State
    updated_at: Timestamp
    comment: str
    created_by: str
    ends_at: Timestamp
    matchers: tuple[SilenceMatcher, ...]
    starts_at: Timestamp
    time_intervals: TimeIntervals = ()
    silenced_count: int = 0
    first_silenced_at: Timestamp | None = None
    last_silenced_at: Timestamp | None = None
    authenticated_user: str = ""
    """Who made or changed it last through the API; empty for one made by kubectl."""
