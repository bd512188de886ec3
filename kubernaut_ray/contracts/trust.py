"""How far a workflow is trusted in an environment: from how often it helped to a level of the ladder. Pure.

Every workflow begins with the flat prior Beta(1, 1); an execution that helped adds to its first parameter, one that did not to
the second. Judged is the lower quantile of that, so that few executions never make much trust. The ladder has three levels:
``suggest`` after failures in a row or with a poor record, ``auto`` with a long and good one, ``approve`` between.
"""

from __future__ import annotations

import math

from kubernaut_ray.contracts.statistics import Trust
from kubernaut_ray.crds.enums import TrustLevel
from kubernaut_ray.settings import TrustSettings

_STEPS = 60
"""Halvings of the interval: beyond what a float can tell apart."""
_TERMS = 10_000
_TINY = 1e-300


def posterior(successes: int, failures: int) -> tuple[float, float]:
    """Return the parameters of the Beta distribution after these."""
    return 1.0 + max(0, successes), 1.0 + max(0, failures)


def mean(alpha: float, beta: float) -> float:
    return alpha / (alpha + beta)


def quantile(alpha: float, beta: float, p: float) -> float:
    """Return the value below which a Beta(alpha, beta) lies with chance ``p``, by bisection of its distribution function."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if cumulative(alpha, beta, middle) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def cumulative(alpha: float, beta: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(alpha, beta): the chance that a Beta(alpha, beta) is at most x.

    By its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), evaluated by Lentz's method, on the
    side of the mean where it converges fast.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (alpha + 1.0) / (alpha + beta + 2.0):
        return 1.0 - cumulative(beta, alpha, 1.0 - x)
    front = math.exp(
        math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)
        + alpha * math.log(x) + beta * math.log1p(-x)
    )  # fmt: skip
    return min(1.0, max(0.0, front / alpha / _fraction(alpha, beta, x)))


def _fraction(alpha: float, beta: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + …)) with the coefficients of DLMF 8.17.23."""
    value, c, d = 1.0, 1.0, 0.0
    for n in range(1, _TERMS):
        m = n // 2
        if n % 2:
            term = -(alpha + m) * (alpha + beta + m) * x / ((alpha + 2 * m) * (alpha + 2 * m + 1))
        else:
            term = m * (beta - m) * x / ((alpha + 2 * m - 1) * (alpha + 2 * m))
        d = 1.0 + term * d
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = 1.0 + term / c
        c = c if abs(c) > _TINY else _TINY
        step = c * d
        value *= step
        if abs(step - 1.0) < 1e-14:
            break
    return value


def level(assessed: int, effective: int, failures_in_a_row: int, settings: TrustSettings) -> TrustLevel:
    """Return the level that this record is worth. Failures in a row take every other merit away until it has helped again."""
    if failures_in_a_row >= settings.demote_after:
        return TrustLevel.SUGGEST
    lower = quantile(*posterior(effective, assessed - effective), settings.quantile)
    if assessed >= settings.suggest_minimum and lower < settings.suggest_below:
        return TrustLevel.SUGGEST
    if assessed >= settings.auto_minimum and lower >= settings.auto_from:
        return TrustLevel.AUTO
    return TrustLevel.APPROVE


def judged(counted: Trust, settings: TrustSettings) -> Trust:
    """Return these counts with what they are worth."""
    alpha, beta = posterior(counted.effective, counted.assessed - counted.effective)
    return counted.model_copy(
        update={
            "level": level(counted.assessed, counted.effective, counted.failures_in_a_row, settings),
            "mean": round(mean(alpha, beta), 4),
            "lower": round(quantile(alpha, beta, settings.quantile), 4),
        }
    )
