"""The seam between the investigation loop and whoever does the thinking.

A model gets a ``Case`` and answers in text: prose and one JSON object (``parse.py`` reads it). Refused answers are said back
as ``Feedback`` within the same conversation. A model uses tools only through the case's toolbox, which keeps the limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kubernaut_ray.contracts.investigation import IncidentRequest
from kubernaut_ray.errors import Permanent
from serve_apps.holmesgpt.prompt import Prompt
from serve_apps.holmesgpt.toolbox import Toolbox
from serve_apps.holmesgpt.toolsets import CatalogTools


class NoAnswer(Permanent):
    """The model ended without an answer: it used up its budget, or it cannot go on. Asking again changes nothing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="InvestigationInconclusive")


@dataclass(frozen=True, slots=True)
class Case:
    """One investigation: the facts, how a language model is told them, and the tools."""

    request: IncidentRequest
    prompt: Prompt
    toolbox: Toolbox
    catalog: CatalogTools


@dataclass(frozen=True, slots=True)
class Feedback:
    """Why the last answer was refused. ``workflow_id`` is what it had selected, if anything."""

    text: str
    problems: tuple[str, ...]
    workflow_id: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. Token counts are zero where nothing was paid for."""

    text: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Conversation(Protocol):
    async def say(self, feedback: Feedback | None) -> Completion:
        """Answer (first call: ``None``), or answer again. Raises ``Retryable``, ``Permanent`` or ``NoAnswer``."""
        ...


class InvestigationModel(Protocol):
    """``name`` is what answers are signed with; ``is_llm`` tells whether a language model is paid and audited."""

    name: str
    is_llm: bool

    def converse(self, case: Case) -> Conversation: ...

    async def close(self) -> None: ...
