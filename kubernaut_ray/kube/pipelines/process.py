"""One step as a child process: its own process group, a scrubbed environment, bounded output, death with the runner.

A container's promises are kept as far as a host can: what a step leaves running is killed when the step ends, and
everything is killed when the runner dies (``PR_SET_PDEATHSIG``; leftovers of a killed runner are found by a mark in their
environment and killed at the next start). The image is not used: the interpreter is the host's.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "KUBERNAUT_STEP"
"""Environment variable whose value is the TaskRun's UID; orphans are recognised by it."""
MAX_LOG = 1_048_576
TAIL = 2048
GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""
_DEFAULT_SHEBANG = "#!/bin/sh\nset -e\n"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. ``exit_code`` is 128 + signal for a killed one; ``tail`` is the end of its output."""

    exit_code: int
    tail: str
    timed_out: bool = False


class CannotStart(Exception):
    """The step's program is not on this host. The message says which, and what would help."""


def host_path() -> str:
    """Return the PATH of steps: this Python's real folder first, so that ``python3`` is always found, then the host's."""
    own = str(Path(sys.executable).resolve().parent)
    host = os.environ.get("PATH", os.defpath)
    return os.pathsep.join(dict.fromkeys([own, *host.split(os.pathsep), *os.defpath.split(os.pathsep)]))


def command_of_script(script: str, path: Path, search: str) -> list[str]:
    """Write a script to ``path`` and return the command that runs it. Raises ``CannotStart`` without its interpreter.

    Like Tekton, a script without ``#!`` runs under ``/bin/sh`` with ``set -e``. An absolute interpreter that the host has
    elsewhere is taken from the PATH.
    """
    body = script if script.startswith("#!") else _DEFAULT_SHEBANG + script
    path.write_text(body)
    path.chmod(0o700)
    words = body.splitlines()[0][2:].split()
    if words and Path(words[0]).name == "env":
        words = [w for w in words[1:] if w != "-S"]
    if not words:
        raise CannotStart("the script's first line names no interpreter")
    interpreter = words[0] if Path(words[0]).is_file() else shutil.which(Path(words[0]).name, path=search)
    if interpreter is None:
        raise CannotStart(
            f"the interpreter {words[0]} is not on this host; install it, or run the pipeline on a cluster with Tekton"
        )
    return [interpreter, *words[1:], str(path)]


def command_of(words: Sequence[str], search: str) -> list[str]:
    """Return a plain command with its program found. Raises ``CannotStart``."""
    program = shutil.which(words[0], path=search)
    if program is None:
        raise CannotStart(f"the program {words[0]} is not on this host; install it, or use a script")
    return [program, *words[1:]]


async def run(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, timeout: float | None) -> Ended:
    """Run a command to its end. Cancelling the task kills the process group (SIGTERM, then SIGKILL) and waits for it."""
    # A pipe of our own: asyncio's would hold ``wait`` until every heir of it has ended, not only the step.
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
    except (OSError, ValueError) as error:
        os.close(reading)
        raise CannotStart(f"{command[0]} cannot be started: {error}") from error
    finally:
        os.close(writing)
    output = asyncio.create_task(_keep(reading, log))
    timed_out = False
    try:
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            timed_out = True
    finally:
        await asyncio.shield(_reap(process))
        tail = await asyncio.shield(_tail_of(output))
    code = process.returncode if process.returncode is not None else -signal.SIGKILL
    return Ended(code if code >= 0 else 128 - code, tail, timed_out)


def kill_orphans(uid: str) -> int:
    """Kill every process that carries this TaskRun's mark; returns how many. Does nothing where there is no ``/proc``."""
    wanted = f"{MARK}={uid}".encode()
    killed = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
                killed += 1
    return killed


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child does between fork and exec: tie its life to the parent's."""

    def tie() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(137)

    return tie


async def _reap(process: asyncio.subprocess.Process) -> None:
    """End whatever is left of the process group."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE)
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


async def _tail_of(output: asyncio.Task[str]) -> str:
    """Return the end of the output; a process that left the group must not hold the step open by its pipe."""
    try:
        return await asyncio.wait_for(output, GRACE)
    except TimeoutError:
        return ""


async def _keep(descriptor: int, log: Path) -> str:
    """Copy the output to the log up to ``MAX_LOG`` bytes and return its end; what is beyond is read and dropped."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    written, tail = 0, deque[bytes](maxlen=2)
    try:
        with log.open("ab") as file:
            while chunk := await reader.read(TAIL):
                tail.append(chunk)
                if written < MAX_LOG:
                    file.write(chunk[: MAX_LOG - written])
                    file.flush()
                    written += len(chunk)
                    if written >= MAX_LOG:
                        file.write(b"\n[output beyond 1 MiB was dropped]\n")
    finally:
        transport.close()
    return b"".join(tail)[-TAIL:].decode(errors="replace")
