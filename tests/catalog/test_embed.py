"""The endpoint embedder against a small OpenAI-compatible server, and the choice by settings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from catalog.embed import EMBED_BATCH, EndpointEmbedder, Lexicon, embedder_for
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.settings import CatalogSettings


class Endpoint(HTTPServer):
    """Gives each text the vector (its length, 1); ``answer`` overrides status and body; remembers requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, Any] | None = None
        self.seen: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.headers.get("authorization", ""), body))
        rows = [{"index": n, "embedding": [float(len(t)), 1.0]} for n, t in enumerate(body["input"])]
        status, answer = self.server.answer or (200, {"data": rows[::-1]})
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_rows_are_in_order_and_normalised(endpoint):
    """Vectors come back in the order of the texts, of length 1, in several requests when there are many."""
    embedder = EndpointEmbedder(endpoint.url, "m", api_key=lambda: "key")
    texts = ["x" * (n + 1) for n in range(EMBED_BATCH + 3)]
    rows = embedder.embed(texts)
    expected = np.asarray([[len(t), 1.0] for t in texts])
    assert np.allclose(expected / np.linalg.norm(expected, axis=1, keepdims=True), rows)
    assert [seen[0] for seen in endpoint.seen] == ["Bearer key"] * 2
    assert embedder.fingerprint == "endpoint-m-2"
    assert embedder.embed([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, {}, Retryable),
        (429, {}, Retryable),
        (401, {}, Permanent),
        (404, {}, Permanent),
        (200, {"data": []}, Permanent),
        (200, {"oops": 1}, Permanent),
    ],
)
def test_faults_say_what_to_do(endpoint, status, body, error):
    """Busy is retryable; refused, or no embeddings, is permanent and names the endpoint, not the key."""
    endpoint.answer = (status, body)
    with pytest.raises(error) as told:
        EndpointEmbedder(endpoint.url, "m", api_key=lambda: "sk-secret", dimension=2).embed(["a"])
    assert endpoint.url in str(told.value)
    assert "sk-secret" not in str(told.value)


def test_nobody_listens():
    """No endpoint is a passing fault."""
    with pytest.raises(Retryable):
        EndpointEmbedder("http://127.0.0.1:9/v1", "m", dimension=2).embed(["a"])


def test_chosen_by_settings(endpoint):
    """The default needs nothing; an endpoint takes its key from the settings."""
    assert isinstance(embedder_for(CatalogSettings()), Lexicon)
    chosen = embedder_for(
        CatalogSettings(
            embedder="endpoint", embedder_base_url=endpoint.url, embedder_model="m", embedder_api_key=SecretStr("k")
        )
    )
    chosen.embed(["a"])
    assert endpoint.seen[0][0] == "Bearer k"


def test_the_key_reaches_an_actor_by_its_environment(endpoint, monkeypatch):
    """The settings that an actor is given have no secrets in them."""
    monkeypatch.setenv("KUBERNAUT_CATALOG__EMBEDDER_API_KEY", "from-outside")
    settings = CatalogSettings(embedder="endpoint", embedder_base_url=endpoint.url, embedder_model="m")
    embedder_for(settings).embed(["a"])
    assert endpoint.seen[0][0] == "Bearer from-outside"
