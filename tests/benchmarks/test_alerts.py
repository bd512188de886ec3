"""Storms: reproducible, of the size asked for, and saying truly which alert is about what."""

from __future__ import annotations

import random

import orjson
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._alerts import ID_LABEL, Shape, storm
from kubernaut_ray import clock
from serve_apps.gateway.adapters.alertmanager import Alertmanager
from serve_apps.gateway.signal import Delivery, Signal

SHAPES = st.builds(
    Shape,
    seconds=st.floats(0.5, 5),
    rate=st.floats(1, 40),
    incidents=st.integers(0, 60),
    one_name=st.booleans(),
)


@given(SHAPES, st.integers(0, 1000))
def test_the_same_seed_gives_the_same_storm(shape: Shape, seed: int) -> None:
    """A run can be repeated."""
    assert storm("p", shape, random.Random(seed)) == storm("p", shape, random.Random(seed))


@given(SHAPES, st.integers(0, 1000))
def test_every_webhook_is_sent_in_time_and_says_what_it_is_about(shape: Shape, seed: int) -> None:
    """Shots are in order and within the storm; each body goes out at least once; its labels are the ids it is said to hold."""
    made = storm("p", shape, random.Random(seed))
    assert {body for plan in made.plans for _, body in plan.shots} == set(range(len(made.contents)))
    for plan in made.plans:
        moments = [at for at, _ in plan.shots]
        assert moments == sorted(moments)
        assert all(0 <= at <= shape.seconds for at in moments)
        for body, content in zip(plan.bodies, made.contents, strict=True):
            alerts = orjson.loads(body)["alerts"]
            assert tuple(alert["labels"][ID_LABEL] for alert in alerts) == content
            assert 1 <= len(set(content)) == len(content) <= shape.largest_group


@given(SHAPES, st.integers(0, 1000))
def test_ids_are_as_many_as_asked_for(shape: Shape, seed: int) -> None:
    """Never more things than named, and with none named each alert is about its own."""
    made = storm("p", shape, random.Random(seed))
    alerts = sum(len(content) for content in made.contents)
    assert len(made.ids) == (min(len(made.ids), shape.incidents) if shape.incidents else alerts)
    assert all(one.startswith("p-") for one in made.ids)


def test_a_long_storm_is_mostly_duplicates() -> None:
    """All the incidents there are appear, and again and again."""
    made = storm("p", Shape(seconds=10, rate=40, incidents=100), random.Random(1))
    assert len(made.ids) == 100
    assert sum(len(content) for content in made.contents) > 2000


def test_the_gateway_reads_them_as_signals_about_their_deployment() -> None:
    """The adapter takes every alert of a webhook."""
    made = storm("p", Shape(seconds=1, rate=5, incidents=20), random.Random(1))
    for body, content in zip(made.plans[0].bodies, made.contents, strict=True):
        delivery = Delivery(body, {"content-type": "application/json"}, clock.utcnow())
        signals = [parsed for parsed in Alertmanager().parse(delivery) if isinstance(parsed, Signal)]
        assert tuple(signal.labels["deployment"] for signal in signals) == content


def test_a_storm_of_one_name_has_one_name() -> None:
    """That is what folds it."""
    made = storm("p", Shape(seconds=1, rate=20, incidents=20, one_name=True), random.Random(1))
    names = {alert["labels"]["alertname"] for body in made.plans[0].bodies for alert in orjson.loads(body)["alerts"]}
    assert names == {"ZeroLossp"}
