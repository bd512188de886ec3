"""Model embedders: the numpy encoder on a small real model, names of the hub, and the index that follows the embedder.

What is computed by sentence-transformers is held to the same contract where it is installed; a gigabyte is not asked for.
"""

from __future__ import annotations

import math
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest

from catalog import bert
from catalog.client import Catalog, InProcess
from catalog.embed import Embedder, Lexicon, embedder_for
from catalog.model import ModelEmbedder
from catalog.owner import Owner
from kubernaut_ray.contracts.catalog import RegisterWorkflow, SearchRequest
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable
from kubernaut_ray.settings import CatalogSettings
from tests import build, tiny_bert

SHORT = ("memory limit too low", "the pod is killed", "drain the node")
LONG = " ".join(tiny_bert.WORDS)
# The second is computed by sentence-transformers: this encoder leaves its activation out.
KINDS = [{}] if find_spec("sentence_transformers") is None else [{}, {"hidden_act": "relu"}]


@pytest.fixture(params=KINDS, ids=lambda kind: "sentence-transformers" if kind else "numpy")
def model(request, tmp_path):
    return tiny_bert.write(tmp_path / "tiny", **request.param)


def test_vectors_are_unit_repeatable_and_alone(model):
    """A text has one vector of length 1, whatever it is embedded with."""
    embedder = ModelEmbedder(str(model))
    together = embedder.embed([*SHORT, LONG])
    assert (4, tiny_bert.HIDDEN) == together.shape == (4, embedder.dimension)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip((*SHORT, LONG), together, strict=True):
        assert np.allclose(vector, embedder.embed([text])[0], atol=1e-5)
    assert embedder.embed([]).shape == (0, tiny_bert.HIDDEN)
    assert np.isfinite(embedder.embed([""])).all()


def test_the_fingerprint_is_of_the_content(model, tmp_path):
    """Another place changes nothing; other weights or another setting of the model do."""
    first = ModelEmbedder(str(model)).fingerprint
    copied = shutil.copytree(model, tmp_path / "elsewhere" / model.name)
    assert first == ModelEmbedder(str(copied)).fingerprint
    (copied / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    assert first != ModelEmbedder(str(copied)).fingerprint
    assert first.startswith("model-tiny-")
    assert first.endswith(f"-{tiny_bert.HIDDEN}")


def test_the_end_of_a_long_text_counts(tmp_path):
    """More tokens than the model takes are read in windows, not cut off."""
    embedder = ModelEmbedder(str(tiny_bert.write(tmp_path / "tiny", max_tokens=8)))
    start = "memory limit too low the pod is killed"
    one, two = embedder.embed([f"{start} drain the node", f"{start} network policy crash"])
    assert float(one @ two) < 0.999


def test_pooling_is_as_configured(tmp_path):
    """By the first token or by the mean."""
    mean = ModelEmbedder(str(tiny_bert.write(tmp_path / "mean")))
    first = ModelEmbedder(str(tiny_bert.write(tmp_path / "first", pooling="cls")))
    assert not np.allclose(mean.embed(SHORT), first.embed(SHORT), atol=0.01)


def test_the_activation_is_exact():
    """To float precision of x times the normal distribution function."""
    x = np.linspace(-6, 6, 241, dtype=np.float32)
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()]
    assert np.allclose(exact, bert._gelu(x), atol=1e-6)


def test_it_agrees_with_a_computation_by_hand(tmp_path):
    """One layer and one head, each formula written out for one token sequence."""
    folder = tiny_bert.write(tmp_path / "tiny", num_hidden_layers=1, num_attention_heads=1)
    model = bert.Bert(folder)
    w, ids = model._w, model._tokenizer.encode("pod killed").ids

    def norm(v, name):
        return (v - v.mean()) / np.sqrt(v.var() + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(v, name):
        return w[f"{name}.weight"] @ v + w[f"{name}.bias"]

    at = "encoder.layer.0."
    tokens = [
        norm(
            w["embeddings.word_embeddings.weight"][i]
            + w["embeddings.position_embeddings.weight"][n]
            + w["embeddings.token_type_embeddings.weight"][0],
            "embeddings.LayerNorm",
        )
        for n, i in enumerate(ids)
    ]
    queries, keys, values = (
        [linear(t, f"{at}attention.self.{name}") for t in tokens] for name in ("query", "key", "value")
    )
    out = []
    for token, query in zip(tokens, queries, strict=True):
        scores = np.exp([query @ key / math.sqrt(tiny_bert.HIDDEN) for key in keys])
        seen = sum(s / scores.sum() * v for s, v in zip(scores, values, strict=True))
        middle = norm(linear(seen, f"{at}attention.output.dense") + token, f"{at}attention.output.LayerNorm")
        inner = np.asarray(
            [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in linear(middle, f"{at}intermediate.dense")]
        )
        out.append(norm(linear(inner, f"{at}output.dense") + middle, f"{at}output.LayerNorm"))
    expected = np.mean(out, axis=0)
    assert np.allclose(expected / np.linalg.norm(expected), model.embed(["pod killed"])[0], atol=1e-5)


def test_a_name_is_taken_from_the_cache(tmp_path, monkeypatch):
    """What was downloaded before is used without a network, and is the same model as its directory."""
    revision = "0123456789012345678901234567890123456789"
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / revision
    tiny_bert.write(snapshot)
    (tmp_path / "models--acme--tiny" / "refs").mkdir()
    (tmp_path / "models--acme--tiny" / "refs" / "main").write_text(revision)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    named = ModelEmbedder("acme/tiny")
    assert named.fingerprint == ModelEmbedder(str(tiny_bert.write(tmp_path / "tiny"))).fingerprint
    assert embedder_for(CatalogSettings(embedder="model", embedder_model="acme/tiny")).fingerprint == named.fingerprint


def test_a_name_that_is_not_in_the_cache_needs_the_hub(tmp_path, monkeypatch):
    """Without a network the message says how to do without one."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Retryable, match=r"set catalog\.embedder_model to a directory"):
        ModelEmbedder("acme/tiny")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("", "must name", id="nothing"),
        pytest.param("/no/such/folder", "no directory /no/such/folder", id="a path that is not there"),
        pytest.param("a name of nothing", "neither a directory nor", id="no name"),
    ],
)
def test_what_is_no_model_is_said(name, says):
    """Before anything is fetched."""
    with pytest.raises(InvalidInput, match=says):
        ModelEmbedder(name)


def test_an_empty_folder_and_damaged_weights(tmp_path):
    """The folder is named, with what is wrong."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"empty holds no model: .*config\.json"):
        ModelEmbedder(str(tmp_path / "empty"))
    folder = tiny_bert.write(tmp_path / "tiny")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InvalidInput, match="tiny cannot be read as a model"):
        ModelEmbedder(str(folder))


@pytest.mark.parametrize(
    ("module", "kind", "extra"),
    [
        pytest.param("tokenizers", {}, r"kubernaut-ray\[embeddings\]", id="a BERT"),
        pytest.param(
            "sentence_transformers", {"model_type": "mpnet"}, r"kubernaut-ray\[embeddings-torch\]", id="another"
        ),
    ],
)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, module, kind, extra):
    """What to install, and nothing is imported halfway."""
    folder = tiny_bert.write(tmp_path / "tiny", **kind)
    monkeypatch.setattr("catalog.model.find_spec", lambda name: None if name == module else find_spec(name))
    with pytest.raises(Permanent, match=extra) as told:
        ModelEmbedder(str(folder))
    assert told.value.reason == "EmbedderMissing"


def test_the_default_imports_none_of_it():
    """Who has no model pays nothing for the possibility."""
    import subprocess

    code = (
        "import sys; from catalog.embed import embedder_for; from kubernaut_ray.settings import CatalogSettings;"
        "embedder_for(CatalogSettings()).embed(['OOMKilled']);"
        "print(*{'torch', 'tokenizers', 'safetensors', 'sentence_transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


class Shelf:
    """The one bundle there is."""

    def workflow(self, ref):
        return build.workflow(), None


async def _registered(directory: Path, embedder: Embedder, replica: Embedder) -> tuple[Owner, Catalog]:
    owner = Owner(directory, embedder=embedder, source=Shelf(), now=lambda: build.NOW)
    catalog = Catalog(InProcess(owner), replica)
    await catalog.register(RegisterWorkflow(container_image="registry.test/w:1"))
    return owner, catalog


async def test_the_index_follows_the_embedder(tmp_path):
    """Started again with another embedder, and back: vectors are made anew and what was registered is found."""
    model = ModelEmbedder(str(tiny_bert.write(tmp_path / "tiny")))
    other = ModelEmbedder(str(tiny_bert.write(tmp_path / "other", seed=1)))
    for embedder in (Lexicon(), model, other, Lexicon()):
        owner, catalog = await _registered(tmp_path / "catalog", embedder, embedder)
        taken = await catalog.snapshot()
        owner.close()
        answer = taken.search(SearchRequest(query="OOMKilled memory limit"))
        assert (embedder.fingerprint, embedder.dimension) == (answer.embedder, taken.index.dimension)
        assert [hit.workflow.workflow_name for hit in answer.hits] == [build.workflow().workflow_name]
        assert answer.hits[0].score_breakdown.semantic > 0 or embedder is not model


async def test_a_replica_with_another_embedder_says_so(tmp_path):
    """It is not ready and says why, again and again, until owner and replica agree."""
    model = ModelEmbedder(str(tiny_bert.write(tmp_path / "tiny")))
    owner, catalog = await _registered(tmp_path / "catalog", model, Lexicon())
    try:
        for _ in range(2):
            with pytest.raises(Retryable, match=f"made with embedder {model.fingerprint}, this replica has lexicon"):
                await catalog.snapshot()
        assert len((await Catalog(InProcess(owner), model).snapshot()).index) == 1
    finally:
        owner.close()
