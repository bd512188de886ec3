"""Which login of a docker config.json is taken for a repository."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.docker_config import Login, login


def entry(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:pa:ss".encode()).decode()}


@pytest.mark.parametrize(
    ("auths", "registry", "repository", "user"),
    [
        pytest.param({"r.example:5000": entry("u")}, "r.example:5000", "a", "u", id="host and port"),
        pytest.param({"https://r.example/v2/": entry("u")}, "r.example", "a", "u", id="a URL"),
        pytest.param({"r.example": entry("u")}, "r.example:5000", "a", None, id="another port"),
        pytest.param({"r.example/team": entry("t"), "r.example": entry("u")}, "r.example", "team/a", "t", id="a path goes first"),
        pytest.param({"r.example/team": entry("t"), "r.example": entry("u")}, "r.example", "teamster/a", "u", id="a path ends at a slash"),
        pytest.param({"https://index.docker.io/v1/": entry("hub")}, "docker.io", "library/x", "hub", id="Docker Hub by its old name"),
        pytest.param({"r.example": {}}, "r.example", "a", None, id="an entry that says nothing"),
        pytest.param({}, "r.example", "a", None, id="no entry"),
    ],
)  # fmt: skip
def test_the_entry_that_fits(tmp_path, auths, registry, repository, user):
    """The longest that fits; a password may hold colons."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": auths}))
    assert (Login(user, "pa:ss") if user else None) == login(file, registry, repository)


def test_tokens_are_read(tmp_path):
    """Identity and registry tokens come with or without a user."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {"r.example": {"identitytoken": "i", "registrytoken": "r"}}}))
    assert Login(identity_token="i", registry_token="r") == login(file, "r.example", "a")


def test_a_login_does_not_show(tmp_path):
    """Neither printed nor logged."""
    assert repr(Login("ann", "secret", "i", "r")) == "Login()"


@given(
    st.one_of(
        st.binary(max_size=50),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.dictionaries(
                st.sampled_from(["auths", "r.example", "auth", "username", "credHelpers"]), inner
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_file_is_read_or_named(tmp_path_factory, content):
    """Whatever is in it, the file gives a login, none, or an error that names it."""
    file = tmp_path_factory.mktemp("config") / "config.json"
    file.write_bytes(content)
    said = ""
    try:
        found = login(file, "r.example", "a")
    except InvalidInput as error:
        found, said = None, str(error)
    assert isinstance(found, Login | None)
    assert not said or str(file) in said
