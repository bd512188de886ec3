"""The official asyncio client, without the synchronous half of its distribution.

``import kubernetes.aio`` first runs ``kubernetes/__init__.py``, which imports the synchronous client, requests, google-auth
and OAuth: 18 MiB and 0.3 s of CPU in each of some fifteen processes that never use them. So the parent package is put in
place unexecuted; its submodules import as ever. ``connection.py`` is the only caller.
"""

from __future__ import annotations

import importlib.util
import sys

if "kubernetes" not in sys.modules:
    _spec = importlib.util.find_spec("kubernetes")
    if _spec is None:
        raise ModuleNotFoundError("the package kubernetes is missing; install kubernaut-ray with its dependencies")
    sys.modules["kubernetes"] = importlib.util.module_from_spec(_spec)

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, kube_config, load_incluster_config

__all__ = ["ApiClient", "ConfigException", "Configuration", "kube_config", "load_incluster_config"]
