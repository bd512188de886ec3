"""Routing by Alertmanager's rules, from a file that may change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from actors.notification import config
from actors.notification.config import RouteConfig, RoutingFile
from actors.notification.route import Route, Routing, Table, attributes
from kubernaut_ray.errors import InvalidInput
from tests import build

TREE = """
route:
  receiver: everything
  group_by: [alertname]
  routes:
    - receiver: audit
      continue: true
    - receiver: ops
      match: {team: ops}
      routes:
        - receiver: pager
          matchers: ['severity="critical"']
        - receiver: ops-night
          match_re: {hour: "2[0-3]|0[0-6]"}
          continue: true
        - matchers: [owner=db]
          receiver: dba
    - receiver: both-a
      matchers: [kind="both"]
      continue: true
    - receiver: both-b
      matchers: [kind="both"]
    - receiver: never
      matchers: [kind="both"]
receivers:
  - {name: everything, log_configs: [{}]}
  - {name: audit, file_configs: [{}]}
  - {name: ops, log_configs: [{}]}
  - {name: pager, log_configs: [{}]}
  - {name: ops-night, log_configs: [{}]}
  - {name: dba, log_configs: [{}]}
  - {name: both-a, log_configs: [{}]}
  - {name: both-b, log_configs: [{}]}
  - {name: never, log_configs: [{}]}
"""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({}, ["audit"], id="a route without matchers takes everything, then goes on"),
        pytest.param({"team": "ops"}, ["audit", "ops"], id="the route itself where no child matches"),
        pytest.param({"team": "ops", "severity": "critical"}, ["audit", "pager"], id="the deepest match wins"),
        pytest.param(
            {"team": "ops", "severity": "critical", "hour": "23"},
            ["audit", "pager"],
            id="the first without continue ends",
        ),
        pytest.param(
            {"team": "ops", "hour": "23", "owner": "db"},
            ["audit", "ops-night", "dba"],
            id="continue to the next sibling",
        ),
        pytest.param({"team": "ops", "hour": "230"}, ["audit", "ops"], id="expressions are anchored"),
        pytest.param({"kind": "both"}, ["audit", "both-a", "both-b"], id="continue is not for ever"),
        pytest.param({"severity": "critical"}, ["audit"], id="a parent that does not match hides its children"),
    ],
)
def test_alertmanager_semantics(labels: dict[str, str], expected: list[str]) -> None:
    """Depth first, deepest wins, continue."""
    table = Table.of(RoutingFile.model_validate(yaml.safe_load(TREE)))
    assert expected == list(table.resolve(labels))


def test_the_root_takes_what_nobody_else_wants() -> None:
    """No child matches: the root's receiver."""
    file = {
        "route": {"receiver": "all", "routes": [{"receiver": "x", "match": {"a": "b"}}]},
        "receivers": [{"name": "all", "log_configs": [{}]}, {"name": "x"}],
    }
    assert Table.of(RoutingFile.model_validate(file)).resolve({"a": "c"}) == ("all",)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        pytest.param({"route": {}}, "root route needs a receiver", id="no root receiver"),
        pytest.param({"route": {"receiver": "a", "match": {"x": "y"}}}, "must not have matchers", id="root matchers"),
        pytest.param({"route": {"receiver": "a", "continue": True}}, "must not have continue", id="root continue"),
        pytest.param({"route": {"receiver": "b"}}, "'b' is not defined", id="unknown receiver"),
        pytest.param(
            {"route": {"receiver": "a", "routes": [{"receiver": "a", "contine": True}]}}, "contine", id="misspelt key"
        ),
        pytest.param(
            {"route": {"receiver": "a", "routes": [{"receiver": "a", "mute_time_intervals": ["night"]}]}},
            "mute_time_intervals",
            id="a time interval, which is not supported",
        ),
        pytest.param(
            {"route": {"receiver": "a", "routes": [{"matchers": ["a=~("]}]}}, "does not compile", id="bad expression"
        ),
        pytest.param({"receivers": [{"name": "a"}, {"name": "a"}]}, "must be unique", id="two of one name"),
        pytest.param(
            {"receivers": [{"name": "a", "opsgenie_configs": [{}]}]}, "opsgenie_configs", id="unknown channel"
        ),
        pytest.param({"receivers": [{"name": "a", "slack_configs": [{}]}]}, "needs a url", id="slack without address"),
        pytest.param(
            {"receivers": [{"name": "a", "email_configs": [{"to": "x@y.z"}]}]},
            "needs from, smarthost",
            id="mail to nowhere",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path, change: dict[str, object], hint: str) -> None:
    """Whatever would change who is told must be right."""
    file = tmp_path / "routing.yaml"
    file.write_text(yaml.safe_dump({"route": {"receiver": "a"}, "receivers": [{"name": "a"}], **change}))
    with pytest.raises(InvalidInput, match=hint):
        config.load(file)


def test_a_real_alertmanager_file_is_understood(tmp_path: Path) -> None:
    """Global defaults are filled in; what has no effect here is named."""
    file = tmp_path / "alertmanager.yml"
    file.write_text(
        """
        global:
          smtp_smarthost: mail:25
          smtp_from: kubernaut@example.org
          slack_api_url: https://hooks.slack.com/services/T/B/secret
          resolve_timeout: 5m
        templates: ["*.tmpl"]
        route:
          receiver: team
          group_wait: 30s
        receivers:
          - name: team
            slack_configs:
              - {channel: "#ops", send_resolved: true, title: "{{ .x }}"}
            email_configs:
              - {to: ops@example.org}
            pagerdutyConfigs:
              - {routingKeyFile: pd-key}
        """
    )
    loaded = config.load(file)
    [team] = loaded.receivers
    assert team.slack_configs[0].url is not None
    assert team.email_configs[0].smarthost == "mail:25"
    assert team.pagerduty_configs[0].url == "https://events.pagerduty.com/v2/enqueue"
    assert set(loaded.ignored()) == {"templates", "team/slack.send_resolved", "team/slack.title"}
    assert "secret" not in repr(loaded)


def test_a_changed_file_is_in_force_at_once_and_a_wrong_one_never(tmp_path: Path) -> None:
    """Hot reload keeps the last good routing."""
    file = tmp_path / "routing.yaml"
    good = {"route": {"receiver": "a"}, "receivers": [{"name": "a"}, {"name": "b"}]}
    file.write_text(yaml.safe_dump(good))
    routing = Routing(file)
    assert routing.load().resolve({}) == ("a",)
    file.write_text("route: [")
    os.utime(file, ns=(1, 1))
    assert routing.current().resolve({}) == ("a",)
    assert "routing.yaml" in routing.problem
    file.write_text(yaml.safe_dump({**good, "route": {"receiver": "b"}}))
    os.utime(file, ns=(2, 2))
    assert (routing.current().resolve({}), routing.problem) == (("b",), "")
    file.unlink()
    assert routing.current().resolve({}) == ("b",)


def test_without_a_file_everything_is_logged_and_written() -> None:
    """The default tells the log and the file channel."""
    table = Routing(None).load()
    [name] = table.resolve({"type": "approval"})
    assert [key for key, _ in table.receivers[name].channels()] == ["log", "file"]


def test_two_ways_of_one_kind_are_two_deliveries() -> None:
    """Two Slack configurations in one receiver do not share attempts."""
    url = {"api_url": "https://hooks.slack.com/x"}
    file = {
        "route": {"receiver": "a"},
        "receivers": [{"name": "a", "slack_configs": [url, url], "log_configs": [{}, {"enabled": False}]}],
    }
    [receiver] = RoutingFile.model_validate(file).receivers
    assert [key for key, _ in receiver.channels()] == ["log", "slack[0]", "slack[1]"]


def test_attributes_can_be_matched_in_each_spelling() -> None:
    """With hyphen, with underscore, and as a label."""
    notice = build.notification_request(spec={"metadata": {"skip-reason": "ResourceBusy", "severity": "high"}})
    found = attributes(notice)
    assert found["type"] == found["kubernaut.ai/notification-type"] == "completion"
    assert found["skip-reason"] == found["skip_reason"] == found["kubernaut.ai/skip-reason"] == "ResourceBusy"


def _trees() -> st.SearchStrategy[RouteConfig]:
    def grown(children: st.SearchStrategy[tuple[RouteConfig, ...]]) -> st.SearchStrategy[RouteConfig]:
        return st.builds(
            RouteConfig,
            receiver=st.sampled_from(["", "a", "b", "c"]),
            match=st.dictionaries(st.sampled_from("xy"), st.sampled_from(["1", "2", ""]), max_size=2),
            continue_=st.booleans(),
            routes=children,
        )

    leaves = grown(st.just(()))
    return st.recursive(leaves, lambda inner: grown(st.lists(inner, max_size=3).map(tuple)), max_leaves=8)


@given(
    children=st.lists(_trees(), max_size=4),
    labels=st.dictionaries(st.sampled_from("xy"), st.sampled_from(["1", "2"]), max_size=2),
)
def test_somebody_is_always_told(children: list[RouteConfig], labels: dict[str, str]) -> None:
    """Whatever the tree, the root catches the rest, and every receiver is one of the tree's."""
    root = Route.of(RouteConfig(receiver="root", routes=tuple(children)))
    found = root.match(labels)
    assert found
    assert {route.receiver for route in found} <= {"root", "a", "b", "c"}
    assert all(matcher.matches(labels) for route in found for matcher in route.matchers)
