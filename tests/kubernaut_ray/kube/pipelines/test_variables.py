from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.pipelines.variables import names_in, result_references, substitute, text

KNOWN = {
    "params.A": "one",
    "params.with.dots": "dotted",
    "params.LIST": ["x", "y"],
    "params.OBJ": {"key": "value"},
    "tasks.t.results.r": "result",
    "context.pipelineRun.name": "run",
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("$(params.A)", "one", id="a param"),
        pytest.param("a-$(params.A)-b", "a-one-b", id="inside text"),
        pytest.param('$(params["A"])', "one", id="in brackets"),
        pytest.param("$(params['with.dots'])", "dotted", id="a name with dots"),
        pytest.param("$(params.LIST)", ["x", "y"], id="a whole array"),
        pytest.param("$(params.LIST[*])", ["x", "y"], id="a whole array by star"),
        pytest.param("$(params.LIST[1])", "y", id="one element"),
        pytest.param("$(params.LIST[9])", "$(params.LIST[9])", id="an element beyond the end stays"),
        pytest.param("$(params.OBJ.key)", "value", id="a field of an object"),
        pytest.param(["a", "$(params.LIST[*])", "b"], ["a", "x", "y", "b"], id="an array spliced into a list"),
        pytest.param({"k": ["$(tasks.t.results.r)"]}, {"k": ["result"]}, id="deep inside"),
        pytest.param("items: $(params.LIST[*])", 'items: ["x","y"]', id="an array inside text becomes JSON"),
        pytest.param("$(date) $(params.UNKNOWN)", "$(date) $(params.UNKNOWN)", id="unknown names stay"),
        pytest.param("$$(params.A)", "$one", id="a dollar before"),
        pytest.param(5, 5, id="a number"),
    ],
)
def test_substitution(value, expected):
    """Known names are replaced, everything else is left alone."""
    assert expected == substitute(value, KNOWN)


def test_text_is_always_text():
    """A script is a string, whatever its variables are."""
    assert text("$(params.LIST[*])", KNOWN) == '["x","y"]'


def test_references_are_found_anywhere():
    """Dependencies are read out of params and when expressions."""
    value = ["$(tasks.a.results.x)", {"k": '$(tasks.b.results["y"])'}, "$(tasks.c.results.z[0])", "$(params.A)"]
    assert list(result_references(value)) == [("a", "x"), ("b", "y"), ("c", "z")]
    assert "params.A" in list(names_in(value))


@given(st.text())
def test_without_variables_nothing_changes(value):
    """Substitution never invents or loses anything."""
    assert value == substitute(value, {})
    assert value == text(value, {})


@given(st.text(alphabet="$()params.AB[]*\"' "))
def test_any_text_is_survived(value):
    """Half a reference is text."""
    text(value, KNOWN)
