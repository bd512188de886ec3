"""Alertmanager's matchers."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.matchers import Matcher, parse, parse_all


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo=bar", [("foo", "=", "bar")]),
        ('foo="bar"', [("foo", "=", "bar")]),
        ("foo != bar", [("foo", "!=", "bar")]),
        ('foo=~"a|b"', [("foo", "=~", "a|b")]),
        ("foo !~ a.*", [("foo", "!~", "a.*")]),
        ("foo=", [("foo", "=", "")]),
        ('{foo="bar", baz!="x,y"}', [("foo", "=", "bar"), ("baz", "!=", "x,y")]),
        ('{foo="bar",}', [("foo", "=", "bar")]),
        ('"skip-reason" = "ResourceBusy"', [("skip-reason", "=", "ResourceBusy")]),
        ("skip-reason=ResourceBusy", [("skip-reason", "=", "ResourceBusy")]),
        ("kubernaut.ai/severity=critical", [("kubernaut.ai/severity", "=", "critical")]),
        (r'foo="a\"b\\c\n"', [("foo", "=", 'a"b\\c\n')]),
        ("{}", []),
        ("", []),
    ],
)
def test_spellings(text: str, expected: list[tuple[str, str, str]]) -> None:
    """Quoted, bare, braced, several in one, empty values."""
    assert expected == [(m.name, m.operator, m.value) for m in parse(text)]


@pytest.mark.parametrize("text", ["foo", "=bar", '{foo="bar"', 'foo="bar', 'foo="bar" baz', "foo=~(", 'foo=b"r"', "!!"])
def test_nonsense_is_refused(text: str) -> None:
    """What does not parse says where."""
    with pytest.raises(InvalidInput):
        parse(text)


@pytest.mark.parametrize(
    ("matcher", "labels", "expected"),
    [
        ("a=x", {"a": "x"}, True),
        ("a=x", {}, False),
        ("a=", {}, True),
        ("a!=x", {}, True),
        ("a!=", {}, False),
        ('a=~"x|y"', {"a": "y"}, True),
        ('a=~"x"', {"a": "xx"}, False),
        ('a=~"x.*"', {"a": "xx"}, True),
        ('a=~".*"', {}, True),
        ('a=~".+"', {}, False),
        ('a!~"x"', {"a": "xx"}, True),
        ('a!~"x.*"', {"a": "xx"}, False),
        ('a=~"(?i)CRITICAL"', {"a": "critical"}, True),
    ],
)
def test_matching(matcher: str, labels: dict[str, str], expected: bool) -> None:
    """A missing label is empty; expressions match the whole value."""
    assert expected == all(m.matches(labels) for m in parse(matcher))


def test_all_three_spellings_of_a_route_must_hold() -> None:
    """``match``, ``match_re`` and ``matchers`` together."""
    found = parse_all(["c!=z"], {"a": "1"}, {"b": "2|3"})
    assert [str(m) for m in found] == ['a="1"', 'b=~"2|3"', 'c!="z"']


@given(
    name=st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,10}", fullmatch=True),
    operator=st.sampled_from(["=", "!=", "=~", "!~"]),
    value=st.text(max_size=20).map(re.escape),
)
def test_what_is_rendered_is_read_back(name: str, operator: str, value: str) -> None:
    """Rendering and parsing are inverse, whatever the value holds."""
    matcher = Matcher.of(name, operator, value)  # type: ignore[arg-type]
    assert (matcher,) == parse(str(matcher))


@pytest.mark.parametrize(
    ("matcher", "narrows"),
    [("a=x", True), ("a=", False), ("a!=x", True), ("a!=", True), ("a=~x", True), ("a=~x*", False), ("a!~x*", True)],
)
def test_narrowing(matcher: str, narrows: bool) -> None:
    """As Alertmanager counts when it wants one matcher that does not match the empty string."""
    assert [narrows] == [m.narrows for m in parse(matcher)]


@pytest.mark.parametrize(
    "value", [r"(a)\1", "a(?=b)", "(?<!a)b", "(?>a)", "a{1,2000}", "((a{99}){99}){99}", "a" * 5000, "\ud800"]
)
def test_expressions_that_would_need_more_than_one_pass_are_refused(value: str) -> None:
    """Back references, looking around, atomic groups, sizes without measure."""
    with pytest.raises(InvalidInput):
        Matcher.of("a", "=~", value)


@pytest.mark.parametrize("value", ["(a+)+$", "(a|a)*b", ".*a.*a.*a.*a.*a.*x", "(.*)*y", "(x+x+)+y"])
def test_no_expression_holds_up_a_gateway(value: str) -> None:
    """What takes a backtracking engine years takes milliseconds."""
    matcher = Matcher.of("a", "=~", value)
    began = time.perf_counter()
    assert not matcher.matches({"a": "a" * 4000 + "!"})
    assert time.perf_counter() - began < 1


SIMPLE = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "é", r"\."]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
    ),
    max_leaves=5,
)


@given(value=SIMPLE, text=st.text("ab.é", max_size=6))
def test_expressions_mean_what_they_mean_elsewhere(value: str, text: str) -> None:
    """Python's own engine is the oracle, on expressions and texts that it can cope with; ``\\w`` is ASCII in RE2."""
    expected = re.compile(value.replace(r"\w", "[A-Za-z0-9_]")).fullmatch(text) is not None
    assert Matcher.of("a", "=~", value).matches({"a": text}) is expected


@given(text=st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """No other error, and no hang."""
    with contextlib.suppress(InvalidInput):
        parse(text)
