"""The posterior against what is known of the Beta distribution, and the ladder as a table."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.contracts import trust
from kubernaut_ray.contracts.statistics import Trust
from kubernaut_ray.crds.enums import TrustLevel
from kubernaut_ray.settings import TrustSettings

SETTINGS = TrustSettings()
COUNTS = st.integers(0, 5000)


def binomial(alpha: int, beta: int, x: float) -> float:
    """P(Beta(alpha, beta) <= x) for whole parameters: the chance of at least alpha successes in alpha + beta - 1."""
    n = alpha + beta - 1
    return sum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(alpha, n + 1))


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.001, 0.999))
def test_the_distribution_is_the_binomial_s_tail(alpha: int, beta: int, x: float) -> None:
    """An identity that shares no code with the continued fraction."""
    assert trust.cumulative(alpha, beta, x) == pytest.approx(binomial(alpha, beta, x), abs=1e-9)


@given(COUNTS, COUNTS, st.floats(0.01, 0.99))
def test_a_quantile_is_the_inverse(successes: int, failures: int, p: float) -> None:
    """Between 0 and 1, and as much of the distribution lies below it as was asked for."""
    alpha, beta = trust.posterior(successes, failures)
    x = trust.quantile(alpha, beta, p)
    assert 0.0 <= x <= 1.0
    assert trust.cumulative(alpha, beta, x) == pytest.approx(p, abs=1e-6)


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_success_raises_and_a_failure_lowers(successes: int, failures: int) -> None:
    """The judged chance moves with every execution, in its direction."""
    lower = trust.quantile(*trust.posterior(successes, failures), SETTINGS.quantile)
    assert trust.quantile(*trust.posterior(successes + 1, failures), SETTINGS.quantile) > lower
    assert trust.quantile(*trust.posterior(successes, failures + 1), SETTINGS.quantile) < lower


@pytest.mark.parametrize(
    ("assessed", "effective", "streak", "expected"),
    [
        pytest.param(0, 0, 0, TrustLevel.APPROVE, id="nothing is known"),
        pytest.param(1, 0, 1, TrustLevel.APPROVE, id="one failure may be chance"),
        pytest.param(2, 0, 2, TrustLevel.SUGGEST, id="two in a row are not"),
        pytest.param(9, 9, 0, TrustLevel.APPROVE, id="good, and too short a record"),
        pytest.param(10, 10, 0, TrustLevel.AUTO, id="ten of ten"),
        pytest.param(10, 9, 0, TrustLevel.APPROVE, id="nine of ten"),
        pytest.param(40, 37, 0, TrustLevel.AUTO, id="37 of 40"),
        pytest.param(100, 98, 2, TrustLevel.SUGGEST, id="the best record is demoted by failures in a row"),
        pytest.param(101, 99, 0, TrustLevel.AUTO, id="and restored when it helps again"),
        pytest.param(6, 2, 1, TrustLevel.SUGGEST, id="a poor record"),
        pytest.param(6, 4, 0, TrustLevel.APPROVE, id="a middling one"),
    ],
)
def test_the_ladder(assessed: int, effective: int, streak: int, expected: TrustLevel) -> None:
    """Up by a long good record, down by failures in a row or a poor one."""
    assert expected is trust.level(assessed, effective, streak, SETTINGS)


def test_a_judged_record_says_what_it_was_judged_by() -> None:
    """Mean and lower quantile beside the level."""
    judged = trust.judged(Trust(environment="test", level=TrustLevel.UNKNOWN, assessed=10, effective=10), SETTINGS)
    assert (judged.level, judged.mean, judged.lower) == (TrustLevel.AUTO, 0.9167, 0.8111)
