"""The endpoint embedder against a small OpenAI-compatible server, and the choice by settings."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from catalog.embed import EMBED_BATCH, EMBED_WAITS, RESPITE, EndpointEmbedder, Lexicon, embedder_for
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
        (200, {"data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]}, Permanent),
        (200, {"data": [{"index": 0, "embedding": [1.0, None]}]}, Permanent),
        (200, ["not an object"], Permanent),
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


def test_batches_are_tried_again(endpoint):
    """While an index is built, a busy endpoint is waited for as it asks; a query is not."""
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        endpoint.answer = None

    endpoint.answer = (503, {})
    embedder = EndpointEmbedder(endpoint.url, "m", dimension=2, sleep=sleep)
    assert embedder.embed(["a", "b"]).shape == (2, 2)
    assert waits == [EMBED_WAITS[0]]
    endpoint.answer = (503, {})
    with pytest.raises(Retryable):
        embedder.embed(["a"])
    assert len(endpoint.seen) == 3


def test_a_query_does_not_wait_for_an_endpoint_that_is_away(endpoint):
    """After one failure queries are refused at once for a while; then it is asked again."""
    now = [0.0]
    embedder = EndpointEmbedder(endpoint.url, "m", dimension=2, monotonic=lambda: now[0])
    endpoint.answer = (500, {})
    for _ in range(3):
        with pytest.raises(Retryable):
            embedder.embed(["a"])
    assert len(endpoint.seen) == 1
    now[0], endpoint.answer = RESPITE, None
    assert embedder.embed(["a"]).shape == (1, 2)


def test_another_model_behind_the_name_is_noticed(endpoint):
    """Vectors of another width are never compared with the index; the message says what to do."""
    embedder = EndpointEmbedder(endpoint.url, "m")
    embedder.embed(["a"])
    endpoint.answer = (200, {"data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]})
    with pytest.raises(Permanent, match="vectors of 3 numbers") as told:
        embedder.embed(["a"])
    assert told.value.reason == "EmbeddingDimension"


@pytest.mark.parametrize("key", ["sk-sécret\n", "sk-secret"], ids=["a key that no header can hold", "nobody listens"])
def test_the_key_is_in_no_trace(key):
    """Neither the error nor what it came from holds it."""
    with pytest.raises((Permanent, Retryable)) as told:
        EndpointEmbedder("http://127.0.0.1:9/v1", "m", dimension=2, api_key=lambda: key).embed(["a"])
    shown = "".join(traceback.format_exception(told.value)) + repr(told.value)
    assert key.strip() not in shown


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
