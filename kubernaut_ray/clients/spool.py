"""One file of an audit spool: lines appended by its owner, read from the front, locked as long as the owner lives.

The kernel drops the lock with the process, however it died, so a free lock means that nobody will deliver the rest: any
writer on the same directory may adopt it. A file is locked before it gets the name that adopters look at.
"""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".jsonl"


@dataclass(slots=True)
class Segment:
    """Bytes before ``sent`` are stored by Data Storage; ``size`` is how much was written."""

    path: Path
    fd: int
    sent: int = 0
    size: int = 0

    @classmethod
    def create(cls, directory: Path, component: str) -> Segment:
        """Make a new file, locked before it gets a name that an adopter looks at."""
        path = directory / f"{component}-{uuid.uuid4().hex}{SUFFIX}"
        hidden = path.with_suffix(".new")
        fd = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_RDWR, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
        return cls(path, fd)

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """Take the file of a dead process; ``None`` when its owner lives or somebody else has finished it."""
        try:
            fd = os.open(path, os.O_APPEND | os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        stat = os.fstat(fd)
        if stat.st_nlink == 0:
            os.close(fd)
            return None
        return cls(path, fd, size=stat.st_size)

    def append(self, line: bytes) -> None:
        """Write one whole line or nothing. Raises ``OSError``."""
        try:
            written = os.write(self.fd, line)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        if written != len(line):
            os.ftruncate(self.fd, self.size)
            raise OSError(errno.ENOSPC, f"wrote {written} of {len(line)} bytes to {self.path}")
        self.size += written

    def read_lines(self, limit: int, size: int) -> list[bytes]:
        """Return the next whole lines, at most ``limit`` and about ``size`` bytes; always one when there is one."""
        window = size
        while True:
            chunk = os.pread(self.fd, min(window, self.size - self.sent), self.sent)
            end = chunk.rfind(b"\n")
            if end >= 0:
                return [line + b"\n" for line in chunk[:end].split(b"\n")[:limit]]
            if len(chunk) < window:
                return []
            window *= 4

    def rest(self) -> bytes:
        """Return what follows ``sent``, whole line or not."""
        return os.pread(self.fd, self.size - self.sent, self.sent)

    def clear(self) -> None:
        """Forget what was sent; the file stays for the next lines."""
        if self.size:
            os.ftruncate(self.fd, 0)
            self.sent = self.size = 0

    def release(self) -> None:
        """Let go of the file and its lock; whoever finds it may adopt it."""
        os.close(self.fd)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.fd)
