"""Secrets of receivers, read anew at every delivery so that rotation needs no restart. Never logged, never in an error.

A file named in the configuration is taken as it is when absolute, else from the credentials directory; a ``credential_ref``
is the name of a file there, as a projected Secret lays them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from kubernaut_ray.errors import Permanent


@dataclass(frozen=True, slots=True)
class Credentials:
    directory: Path | None = None

    def read(self, what: str, value: SecretStr | None, file: Path | None, reference: str = "") -> str:
        """Return the secret from wherever it was put; empty when it was put nowhere. Raises ``Permanent``."""
        if value is not None:
            return value.get_secret_value()
        if file is None and not reference:
            return ""
        return self._file(what, file if file is not None else Path(self._named(what, reference)))

    def _named(self, what: str, reference: str) -> str:
        if "/" in reference or reference in {".", ".."}:
            raise Permanent(f"{what}: credential_ref is the name of a file, not a path", reason="CredentialMissing")
        return reference

    def _file(self, what: str, file: Path) -> str:
        if not file.is_absolute() and self.directory is None:
            raise Permanent(
                f"{what}: credential file {file.name} is looked for in the credentials directory, and none is set "
                "(notification.credentials_directory)",
                reason="CredentialMissing",
            )
        path = file if file.is_absolute() or self.directory is None else self.directory / file
        try:
            secret = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise Permanent(f"{what}: credential file {path.name}: {why}", reason="CredentialMissing") from None
        if not secret:
            raise Permanent(f"{what}: credential file {path.name} is empty", reason="CredentialMissing")
        return secret
