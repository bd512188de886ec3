"""What was told last of the objects around a key: versions never go back, and nothing stays that may be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.kube.client import Object
from tests import build

KEY = Key("kubernaut-system", "rr-1")
PLURAL = RemediationRequest.META.plural


def version(text: str, name: str = "rr-1") -> Object:
    body = build.remediation_request(name).to_object()
    body["metadata"]["resourceVersion"] = text
    return body


def holding(keys: int = 4) -> Recall:
    recall = Recall()
    recall.hold(keys)
    return recall


def known(recall: Recall, key: Key = KEY) -> str | None:
    found = recall.get(key, RemediationRequest, key.name)
    return None if found is None else found.metadata.resource_version


def test_it_holds_nothing_until_it_is_asked_to() -> None:
    """Controllers that do not read from it pay nothing for it."""
    recall = Recall()
    recall.note(KEY, PLURAL, version("1"))
    assert (known(recall), len(recall)) == (None, 0)


@given(st.lists(st.integers(1, 1000), min_size=1))
def test_the_newest_version_wins_however_late_the_others_come(versions: list[int]) -> None:
    """An event may be late: behind a newer one of another connection, behind the answer to our own write."""
    recall = holding()
    for one in versions:
        recall.note(KEY, PLURAL, version(str(one)))
    assert known(recall) == str(max(versions))


def test_versions_that_do_not_compare() -> None:
    """Where nobody can say which is newer, neither is believed."""
    recall = holding()
    recall.note(KEY, PLURAL, version("abc"))
    assert known(recall) == "abc"
    recall.note(KEY, PLURAL, version("abc"))
    assert known(recall) == "abc"
    recall.note(KEY, PLURAL, version("def"))
    assert known(recall) is None


def test_a_model_is_made_once() -> None:
    """The second reading of one version is the same value."""
    recall = holding()
    recall.note(KEY, PLURAL, version("1"))
    first = recall.get(KEY, RemediationRequest, "rr-1")
    assert first is recall.get(KEY, RemediationRequest, "rr-1")
    assert recall.get(KEY, SignalProcessing, "rr-1") is None


def test_a_spec_is_read_once_a_generation() -> None:
    """The API server counts generations for that: another status leaves the spec, another generation or object does not."""
    recall, said = holding(), version("1")
    said["metadata"] |= {"generation": 1, "uid": "u-1"}
    recall.note(KEY, PLURAL, said)
    first = recall.get(KEY, RemediationRequest, "rr-1")
    assert first is not None

    def later(number: int, **metadata: object) -> RemediationRequest:
        body = {**said, "metadata": {**said["metadata"], "resourceVersion": str(number), **metadata}}
        recall.note(KEY, PLURAL, {**body, "status": {"message": f"version {number}"}})
        found = recall.get(KEY, RemediationRequest, "rr-1")
        assert found is not None
        assert (found.metadata.resource_version, found.status.message) == (str(number), f"version {number}")
        assert found.spec == first.spec
        return found

    assert later(2).spec is first.spec
    recall.note(KEY, PLURAL, {**said, "metadata": {**said["metadata"], "resourceVersion": "3"}})
    assert later(4).spec is first.spec
    other = later(5, generation=2)
    assert other.spec is not first.spec
    assert later(6, generation=2).spec is other.spec
    assert later(7, generation=2, uid="u-2").spec is not other.spec
    assert later(8, generation=0).spec is not later(9, generation=0).spec
    recall.forget(KEY)
    assert later(10, generation=0).spec is not first.spec


def test_the_least_recently_told_key_goes_first() -> None:
    """Memory is bounded by keys; forgetting one forgets all around it and nothing else."""
    recall = holding(2)
    keys = [Key("kubernaut-system", f"rr-{n}") for n in range(3)]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        recall.note(key, PLURAL, version("1", key.name))
    assert [known(recall, key) for key in keys] == ["1", None, "1"]
    recall.forget(keys[0])
    assert [known(recall, key) for key in keys] == [None, None, "1"]
    recall.clear()
    assert len(recall) == 0


def test_what_is_older_is_not_believed_of_what_was_forgotten() -> None:
    """Forgotten is what an object was, never how far it had come: a watch that lags must not bring back an earlier life."""
    recall = holding()
    recall.note(KEY, PLURAL, version("7"))
    recall.forget(KEY)
    assert known(recall) is None
    recall.note(KEY, PLURAL, version("5"))
    assert known(recall) is None
    recall.note(KEY, PLURAL, version("7"))
    assert known(recall) == "7"
    recall.forget(KEY)
    recall.note(KEY, PLURAL, version("8"))
    assert known(recall) == "8"
