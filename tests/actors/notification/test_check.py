"""What is found wrong with receivers before they are needed."""

from __future__ import annotations

from pathlib import Path

from actors.notification.check import unusable
from actors.notification.config import RoutingFile
from actors.notification.credentials import Credentials
from actors.notification.route import Table


def test_every_missing_credential_is_named(tmp_path: Path) -> None:
    """One line for each, with the receiver and the file; what is there is no trouble."""
    (tmp_path / "here").write_text("https://hooks.example.org/secret")
    (tmp_path / "empty").write_text("\n")
    receivers = [
        {"name": "good", "slack_configs": [{"api_url_file": "here"}], "log_configs": [{}]},
        {"name": "gone", "slack_configs": [{"credential_ref": "absent"}]},
        {"name": "blank", "pagerduty_configs": [{"routing_key_file": "empty"}]},
        {"name": "path", "teams_configs": [{"credential_ref": "../../etc/passwd"}]},
        {"name": "hook", "webhook_configs": [{"url": "https://x", "http_config": {"bearer_token_file": "absent"}}]},
    ]
    file = RoutingFile.model_validate({"route": {"receiver": "good"}, "receivers": receivers})
    found = list(unusable(Table.of(file), Credentials(tmp_path)))
    assert [line.split(":")[0] for line in found] == ["gone/slack", "blank/pagerduty", "path/teams", "hook/webhook"]
    assert "is the name of a file" in found[2]
