"""A catalog, and the controller's life in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import build
from tests.actors.remediation_workflow.world import Life, Shelf, Shop


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(build.workflow())


@pytest.fixture
def shop(tmp_path: Path, shelf: Shelf) -> Iterator[Shop]:
    shop = Shop(tmp_path, shelf)
    yield shop
    shop.shut()


@pytest.fixture
def life(shop: Shop) -> Life:
    return Life(shop)
