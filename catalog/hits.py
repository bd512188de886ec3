"""A workflow that a search has scored: where it is in the index, and what its score is made of."""

from __future__ import annotations

from dataclasses import dataclass

from kubernaut_ray.contracts.catalog import ScoreBreakdown

PARTS = tuple(ScoreBreakdown.model_fields)


@dataclass(frozen=True, slots=True)
class Hit:
    """``parts`` of the score are in the order of ``PARTS``; ``position`` is the record's in the index."""

    score: float
    position: int
    parts: tuple[float, ...]

    @property
    def named_parts(self) -> dict[str, float]:
        return dict(zip(PARTS, self.parts, strict=True))

    @property
    def breakdown(self) -> ScoreBreakdown:
        return ScoreBreakdown(**self.named_parts)
