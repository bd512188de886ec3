"""A sentence-embedding model by directory or by name, behind the embedder seam: ``catalog.embedder: model``.

BERT models run on numpy (``catalog.bert``; extra ``embeddings``: megabytes, loads in a fraction of a second); every other
architecture runs in sentence-transformers (extra ``embeddings-torch``: more than a gigabyte). A name is one of the Hugging
Face hub, taken from its local cache where it is there and downloaded otherwise; give a directory to stay offline. All of
it runs on one thread, since many searches share the cores. The fingerprint is of the files' content: a model that was
changed in its place is another model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from catalog import bert
from catalog.embed import Vectors, normalised
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable

_READ = 1 << 20
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*/*.json", "*/*.safetensors")
"""What is taken of a model on the hub: no copies of the weights in other formats."""
_IGNORED = (".gitattributes", "README.md")


class _Encoder(Protocol):
    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class ModelEmbedder:
    """``model`` is a directory, or a hub name such as ``sentence-transformers/all-MiniLM-L6-v2``. Loaded at once.

    Raises ``InvalidInput`` for what is no such model or needs an extra that is missing, ``Retryable`` when the hub is away.
    """

    slow = True

    def __init__(self, model: str) -> None:
        if not model:
            raise InvalidInput("catalog.embedder_model must name a model's directory, or a model of the hub")
        directory = Path(model)
        folder = directory if directory.is_dir() else _fetched(model)
        self._encoder: _Encoder = _bert(folder) if bert.supports(folder) else _SentenceTransformer(folder)
        self._fingerprint = f"model-{Path(model).name}-{_content(folder)}-{self._encoder.dimension}"

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return self._encoder.embed(texts)


def _bert(folder: Path) -> bert.Bert:
    _need("safetensors", "tokenizers", "threadpoolctl", extra="embeddings", why=f"the model in {folder}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")
    try:
        return bert.Bert(folder)
    except Exception as error:  # the tokenizer and the weights each have errors of their own
        raise InvalidInput(
            f"catalog.embedder_model: {folder} cannot be read as a model: {type(error).__name__}: {error}"
        ) from error


class _SentenceTransformer:
    """Any architecture that sentence-transformers loads. Texts longer than the model takes are cut off by it."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise InvalidInput(
                f"catalog.embedder_model: {folder} holds no model: there is neither config.json nor modules.json in it"
            )
        _need("sentence_transformers", extra="embeddings-torch", why=f"the model in {folder}, which is no BERT,")
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        try:
            self._model: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        except Exception as error:
            raise InvalidInput(
                f"catalog.embedder_model: sentence-transformers cannot load {folder}: {type(error).__name__}: {error}"
            ) from error
        self._dimension = int(self.embed(["dimension"]).shape[1])

    @property
    def dimension(self) -> int:
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
        return normalised(np.asarray(rows, dtype=np.float32))


def _fetched(name: str) -> Path:
    """Return the folder of a model of the hub: from the cache if it is there, or downloaded now."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InvalidInput(f"catalog.embedder_model: there is no directory {name}")
    _need("huggingface_hub", extra="embeddings", why=f"the model {name}, which is no directory here,")
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    for local in (True, False):
        try:
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_FILES), local_files_only=local))
        except HFValidationError as error:
            raise InvalidInput(f"catalog.embedder_model: {name!r} is neither a directory nor a model's name") from error
        except RepositoryNotFoundError as error:
            raise InvalidInput(f"catalog.embedder_model: the hub has no model {name}, or it is private") from error
        except (LocalEntryNotFoundError, OSError) as error:
            if not local:
                raise Retryable(
                    f"the model {name} is not in the cache and the hub cannot be reached ({type(error).__name__}); "
                    "for use offline set catalog.embedder_model to a directory"
                ) from error
    raise AssertionError("the last attempt returns or raises")


def _need(*modules: str, extra: str, why: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise Permanent(
            f"catalog.embedder: model: {why} needs {', '.join(missing)}; pip install 'kubernaut-ray[{extra}]'",
            reason="EmbedderMissing",
        )


def _content(folder: Path) -> str:
    """Return a short hash of every file of the model, names included."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in _IGNORED):
        inner = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_READ):
                inner.update(piece)
        total.update(f"{path.relative_to(folder)}\0{inner.hexdigest()}\n".encode())
    return total.hexdigest()[:12]
