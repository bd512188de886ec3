"""Reading the lists of tags in conditional headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import PreconditionFailed
from catalog.etags import etag, matches, require, tags


@pytest.mark.parametrize(
    ("header", "strong", "weak"),
    [
        ("", (), ()),
        ("*", ("*",), ("*",)),
        ('"a"', ('"a"',), ('"a"',)),
        ('W/"a"', (), ('"a"',)),
        ('"a", W/"b","c"', ('"a"', '"c"'), ('"a"', '"b"', '"c"')),
        ("a", (), ()),
        ('"*"', ('"*"',), ('"*"',)),
    ],
    ids=["none", "any", "one", "weak", "a list", "without quotes", "a quoted star"],
)
def test_lists(header, strong, weak):
    """Weak tags count only where a weak comparison is wanted."""
    assert (strong, weak) == (tags(header, weak=False), tags(header, weak=True))


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_tag_is_of_the_bytes(one, other):
    """Two answers have the same tag when they are the same, and a tag survives its header."""
    assert (etag(one) == etag(other)) is (one == other)
    assert tags(etag(one), weak=False) == (etag(one),)
    assert matches(tags(f'"x", {etag(one)}', weak=False), one)
    if one != other:
        with pytest.raises(PreconditionFailed, match="read it again"):
            require((etag(one),), other)


@given(st.text(max_size=80))
def test_any_header_is_read(header):
    """Nonsense is no tag and no crash."""
    assert all(tag == "*" or tag[0] == tag[-1] == '"' for tag in tags(header, weak=True))
