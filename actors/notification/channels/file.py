"""The file channel: one JSON or YAML document a notification, written whole or not at all.

The name holds the notification's creation time and not that of the attempt, so a second attempt writes the same file again:
this channel delivers exactly once, also across crashes.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
import yaml

from actors.notification import render
from actors.notification.render import Message
from kubernaut_ray.errors import Permanent, Retryable


@dataclass(frozen=True, slots=True)
class FileChannel:
    directory: Path
    format: Literal["json", "yaml"] = "json"

    async def send(self, message: Message, /) -> None:
        await asyncio.to_thread(self._write, message)

    def _write(self, message: Message) -> None:
        document = render.document(message)
        stamp = f"{message.created:%Y%m%dT%H%M%SZ}"
        path = self.directory / f"notification-{message.name}-{stamp}.{self.format}"
        text = (
            orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            if self.format == "json"
            else yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
        )
        temporary = path.with_name(f".{path.name}.new")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise Permanent(f"file channel: {error.strerror}: {self.directory}", reason="NotWritable") from None
        except OSError as error:
            raise Retryable(f"file channel: {error.strerror}: {self.directory}") from None


def inside(base: Path, wanted: str) -> Path:
    """Return the folder that a notification asks for below the configured one. Raises ``Permanent`` when it leads out."""
    path = (base / wanted).resolve()
    if not path.is_relative_to(base.resolve()):
        raise Permanent(
            f"file channel: outputDirectory {wanted!r} must be a folder below the configured one",
            reason="InvalidAddress",
        )
    return path
