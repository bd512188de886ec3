"""Tools answer whatever they are asked, within their limits, once, and without secrets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.contracts.catalog_tools import Arguments
from kubernaut_ray.errors import Retryable
from serve_apps.holmesgpt.toolbox import Tool, Toolbox, ToolCall


class Number(Arguments):
    n: int


class Counter:
    """Counts how often the tool really ran."""

    def __init__(self, result: Any = "fine", error: Exception | None = None, wait: float = 0) -> None:
        self.ran, self.result, self.error, self.wait = 0, result, error, wait

    async def __call__(self, _: Number) -> Any:
        self.ran += 1
        await asyncio.sleep(self.wait)
        if self.error is not None:
            raise self.error
        return self.result


def box(run: Counter, **limits: Any) -> tuple[Toolbox, list[ToolCall]]:
    seen: list[ToolCall] = []

    async def observe(call: ToolCall) -> None:
        seen.append(call)

    return Toolbox(
        (Tool("count", "Counts.", Number, run),), **{"max_calls": 5, "max_bytes": 1000, "observer": observe, **limits}
    ), seen


async def test_a_call_gives_value_and_text():
    """The value for readers in this process, the text for models."""
    tools, seen = box(Counter({"a": [1, 2]}))

    result = await tools.call("count", {"n": 1})

    assert result.value == {"a": [1, 2]}
    assert result.text == "a:\n- 1\n- 2\n"
    assert [(c.number, c.ok, c.repeated) for c in seen] == [(1, True, False)]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("cuont", {"n": 1}, "no tool 'cuont'. There are: count"),
        ("count", {"n": "x"}, "n: Input should be a valid integer"),
        ("count", {}, "n: Field required"),
        ("count", {"n": 1, "m": 2}, "m: Extra inputs"),
        ("count", None, "Field required"),
        ("count", ["n"], "Wrong arguments"),
    ],
)  # fmt: skip
async def test_wrong_calls_are_told(name, arguments, told):
    """Every wrong call has a result that says what would be right."""
    run = Counter()
    tools, seen = box(run)

    result = await tools.call(name, arguments)

    assert told in result.text
    assert not result.ok
    assert run.ran == 0
    assert len(seen) == 1


async def test_a_repeated_call_is_not_made_again():
    """The second time the same result with a warning, from the third on only the warning."""
    run = Counter()
    tools, _ = box(run)

    texts = [(await tools.call("count", {"n": 1})).text for _ in range(3)]

    assert run.ran == 1
    assert texts[0] == "fine"
    assert "before" in texts[1]
    assert "fine" in texts[1]
    assert "fine" not in texts[2]


async def test_calls_at_the_same_time_are_one_after_the_other():
    """Parallel identical calls run the tool once and are numbered apart."""
    run = Counter(wait=0.01)
    tools, seen = box(run)

    await asyncio.gather(*(tools.call("count", {"n": 1}) for _ in range(3)))

    assert run.ran == 1
    assert [c.number for c in seen] == [1, 2, 3]


async def test_the_budget_ends():
    """Beyond the budget nothing runs any more, and the model is told to answer."""
    run = Counter()
    tools, _ = box(run, max_calls=2)

    results = [await tools.call("count", {"n": n}) for n in range(4)]

    assert run.ran == 2
    assert "final answer now" in results[-1].text


async def test_faults_and_slowness_are_told():
    """A refusal of the cluster and a call without an end become text."""
    away, _ = box(Counter(error=Retryable("the cluster is away, token=hunter2")))
    slow, _ = box(Counter(wait=5), timeout=0.01)

    assert "the cluster is away" in (await away.call("count", {"n": 1})).text
    assert "hunter2" not in (await away.call("count", {"n": 2})).text
    assert "did not finish within" in (await slow.call("count", {"n": 1})).text


async def test_results_are_cut_and_redacted():
    """No result is longer than allowed, and none shows a secret."""
    tools, _ = box(Counter("password: hunter2\n" + "x" * 5000), max_bytes=200)

    text = (await tools.call("count", {"n": 1})).text

    assert "hunter2" not in text
    assert "cut:" in text
    assert len(text) < 400


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c), max_leaves=8
    )
)
def test_any_arguments_have_a_result(arguments):
    """Whatever a model sends, there is an answer."""
    tools, _ = box(Counter())

    assert asyncio.run(tools.call("count", arguments)).text
