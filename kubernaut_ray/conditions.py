"""Kubernetes conditions as values: a transition time moves only when the meaning moves.

Follows the conventions of ``metav1.Condition`` (Kubernetes API conventions, "Typical status properties").
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from kubernaut_ray import clock


class Condition(BaseModel):
    """``metav1.Condition``."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    type: str = Field(max_length=316)
    status: str = Field(pattern="^(True|False|Unknown)$", max_length=7)
    reason: str = Field(max_length=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    message: str = Field(default="", max_length=32768)
    last_transition_time: Annotated[
        AwareDatetime,
        AfterValidator(lambda t: t.astimezone(UTC)),
        PlainSerializer(clock.rfc3339, return_type=str, when_used="json"),
    ]
    observed_generation: int | None = None


def find(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """Return the condition of this type, or ``None``."""
    return next((c for c in conditions if c.type == type_), None)


def is_true(conditions: Sequence[Condition], type_: str) -> bool:
    found = find(conditions, type_)
    return found is not None and found.status == "True"


def with_condition(
    conditions: Sequence[Condition],
    type_: str,
    *,
    status: bool | None,
    reason: str,
    message: str = "",
    now: datetime,
    generation: int | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions with one set. ``status`` ``None`` is Unknown; order is kept, new ones go last."""
    text = {True: "True", False: "False", None: "Unknown"}[status]
    old = find(conditions, type_)
    moved = now if old is None or old.status != text else old.last_transition_time
    new = Condition(
        type=type_,
        status=text,
        reason=reason,
        message=message,
        last_transition_time=moved,
        observed_generation=generation,
    )
    if old is None:
        return (*conditions, new)
    return tuple(new if c.type == type_ else c for c in conditions)
