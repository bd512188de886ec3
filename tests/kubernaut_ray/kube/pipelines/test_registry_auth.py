"""Reading challenges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.pipelines.registry_auth import Challenge, challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param('Basic realm="a b"', [Challenge("basic", {"realm": "a b"})], id="basic"),
        pytest.param(
            'Bearer realm="https://r/token",service="s",scope="repository:a/b:pull,push"',
            [Challenge("bearer", {"realm": "https://r/token", "service": "s", "scope": "repository:a/b:pull,push"})],
            id="a comma inside quotes",
        ),
        pytest.param(
            'Negotiate, bearer realm=https://r/t , Basic realm="x"',
            [Challenge("bearer", {"realm": "https://r/t"}), Challenge("basic", {"realm": "x"})],
            id="several, one unknown, one unquoted, any case",
        ),
        pytest.param("", [], id="nothing"),
    ],
)
def test_challenges(header, expected):
    """Schemes with their parameters, in order."""
    assert expected == challenges(header)


@given(st.text(max_size=300))
def test_any_header_is_read(text):
    """Nothing a server sends fails the reading."""
    assert all(c.scheme in {"basic", "bearer"} for c in challenges(text))
