"""Merkle trees of RFC 6962: the vectors of Certificate Transparency, and every path of every small tree."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.ledger.merkle import Tree, path, root, root_of

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
PATHS = {
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
DATA = st.lists(st.binary(max_size=40), min_size=1, max_size=70)


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    """The test vectors that every log implementation shares."""
    assert ROOTS[size] == root(LEAVES[:size]).hex()


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_known_paths(index: int, size: int) -> None:
    """Siblings from the leaf up, as the same vectors have them."""
    assert PATHS[index, size] == tuple(node.hex() for node in path(LEAVES[:size], index))


def by_the_letter(leaves: list[bytes]) -> bytes:
    """The definition in the RFC, word for word: split at the largest power of two smaller than the number of leaves."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + by_the_letter(leaves[:split]) + by_the_letter(leaves[split:])).digest()


@given(DATA)
def test_level_by_level_is_the_tree_of_the_rfc(leaves: list[bytes]) -> None:
    """Whatever the number of leaves."""
    assert by_the_letter(leaves) == root(leaves)


@given(DATA, st.data())
def test_a_path_proves_its_leaf_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    """It leads to the root from its leaf and its place; from another leaf, place or size it does not."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    tree = Tree(leaves)
    proof = tree.path(index)
    assert tree.root == root_of(leaves[index], index, len(leaves), proof)
    assert tree.root != root_of(leaves[index] + b"x", index, len(leaves), proof)
    for bent in ([*proof, tree.root], proof[:-1]):
        if bent != proof:
            with pytest.raises(ValueError, match="path is too"):
                root_of(leaves[index], index, len(leaves), bent)


@pytest.mark.parametrize("index", [-1, 8])
def test_no_such_leaf(index: int) -> None:
    """A proof of something that is not there is refused."""
    with pytest.raises(IndexError):
        path(LEAVES, index)
    with pytest.raises(ValueError, match="no leaf"):
        root_of(LEAVES[0], index, 8, [])
