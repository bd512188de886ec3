"""An incident's account on a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from catalog.account.story import reconstruct
from kubernaut_ray.cli import story
from tests.catalog.account import told as stories
from tests.catalog.account.told import STORIES, Told


def shown(told: Told, *, every: bool = False, width: int = 160) -> str:
    console = Console(width=width, record=True, color_system=None)
    console.print(story.account(reconstruct("rr-1", told.events), every=every))
    return console.export_text()


def test_an_approved_fix_reads_from_top_to_bottom() -> None:
    """How it stands, what happened when and by whom, why, and that nothing is missing."""
    text = shown(stories.approved())
    for words in (
        "rr-1  Completed  Remediated  after",
        "Classified: critical · production · P0 · policy ffffffffffff",
        "+0.0s   12:00:00",
        "Chosen: increase-memory 1.0.0 (confidence 0.90). Cause: The memory limit is too low",
        "ann via console",
        "Approved by ann via console after 43.0s: go",
        "MEMORY_LIMIT=512Mi",
        "completed in 9.0s, PipelineRun wfe-1",
        "wf-restart · treats the symptom",
        "Told by ops/log (completion)",
        "The trail is complete",
        "more facts with --all",
    ):
        assert words in text, f"{words!r} is not in:\n{text}"
    assert "signal-processing went on" not in text


def test_all_shows_every_fact() -> None:
    """Nothing is hidden, and nothing says that it is."""
    told = stories.recovered()
    text = shown(told, every=True)
    assert "more facts with --all" not in text
    assert "Used get_pod" in text
    assert "openai:x answered (1200 tokens in, 80 out)" in text
    assert "Recovery attempt 1" in text
    assert "step apply exited with 1" in text


def test_what_is_not_known_is_said() -> None:
    """A gap is named with what is missing; an open incident is called open."""
    text = shown(stories.approved().without("workflow.started"))
    assert "What the trail does not tell" in text
    assert "missing: it was executing" in text or "workflow.started" in text
    text = shown(Told().opened().processed().analysed(approval=True).asked())
    assert "still open" in text
    assert "asked for, no decision on record" in text


@pytest.mark.parametrize("name", STORIES)
def test_every_story_can_be_drawn(name: str) -> None:
    """Also on a narrow terminal, and with every page torn out in turn."""
    told = STORIES[name]()
    assert "rr-1" in shown(told, width=60)
    events = told.events
    for index in range(len(events)):
        told.events = events[:index] + events[index + 1 :]
        assert "rr-1" in shown(told, every=True)
