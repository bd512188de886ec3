"""Where the shipped manifests are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubernaut_ray import shipped
from kubernaut_ray.errors import Permanent


def test_a_checkout_has_crds_rbac_policies_and_workflows() -> None:
    """The directory of this very checkout."""
    assert {"crds", "rbac", "policies", "workflows"} <= {path.name for path in shipped.directory().iterdir()}


def test_a_wheel_has_them_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own folder wins over what lies beside it; nothing at all is a broken installation."""
    package = tmp_path / "kubernaut_ray"
    package.mkdir()
    monkeypatch.setattr(shipped, "__file__", str(package / "shipped.py"))
    with pytest.raises(Permanent, match="reinstall kubernaut-ray"):
        shipped.directory()
    (tmp_path / "manifests").mkdir()
    assert shipped.directory() == tmp_path / "manifests"
    (package / "manifests").mkdir()
    assert shipped.directory() == package / "manifests"
