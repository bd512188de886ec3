"""``kubernaut-ray crds``: print the CRDs, ready for ``kubectl apply -f -``."""

from __future__ import annotations

import typer
import yaml

from kubernaut_ray.crds.schema import crd_manifests


def crds() -> None:
    """Print the CustomResourceDefinitions.

    Example: kubernaut-ray crds | kubectl apply --server-side -f -
    """
    typer.echo(yaml.safe_dump_all(crd_manifests(), sort_keys=False), nl=False)
