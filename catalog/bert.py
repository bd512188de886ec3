"""The BERT encoder on numpy: sentence-embedding models (MiniLM, BGE, E5, GTE) from their own files, without torch.

Reads the folder that sentence-transformers writes: ``config.json``, ``model.safetensors``, ``tokenizer.json``, ``modules.json``
and the pooling's configuration. The architecture is that of Devlin et al. 2018 with absolute positions and exact GELU;
its answers are those of the reference implementation to float precision. ``supports`` says whether a folder is of this
kind; anything else is refused there and left to sentence-transformers (``catalog.model``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

Array = npt.NDArray[np.float32]

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
BATCH = 16
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True)
class Shape:
    """What ``config.json`` and the modules' configurations say."""

    layers: int
    heads: int
    hidden: int
    epsilon: float
    max_tokens: int
    first_token: bool
    """Pool by the first token; by the mean of all otherwise."""


def supports(folder: Path) -> bool:
    """Say whether the folder holds a model that this encoder computes in full."""
    return (folder / WEIGHTS).is_file() and (folder / TOKENIZER).is_file() and _shape(folder) is not None


def _shape(folder: Path) -> Shape | None:
    config, modules = _json(folder / "config.json", {}), _json(folder / "modules.json", [])
    names = [str(m.get("type", "")).rpartition(".")[2] for m in modules]
    plain = (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
    )
    if not plain or any(name not in _KNOWN_MODULES for name in names):
        return None
    where = next((str(m.get("path", "")) for m in modules if str(m.get("type", "")).endswith("Pooling")), "1_Pooling")
    pooling = {
        k for k, v in _json(folder / where / "config.json", {}).items() if k.startswith("pooling_mode_") and v is True
    }
    if pooling - {"pooling_mode_mean_tokens"} and pooling != {"pooling_mode_cls_token"}:
        return None
    limit = _json(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    return Shape(
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        hidden=int(config["hidden_size"]),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        max_tokens=min(int(limit or 512), int(config.get("max_position_embeddings", 512))),
        first_token=pooling == {"pooling_mode_cls_token"},
    )


def _json(path: Path, default: Any) -> Any:
    return orjson.loads(path.read_bytes()) if path.is_file() else default


class Bert:
    """One model in memory. Pure and read-only once made, so safe for several threads."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        shape = _shape(folder)
        if shape is None:
            raise ValueError(f"{folder} is no BERT sentence-embedding model")
        self._shape = shape
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        loaded: Mapping[str, Array] = load_file(folder / WEIGHTS)
        self._w = {k.removeprefix("bert."): v.astype(np.float32, copy=False) for k, v in loaded.items()}

    @property
    def dimension(self) -> int:
        return self._shape.hidden

    def embed(self, texts: Sequence[str]) -> Array:
        """Return a unit vector a text. A text of more tokens than the model takes is read in windows, and they are averaged."""
        windows = [(n, window) for n, text in enumerate(texts) for window in self._windows(text)]
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        windows.sort(key=lambda w: len(w[1]))
        for start in range(0, len(windows), BATCH):
            batch = windows[start : start + BATCH]
            for (n, ids), vector in zip(batch, self._encode([ids for _, ids in batch]), strict=True):
                rows[n] += vector * np.float32(len(ids))
        return _unit(rows)

    def _windows(self, text: str) -> list[list[int]]:
        ids: list[int] = self._tokenizer.encode(text).ids
        if len(ids) <= self._shape.max_tokens:
            return [ids]
        first, last, inner = ids[0], ids[-1], ids[1:-1]
        size = self._shape.max_tokens - 2
        return [[first, *inner[i : i + size], last] for i in range(0, len(inner), size)]

    def _encode(self, batch: Sequence[Sequence[int]]) -> Array:
        longest = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        real = np.zeros((len(batch), longest), dtype=np.float32)
        for row, given in enumerate(batch):
            ids[row, : len(given)] = given
            real[row, : len(given)] = 1
        w, e = self._w, "embeddings."
        hidden = w[f"{e}word_embeddings.weight"][ids] + w[f"{e}position_embeddings.weight"][:longest]
        hidden = self._norm(hidden + w[f"{e}token_type_embeddings.weight"][0], f"{e}LayerNorm")
        hide = np.float32(-1e9) * (1 - real)[:, None, None, :]
        for layer in range(self._shape.layers):
            hidden = self._layer(hidden, hide, f"encoder.layer.{layer}.")
        if self._shape.first_token:
            return _unit(hidden[:, 0])
        total: Array = (hidden * real[:, :, None]).sum(axis=1)
        return _unit(total / real.sum(axis=1, keepdims=True))

    def _layer(self, hidden: Array, hide: Array, at: str) -> Array:
        count, length, width = hidden.shape
        heads, size = self._shape.heads, width // self._shape.heads

        def split(name: str) -> Array:
            parts = self._linear(hidden, f"{at}attention.self.{name}").reshape(count, length, heads, size)
            return parts.transpose(0, 2, 1, 3)

        scores = split("query") @ split("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(size)) + hide
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        seen = (weights @ split("value")).transpose(0, 2, 1, 3).reshape(count, length, width)
        hidden = self._norm(
            self._linear(seen, f"{at}attention.output.dense") + hidden, f"{at}attention.output.LayerNorm"
        )
        inner = _gelu(self._linear(hidden, f"{at}intermediate.dense"))
        return self._norm(self._linear(inner, f"{at}output.dense") + hidden, f"{at}output.LayerNorm")

    def _linear(self, values: Array, name: str) -> Array:
        product: Array = values @ self._w[f"{name}.weight"].T + self._w[f"{name}.bias"]
        return product

    def _norm(self, values: Array, name: str) -> Array:
        centred = values - values.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._shape.epsilon))
        scaled: Array = centred / spread * self._w[f"{name}.weight"] + self._w[f"{name}.bias"]
        return scaled


def _gelu(x: Array) -> Array:
    """X times the normal distribution function; erf after Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series: Array = np.zeros_like(x)
    for term in _ERF:
        series = ((series + np.float32(term)) * t).astype(np.float32, copy=False)
    erf = np.copysign(1 - series * np.exp(-z * z), x)
    result: Array = np.float32(0.5) * x * (1 + erf)
    return result


def _unit(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Array = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled
