"""Makes the model that the settings name; the only place that knows all of them.

Settings that cannot work (no key, no model) are refused when the service starts, not at the first incident.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from kubernaut_ray.clock import Clock
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.settings import LlmSettings
from serve_apps.holmesgpt.models.evidence import EvidenceModel
from serve_apps.holmesgpt.models.model import InvestigationModel

_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
_OWN_KEY = "KUBERNAUT_LLM__API_KEY"
"""Read here too: the settings that reach a replica have no secrets in them."""
_NO_KEY = "none"


def choose_model(settings: LlmSettings, environment: Mapping[str, str], clock: Clock) -> InvestigationModel:
    """Return the configured model. Raises ``InvalidInput`` when it cannot work."""
    key = credentials(settings, environment)
    if settings.provider == "evidence":
        return EvidenceModel(clock)
    from serve_apps.holmesgpt.models.llm import LanguageModel

    return LanguageModel(settings, key)


def credentials(settings: LlmSettings, environment: Mapping[str, str]) -> str:
    """Return the key to use, empty for the evidence model. Raises ``InvalidInput`` when the settings cannot work."""
    if settings.provider == "evidence":
        return ""
    if not settings.model:
        raise InvalidInput(
            f"llm.provider is {settings.provider} and llm.model is empty; name a model, for example with --llm-model"
        )
    name = _KEYS[settings.provider]
    given = settings.api_key.get_secret_value() if settings.api_key else environment.get(_OWN_KEY, "")
    key = given or environment.get(name, "")
    if key:
        return key
    if settings.base_url and _is_private(settings.base_url):
        return _NO_KEY
    raise InvalidInput(
        f"llm.provider is {settings.provider} and there is no API key: set {name} or {_OWN_KEY} in the "
        "environment (any text, for an endpoint that wants none), or use --llm evidence, which needs no key"
    )


def _is_private(url: str) -> bool:
    """Whether an endpoint is on this machine or inside the cluster, where a key is optional."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith((".svc", ".svc.cluster.local", ".localhost"))
