"""A directory of ``*.rego`` files read as one bundle: all of it is in force, or none of it.

Files whose name ends in ``_test.rego`` are the policies' own tests and are read only when asked for. Hidden folders are
skipped, because a mounted ConfigMap keeps a second copy of every file in one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from kubernaut_ray.errors import InvalidInput

MAX_FILES = 200
MAX_BYTES = 1_048_576
"""Of one bundle, all files together."""

_PACKAGE = re.compile(r"^\s*package\s+([A-Za-z_][\w.]*)", re.MULTILINE)
_TEST_RULE = re.compile(r"^(test_\w+)\s+if\b", re.MULTILINE)
Signature = tuple[tuple[str, int, int], ...]
"""(path, modification time in ns, size) of every file: cheap to compare."""


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    """The path below the bundle's directory."""
    source: str

    @property
    def package(self) -> str:
        """``a.b`` of ``package a.b``; empty when the file declares none."""
        found = _PACKAGE.search(self.source)
        return found[1] if found else ""

    @property
    def test_rules(self) -> tuple[str, ...]:
        return tuple(_TEST_RULE.findall(self.source))


@dataclass(frozen=True, slots=True)
class Bundle:
    modules: tuple[Module, ...]
    sha256: str
    """Of names and contents; the same files give the same hash on every machine."""


def is_test(path: Path) -> bool:
    return path.name.endswith("_test.rego")


def signature(directory: Path) -> Signature:
    """Return what changes when a policy file does. Raises ``InvalidInput`` when the directory cannot be read."""
    try:
        stats = [(str(path), path.stat()) for path in _files(directory)]
    except OSError as error:
        raise InvalidInput(f"policies in {directory}: {error.strerror}", reason="PolicyNotFound") from error
    return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)


def load(directory: Path) -> Bundle:
    """Read the policies. Raises ``InvalidInput`` when there are none, too many, or one is not readable as UTF-8."""
    modules = _read(directory, [path for path in _files(directory) if not is_test(path)])
    if not modules:
        raise InvalidInput(f"policies in {directory}: no *.rego file there", reason="PolicyNotFound")
    digest = hashlib.sha256()
    for module in modules:
        for part in (module.name.encode(), module.source.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return Bundle(modules, digest.hexdigest())


def load_tests(directory: Path) -> tuple[Module, ...]:
    """Read the policies' own tests."""
    return _read(directory, [path for path in _files(directory) if is_test(path)])


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise InvalidInput(f"policies in {directory}: no such directory", reason="PolicyNotFound")
    return sorted(
        path
        for path in directory.rglob("*.rego")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )


def _read(directory: Path, paths: list[Path]) -> tuple[Module, ...]:
    if len(paths) > MAX_FILES:
        raise InvalidInput(f"policies in {directory}: {len(paths)} files; at most {MAX_FILES} are read")
    modules, size = [], 0
    for path in paths:
        name = str(path.relative_to(directory))
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"policy {path}: {error}", problems=((name, str(error)),)) from error
        size += len(source.encode())
        if size > MAX_BYTES:
            raise InvalidInput(f"policies in {directory}: more than {MAX_BYTES} bytes together")
        modules.append(Module(name, source))
    return tuple(modules)
