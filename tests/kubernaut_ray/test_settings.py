"""Settings: where they come from, which source wins, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.settings import Settings


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, then environment, then arguments; untouched fields of a group keep what they had."""
    file = tmp_path / "settings.yaml"
    file.write_text("gateway: {replicas: 3, max_body_bytes: 1000, storm_rate_threshold: 7}\n")
    monkeypatch.setenv("KUBERNAUT_GATEWAY__REPLICAS", "4")
    monkeypatch.setenv("KUBERNAUT_GATEWAY__MAX_BODY_BYTES", "2000")
    settings = Settings.load(file, gateway={"max_body_bytes": 5000})
    assert (settings.gateway.replicas, settings.gateway.max_body_bytes, settings.gateway.storm_rate_threshold) == (
        4,
        5000,
        7,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gateway: {replicas: 0}", "gateway.replicas"),
        ("gateway: {replicsa: 2}", "gateway.replicsa"),
        ("catalog: {registry_access: {r: {plain_http: true, ca_file: /ca.pem}}}", "registry_access.r"),
        ("catalog: {registry_access: {r: {client_key: /key.pem}}}", "client_key needs client_certificate"),
        ("catalog: {registry_access: {r: {skip_tls_verify: true, ca_file: /ca.pem}}}", "would ignore ca_file"),
        ("- a list", "mapping"),
        ("gateway: {", "settings.yaml"),
    ],
    ids=[
        "out of range",
        "unknown field",
        "plain and TLS",
        "half an identity",
        "unverified and verified",
        "not a mapping",
        "not YAML",
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    """The error names the file and the field."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=says) as caught:
        Settings.load(file)
    assert "settings.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("llm: {apikey: sk-very-secret}", id="under a misspelt name"),
        pytest.param("llm: {api_key: [sk-very-secret]}", id="of the wrong type"),
        pytest.param("llm: {api_key: 'sk-very-secret}", id="in a file that is not YAML"),
    ],
)
def test_a_wrong_file_is_named_without_what_is_in_it(tmp_path: Path, text: str) -> None:
    """An error goes to the terminal and the log; a key in the wrong place is a secret all the same."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        Settings.load(file)
    assert "very-secret" not in str(caught.value)
    assert "settings.yaml" in str(caught.value)


def test_the_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The LLM's key is in no text form of the settings."""
    monkeypatch.setenv("KUBERNAUT_LLM__API_KEY", "sk-very-secret")
    settings = Settings.load()
    assert settings.llm.api_key is not None
    assert settings.llm.api_key.get_secret_value() == "sk-very-secret"
    assert "very-secret" not in repr(settings)
    assert "very-secret" not in settings.model_dump_json()


def test_one_machine_judges_effects_at_once_and_a_cluster_is_asked_first() -> None:
    """Short windows and verification on, wherever nothing else was said."""
    assert not Settings().effectiveness.enabled
    said = Settings.model_validate({"effectiveness": {"validity": 60, "enabled": False}}).effectiveness
    here = said.for_one_machine()
    assert (here.enabled, here.validity, here.stabilization_window) == (False, 60, 1)
    assert Settings().effectiveness.for_one_machine().enabled


@pytest.mark.parametrize(
    ("query", "fine"),
    [
        ('http_errors_total{namespace="$namespace"}', False),
        ('sum(rate(http_errors_total{namespace="$namespace"}[5m]))', True),
        ('avg(container_memory_working_set_bytes{namespace="$namespace"})', True),
    ],
)
def test_a_bare_counter_is_no_measure(tmp_path: Path, query: str, fine: bool) -> None:
    """It only ever grows, so every execution would seem to have done harm."""
    file = tmp_path / "settings.yaml"
    file.write_text(f"effectiveness: {{queries: {{errors: {{query: '{query}'}}}}}}\n")
    if fine:
        assert Settings.load(file).effectiveness.queries["errors"].query == query
    else:
        with pytest.raises(InvalidInput, match=r"take its rate\(\)"):
            Settings.load(file)
