"""The arguments of a Serve application: JSON in, values out, no secret inside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.settings import Settings
from serve_apps.wiring import Wiring


def test_settings_travel_as_json(tmp_path: Path) -> None:
    """What the runtime dumps is what a replica reads; the token is read anew each time."""
    token = tmp_path / "token"
    args = {
        "settings": Settings(data_dir=tmp_path, cluster_name="c").model_dump(mode="json"),
        "endpoints": {"gateway": "http://127.0.0.1:8000/gateway"},
        "kubeconfig": None,
        "token_file": str(token),
    }
    wiring = Wiring.parse(json.loads(json.dumps(args)))
    assert (wiring.settings.cluster_name, wiring.settings.data_dir) == ("c", tmp_path)
    assert wiring.endpoints.gateway.endswith("/gateway")
    assert wiring.kubeconfig is None
    with pytest.raises(Retryable, match="token"):
        wiring.token()
    for text in ("one", "two"):
        token.write_text(f"{text}\n")
        assert wiring.token() == text


def test_wrong_arguments_are_said() -> None:
    """A mistake in the arguments names the field."""
    with pytest.raises(InvalidInput, match="replicas"):
        Wiring.parse({"settings": {"gateway": {"replicas": 0}}})
