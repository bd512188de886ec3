"""What the controller sees: the AIAnalysis, its investigation at the HolmesGPT-API, and the policy's verdict.

Each is read only in the phase that judges by it. A HolmesGPT-API that does not answer is an observation too: deadlines must
pass even then.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.ai_analysis.approval import ApprovalVerdict
from kubernaut_ray.contracts.investigation import InvestigationSession
from kubernaut_ray.crds.ai_analysis import AIAnalysis


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The investigation is not looked at in this phase."""


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The HolmesGPT-API has no session of this id."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer now; ``after`` is in seconds when the service said so."""

    message: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The HolmesGPT-API refuses to tell, and asking again changes nothing."""

    message: str


Investigation = NotAsked | NotStarted | Unreachable | Refused | InvestigationSession


@dataclass(frozen=True, slots=True)
class Observed:
    analysis: AIAnalysis
    investigation: Investigation = NotAsked()
    verdict: ApprovalVerdict | None = None
    """Present in Analyzing with a selected workflow only."""
