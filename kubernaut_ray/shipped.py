"""Where the manifests that ship with the system lie: CRDs, RBAC, policies, workflows.

In a wheel they are inside the package (``kubernaut_ray/manifests``), in a checkout beside it (``<repository>/manifests``).
Everything that reads a shipped file asks here; nothing writes there but the schema generator.
"""

from __future__ import annotations

from pathlib import Path

from kubernaut_ray.errors import Permanent


def directory() -> Path:
    """Return the directory of the shipped manifests. Raises ``Permanent`` when an installation lacks them."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "manifests", package.parent / "manifests"):
        if candidate.is_dir():
            return candidate
    raise Permanent(
        f"the shipped manifests are missing: neither {package / 'manifests'} nor {package.parent / 'manifests'} exists; "
        "reinstall kubernaut-ray",
        reason="IncompleteInstallation",
    )
