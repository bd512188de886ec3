"""Embedders: text to unit vectors, behind one seam. ``Lexicon`` is the default: offline, deterministic, loads at once.

``Lexicon`` is three feature blocks side by side, each of unit length and weighted: what the text means in the domain's
vocabulary (``catalog.thesaurus``), hashed word stems, and hashed character trigrams (which forgive spelling and compound
identifiers). ``EndpointEmbedder`` asks any OpenAI-compatible embeddings endpoint; ``catalog.model`` runs a model's files.
The index records ``fingerprint`` and is rebuilt when another embedder made it.
"""

from __future__ import annotations

import math
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol

import httpx
import numpy as np
import numpy.typing as npt

from catalog import thesaurus
from catalog.text import terms
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.settings import CatalogSettings

Vectors = npt.NDArray[np.float32]
"""One row a text, each of Euclidean length 1 (or 0 for a text without any feature)."""

KEY_VARIABLE = "KUBERNAUT_CATALOG__EMBEDDER_API_KEY"
EMBED_BATCH = 64
EMBED_WAITS = (0.5, 2.0)
"""Seconds before each further attempt at a batch of documents."""
MAX_WAIT = 10.0
"""A longer ``Retry-After`` is the caller's to wait for."""
QUERY_TIMEOUT = 3.0
"""Seconds that a search waits for its query's vector."""
RESPITE = 5.0
"""Seconds in which queries are refused at once after the endpoint failed one."""

_PLACES = {concept.name: place for place, concept in enumerate(thesaurus.CONCEPTS)}
_IMPLIED = tuple((_PLACES[said], _PLACES[other]) for said, others in thesaurus.IMPLIES.items() for other in others)


class Embedder(Protocol):
    """Turns texts into comparable unit vectors. ``fingerprint`` names the model, its version and its dimension."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def slow(self) -> bool:
        """Embedding a text takes long enough not to be done on an event loop."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return ``len(texts)`` × ``dimension`` unit vectors. Raises ``Retryable`` or ``Permanent``."""
        ...


class Lexicon:
    """The embedded default. Pure functions of the text: the same text gives the same vector on every machine."""

    slow = False

    CONCEPT_WEIGHT, WORD_WEIGHT, TRIGRAM_WEIGHT = 0.80, 0.55, 0.25
    WORDS, TRIGRAMS = 256, 128

    def __init__(self) -> None:
        self._concepts = len(thesaurus.CONCEPTS)
        self._width = 512 - self.WORDS - self.TRIGRAMS
        if self._concepts > self._width:
            raise ValueError(f"{self._concepts} concepts do not fit {self._width} dimensions")

    @property
    def fingerprint(self) -> str:
        return f"lexicon-{thesaurus.VERSION}-{self.dimension}"

    @property
    def dimension(self) -> int:
        return 512

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            self._fill(row, text)
        return normalised(rows)

    def _fill(self, row: Vectors, text: str) -> None:
        words = row[: self.WORDS]
        trigrams = row[self.WORDS : self.WORDS + self.TRIGRAMS]
        concepts = row[self.WORDS + self.TRIGRAMS :]
        counts = Counter(terms(text))
        _hashed(words, counts)
        _hashed(trigrams, Counter(chain.from_iterable(map(_trigrams, counts))))
        lowered = text.lower()
        spoken = [0.0] * len(concepts)
        for index, starts in thesaurus.said_in(lowered):
            said = sum(1 for start in starts if not _denied(lowered, start))
            if said:
                spoken[index] = thesaurus.CONCEPTS[index].weight * (1 + math.log(said))
        for one, implied in _IMPLIED:
            spoken[implied] = max(spoken[implied], thesaurus.IMPLIED_SHARE * spoken[one])
        concepts[:] = spoken
        for block, weight in (
            (words, self.WORD_WEIGHT),
            (trigrams, self.TRIGRAM_WEIGHT),
            (concepts, self.CONCEPT_WEIGHT),
        ):
            length = float(np.linalg.norm(block))
            if length:
                np.multiply(block, weight / length, out=block)


class EndpointEmbedder:
    """An OpenAI-compatible ``/embeddings`` endpoint, for example vLLM's. ``base_url`` ends in ``/v1``.

    Batches are tried again after passing faults. A single text is a query that somebody waits for: it is asked for once, and
    after a failure refused at once for ``RESPITE`` seconds, so that no search waits for an endpoint that is away.
    """

    slow = True

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: Callable[[], str] = str,
        dimension: int | None = None,
        timeout: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model, self._api_key, self._timeout = model, api_key, timeout
        self._dimension = dimension
        self._sleep, self._monotonic = sleep, monotonic
        self._away_until = float("-inf")

    @property
    def fingerprint(self) -> str:
        return f"endpoint-{self._model}-{self.dimension}"

    @property
    def dimension(self) -> int:
        """The endpoint's own; asked for once when it was not given."""
        return self._dimension or self._ask(["dimension"], self._timeout).shape[1]

    def embed(self, texts: Sequence[str]) -> Vectors:
        if len(texts) == 1:
            return self._query(texts)
        batches = [self._patiently(texts[i : i + EMBED_BATCH]) for i in range(0, len(texts), EMBED_BATCH)]
        return np.concatenate(batches) if batches else np.zeros((0, self.dimension), dtype=np.float32)

    def _query(self, texts: Sequence[str]) -> Vectors:
        if self._monotonic() < self._away_until:
            raise Retryable(f"embeddings endpoint {self._url} did not answer a moment ago", after=RESPITE)
        try:
            return self._ask(texts, min(QUERY_TIMEOUT, self._timeout))
        except Retryable:
            self._away_until = self._monotonic() + RESPITE
            raise

    def _patiently(self, texts: Sequence[str]) -> Vectors:
        for wait in EMBED_WAITS:
            try:
                return self._ask(texts, self._timeout)
            except Retryable as error:
                if (error.after or 0) > MAX_WAIT:
                    raise
                self._sleep(max(wait, error.after or 0))
        return self._ask(texts, self._timeout)

    def _ask(self, texts: Sequence[str], timeout: float) -> Vectors:
        key = self._api_key()
        try:
            answer = httpx.post(
                self._url,
                json={"model": self._model, "input": list(texts), "encoding_format": "float"},
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=timeout,
            )
        except httpx.HTTPError as error:
            # From None: the request that the error holds has the key in its headers.
            raise Retryable(f"embeddings endpoint {self._url} did not answer: {type(error).__name__}") from None
        except (httpx.InvalidURL, UnicodeEncodeError):
            raise Permanent(
                f"embeddings endpoint {self._url}: its URL or its key cannot be sent over HTTP",
                reason="EmbeddingRefused",
            ) from None
        if answer.status_code in {408, 429} or answer.status_code >= 500:
            after = answer.headers.get("retry-after", "")
            raise Retryable(
                f"embeddings endpoint {self._url} answered {answer.status_code}",
                after=float(after) if after.isdigit() else None,
            )
        if answer.status_code != 200:
            raise Permanent(
                f"embeddings endpoint {self._url} refused model {self._model!r} with {answer.status_code}",
                reason="EmbeddingRefused",
            )
        try:
            body = answer.json()
        except ValueError:
            body = None
        return normalised(self._rows(body, len(texts)))

    def _rows(self, body: Any, count: int) -> Vectors:
        try:
            data = sorted(body["data"], key=lambda item: item["index"])
            rows = np.asarray([item["embedding"] for item in data], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise Permanent(
                f"{self._url} did not answer as an embeddings endpoint does", reason="NoEmbeddings"
            ) from error
        if rows.ndim != 2 or len(rows) != count:
            raise Permanent(f"{self._url} answered {len(rows)} vectors for {count} texts", reason="NoEmbeddings")
        if not np.isfinite(rows).all():
            raise Permanent(f"{self._url} answered vectors with numbers that are none", reason="NoEmbeddings")
        if self._dimension is None:
            self._dimension = int(rows.shape[1])
        if rows.shape[1] != self._dimension:
            raise Permanent(
                f"{self._url} answered vectors of {rows.shape[1]} numbers for model {self._model!r}, which had "
                f"{self._dimension}: another model stands behind that name now; restart Kubernaut to rebuild the index, "
                "or set catalog.embedder_dimension",
                reason="EmbeddingDimension",
            )
        return rows


class Remembering:
    """Another embedder, for queries: the vectors of the last texts are kept. Safe from several threads at a time."""

    def __init__(self, embedder: Embedder, texts: int = 512) -> None:
        self._embedder = embedder

        @lru_cache(maxsize=texts)
        def one(text: str) -> Vectors:
            vector: Vectors = embedder.embed([text])[0]
            vector.flags.writeable = False
            return vector

        self._one = one

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    @property
    def slow(self) -> bool:
        return self._embedder.slow

    def embed(self, texts: Sequence[str]) -> Vectors:
        if len(texts) != 1:
            return self._embedder.embed(texts)
        return self._one(texts[0])[None, :]


def embedder_for(settings: CatalogSettings) -> Embedder:
    """Return the embedder that the settings name. Owner and replicas call this with the same settings."""
    match settings.embedder:
        case "lexicon":
            return Lexicon()
        case "model":
            # Here and not above: it imports this module, and most systems have no model.
            from catalog.model import ModelEmbedder

            return ModelEmbedder(settings.embedder_model)
        case "endpoint":
            key = settings.embedder_api_key
            return EndpointEmbedder(
                settings.embedder_base_url,
                settings.embedder_model,
                # The settings that reach an actor or a replica have no secrets in them.
                api_key=key.get_secret_value if key else lambda: os.environ.get(KEY_VARIABLE, ""),
                dimension=settings.embedder_dimension,
            )


def normalised(rows: Vectors) -> Vectors:
    """Return the rows scaled to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Vectors = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled


def _hashed(block: Vectors, features: Mapping[str, int]) -> None:
    """Add features with a sign from the same hash, so that collisions cancel on average."""
    if not features:
        return
    digests = np.fromiter(map(_digest, features), dtype=np.int64, count=len(features))
    counts = np.fromiter(features.values(), dtype=np.int64, count=len(features))
    values = _DAMPED[counts] if counts.max() < len(_DAMPED) else np.asarray([1 + math.log(n) for n in counts.tolist()])
    places = np.abs(digests) % len(block)
    np.add.at(block, places, np.copysign(values, digests).astype(np.float32))


_DAMPED = np.asarray([0.0, *(1 + math.log(n) for n in range(1, 64))])


@lru_cache(maxsize=65_536)
def _digest(feature: str) -> int:
    """Return the feature's hash, negative where its sign is; vocabulary repeats, so it is remembered."""
    digest = zlib.crc32(feature.encode())
    return digest if digest & 0x80000000 else -digest


@lru_cache(maxsize=16_384)
def _trigrams(term: str) -> tuple[str, ...]:
    padded = f"^{term}$"
    return tuple(padded[i : i + 3] for i in range(len(padded) - 2))


def _denied(text: str, start: int) -> bool:
    return thesaurus.DENIAL.search(text, max(0, start - 40), start) is not None
