"""Reading a directory of policies: what counts, what is skipped, and a hash that depends on nothing but content."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.policy import bundle


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / f"{name}.rego").write_text(text)
    return directory


def test_tests_and_hidden_copies_are_not_policies(tmp_path: Path) -> None:
    """A ConfigMap mount holds every file twice, the second time in a hidden folder."""
    write(tmp_path, a="package a\n", a_test="package a_test\n\ntest_x if true\n")
    write(tmp_path / "..2026_01_31", a="package a\n")
    write(tmp_path / "sub", b="package b\n")
    assert [module.name for module in bundle.load(tmp_path).modules] == ["a.rego", "sub/b.rego"]
    (test,) = bundle.load_tests(tmp_path)
    assert (test.package, test.test_rules) == ("a_test", ("test_x",))


def test_the_hash_tells_contents_and_names_apart_and_nothing_else(tmp_path: Path) -> None:
    """Equal files, equal hash; a character or a name more, another one."""
    one = bundle.load(write(tmp_path / "1", a="package a\n", b="package b\n")).sha256
    assert bundle.load(write(tmp_path / "2", b="package b\n", a="package a\n")).sha256 == one
    assert bundle.load(write(tmp_path / "3", a="package a\n", c="package b\n")).sha256 != one
    assert bundle.load(write(tmp_path / "4", a="package a\n\n", b="package b\n")).sha256 != one


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        pytest.param(lambda d: None, "no such directory", id="nothing there"),
        pytest.param(lambda d: d.mkdir(), "no \\*.rego file", id="an empty directory"),
        pytest.param(lambda d: (d.mkdir(), (d / "x.rego").write_bytes(b"\xff\xfe")), "utf-8", id="not text"),
        pytest.param(lambda d: write(d, x="#" * bundle.MAX_BYTES + "\n"), "bytes together", id="too large"),
    ],
)
def test_what_cannot_be_a_bundle_is_refused_by_name(tmp_path: Path, make, complaint: str) -> None:
    """The message names the directory and what is wrong with it."""
    make(tmp_path / "policies")
    with pytest.raises(InvalidInput, match=complaint) as caught:
        bundle.load(tmp_path / "policies")
    assert "policies" in str(caught.value)
