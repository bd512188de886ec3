"""An ordinary container image that is a workflow: ``/workflow-schema.yaml`` at its root, and a program to run as a Job.

The other form of a bundle beside Tekton's (``oci.py``): no layer carries Tekton's annotations, the image is what runs. Layers
are looked through from the top, because a schema is copied last and lies in a small one; a layer that cannot be read, or is
larger than what is fetched at all, ends the search. A deleted file (whiteout) is not looked for below.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from kubernaut_ray.errors import InvalidInput

SCHEMA_FILE = "workflow-schema.yaml"
MAX_SCHEMA = 65_536
MAX_UNPACKED = 64 * 1024 * 1024
MAX_SEARCHED = 6


def schema_of(layers: Sequence[dict[str, Any]], fetch: Callable[[str], bytes]) -> str:
    """Return the text of the image's schema; empty when none is found."""
    for layer in list(reversed(layers))[:MAX_SEARCHED]:
        try:
            found = _look(_plain(fetch(str(layer["digest"]))))
        except (InvalidInput, zlib.error, tarfile.TarError, UnicodeDecodeError, EOFError, OSError):
            return ""
        if found is not None:
            return found
    return ""


def _look(content: bytes) -> str | None:
    """Return the schema of one layer; ``None`` to look below, empty when this layer deletes it."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            name = member.name.removeprefix("./").lstrip("/")
            if name in (f".wh.{SCHEMA_FILE}", ".wh..wh..opq"):
                return ""
            if name == SCHEMA_FILE and member.isfile() and member.size <= MAX_SCHEMA:
                file = archive.extractfile(member)
                return file.read().decode() if file else ""
    return None


def _plain(blob: bytes) -> bytes:
    if blob[:2] != b"\x1f\x8b":
        return blob
    content = zlib.decompressobj(wbits=31).decompress(blob, MAX_UNPACKED + 1)
    if len(content) > MAX_UNPACKED:
        raise InvalidInput(f"a layer unpacks to more than {MAX_UNPACKED} bytes", reason="NotABundle")
    return content
