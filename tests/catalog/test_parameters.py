from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.parameters import validate_parameters
from kubernaut_ray.contracts.catalog import WorkflowParameter
from kubernaut_ray.crds.enums import ParameterType as T


def p(name="A", **fields):
    return WorkflowParameter(name=name, **fields)


@pytest.mark.parametrize(
    ("parameter", "value", "says"),
    [
        pytest.param(p(type=T.INTEGER), "5", "", id="an integer"),
        pytest.param(p(type=T.INTEGER), "-5", "", id="a negative integer"),
        pytest.param(p(type=T.INTEGER), "5.0", "whole number", id="a fraction is no integer"),
        pytest.param(p(type=T.INTEGER), "٣", "", id="digits of other scripts are digits"),
        pytest.param(p(type=T.INTEGER), "9" * 30, "whole number", id="an absurd integer"),
        pytest.param(p(type=T.INTEGER, minimum=1), "0", "at least 1", id="below the minimum"),
        pytest.param(p(type=T.INTEGER, maximum=9), "10", "at most 9", id="above the maximum"),
        pytest.param(p(type=T.BOOLEAN), "true", "", id="true"),
        pytest.param(p(type=T.BOOLEAN), "True", "true or false", id="Python's True is not JSON's"),
        pytest.param(p(type=T.ARRAY), '["a"]', "", id="an array"),
        pytest.param(p(type=T.ARRAY), "a,b", "JSON list", id="commas are no array"),
        pytest.param(p(type=T.ARRAY), "[1]", "JSON list of strings", id="an array of numbers"),
        pytest.param(p(type=T.ARRAY, max_length=1), '["a","b"]', "at most 1 items", id="too many items"),
        pytest.param(p(type=T.ARRAY, enum=("a",)), '["b"]', "among a", id="an item outside the enumeration"),
        pytest.param(p(enum=("x", "y")), "z", "one of x, y", id="outside the enumeration"),
        pytest.param(p(pattern="[0-9]+Mi"), "12Mi; rm", "as a whole", id="patterns match the whole value"),
        pytest.param(p(min_length=2), "x", "at least 2 characters", id="too short"),
        pytest.param(p(max_length=2), "xyz", "at most 2 characters", id="too long"),
        pytest.param(p(), "x" * 5000, "4096", id="beyond what a parameter may hold"),
        pytest.param(p(), "a\x00b", "NUL", id="a NUL character"),
        pytest.param(p(required=True), "", "required", id="required and empty"),
        pytest.param(p(), "", "", id="optional and empty"),
    ],
)
def test_one_value(parameter, value, says):
    """Every error says what would be right."""
    errors = validate_parameters([parameter], {"A": value})
    if says:
        assert len(errors) == 1
        assert says in errors[0]
        assert errors[0].startswith("A: ")
    else:
        assert errors == ()


def test_all_errors_come_together():
    """Unknown, missing, wrong and dependent parameters are told in one go."""
    parameters = [
        p("NEEDED", required=True),
        p("COUNT", type=T.INTEGER),
        p("CHILD", depends_on=("PARENT",)),
        p("PARENT"),
        p("DEFAULTED", required=True, default="x"),
    ]
    errors = validate_parameters(parameters, {"COUNT": "x", "CHILD": "y", "OTHER": "z"})
    assert [e.split(":")[0] for e in errors] == ["OTHER", "NEEDED", "COUNT", "CHILD"]


@given(st.lists(st.text(max_size=10), max_size=5))
def test_any_list_of_strings_is_an_array(items):
    """What JSON writes, the check reads."""
    assert validate_parameters([p(type=T.ARRAY)], {"A": json.dumps(items)}) == () or "\x00" in "".join(items)


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.text(max_size=20)))
def test_any_values_get_an_answer(values):
    """The check never fails itself."""
    parameters = [p("A", type=T.ARRAY, pattern="a+"), p("B", type=T.INTEGER, minimum=1), p("C", type=T.BOOLEAN)]
    assert all(isinstance(e, str) for e in validate_parameters(parameters, values))
