"""Docstrings under fields: found in the source, put into schemas, never over what a field says itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kubernaut_ray.crds import docstrings


class Base(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    first_word: str = ""
    """Of the base,

    in two paragraphs.
    """
    plain: int = 0
    kept: Annotated[int, Field(description="By its own words.")] = 0
    """By its docstring."""


class Derived(Base):
    plain: int = 1
    """Of the derived class."""

    class Inner(BaseModel):
        deep: str = ""
        """Two levels down."""

    inner: Inner = Inner()


def test_a_class_has_its_own_texts_and_those_of_its_bases() -> None:
    """By Python name, without the source's indentation."""
    assert docstrings.fields(Derived) == {
        "first_word": "Of the base,\n\nin two paragraphs.",
        "kept": "By its docstring.",
        "plain": "Of the derived class.",
    }
    assert docstrings.fields(Derived.Inner) == {"deep": "Two levels down."}


def test_a_schema_carries_them_by_alias_and_by_name() -> None:
    """At every depth, and what a field says itself stays."""
    for by_alias, name in ((True, "firstWord"), (False, "first_word")):
        schema = Derived.model_json_schema(by_alias=by_alias, schema_generator=docstrings.Described)
        told = {key: value.get("description") for key, value in schema["properties"].items()}
        assert told == {
            name: "Of the base,\n\nin two paragraphs.",
            "plain": "Of the derived class.",
            "kept": "By its own words.",
            "inner": None,
        }
        assert schema["$defs"]["Inner"]["properties"]["deep"]["description"] == "Two levels down."
