from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from kubernaut_ray.kube.pipelines import process
from kubernaut_ray.kube.pipelines.process import (
    MARK,
    CannotStart,
    command_of,
    command_of_script,
    host_path,
    kill_orphans,
)


def alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def shell(script, tmp_path, *, timeout=None, **env):
    return await process.run(
        ["/bin/sh", "-c", script], env={"PATH": host_path(), **env}, cwd=tmp_path, log=tmp_path / "log", timeout=timeout
    )


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)])
async def test_exit_codes_are_those_of_a_shell(script, code, tmp_path):
    """128 + signal for what was killed."""
    assert code == (await shell(script, tmp_path)).exit_code


async def test_output_is_kept_and_bounded(tmp_path):
    """The log ends at its limit, the process does not; the end of the output is known."""
    ended = await shell("yes 0123456789 | head -c 3000000; echo; echo the end", tmp_path)
    assert ended.exit_code == 0
    assert (tmp_path / "log").stat().st_size < process.MAX_LOG + 100
    assert b"was dropped" in (tmp_path / "log").read_bytes()
    assert ended.tail.rstrip().endswith("the end")


async def test_a_timeout_kills_the_whole_group(tmp_path):
    """Children of the step included."""
    ended = await shell("sleep 60 & echo $! > child; wait", tmp_path, timeout=0.3)
    assert ended.timed_out
    await until(lambda: not alive(int((tmp_path / "child").read_text())))


async def test_what_a_step_leaves_running_ends_with_it(tmp_path):
    """Like the processes of a container; and it does not hold the step open."""
    began = time.monotonic()
    ended = await shell("sleep 60 & echo $! > child", tmp_path)
    assert ended.exit_code == 0
    assert time.monotonic() - began < 5
    await until(lambda: not alive(int((tmp_path / "child").read_text())))


async def test_cancelling_ends_the_process(tmp_path):
    """And waits until it has ended."""
    running = asyncio.create_task(shell("echo $$ > pid; exec sleep 60", tmp_path))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_a_step_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    """The grace is limited."""
    monkeypatch.setattr(process, "GRACE", 0.2)
    ended = await shell("trap '' TERM; sleep 60", tmp_path, timeout=0.3)
    assert ended.timed_out
    assert ended.exit_code == 137


@pytest.mark.parametrize(
    ("script", "command"),
    [
        pytest.param("echo hi", "/bin/sh", id="the shell by default"),
        pytest.param("#!/usr/bin/env python3\n", "python3", id="by env"),
        pytest.param("#!/usr/bin/env -S python3 -I\n", "python3", id="by env with arguments"),
        pytest.param("#!/opt/strange/python3\n", "python3", id="an interpreter that lies elsewhere here"),
    ],
)
def test_the_interpreter_is_found_on_the_host(script, command, tmp_path):
    """The image's paths need not be the host's."""
    found = command_of_script(script, tmp_path / "s", host_path())
    assert found[0].endswith(command)
    assert str(tmp_path / "s") == found[-1]
    assert os.access(tmp_path / "s", os.X_OK)


@pytest.mark.parametrize("script", ["#!/usr/bin/env no-such-thing\n", "#!/opt/no-such-thing -x\n", "#!\n"])
def test_a_missing_interpreter_is_a_clear_failure(script, tmp_path):
    """Not a bare 127."""
    with pytest.raises(CannotStart, match="interpreter"):
        command_of_script(script, tmp_path / "s", host_path())


def test_a_missing_program_is_a_clear_failure():
    """The name is told."""
    with pytest.raises(CannotStart, match="kubectl-nowhere"):
        command_of(["kubectl-nowhere", "get"], host_path())


async def test_orphans_are_found_by_their_mark(tmp_path):
    """What a killed runner left behind is recognised and killed."""
    orphan = await asyncio.create_subprocess_exec(
        "/bin/sleep", "60", env={MARK: "uid-1"}, start_new_session=True, stdin=asyncio.subprocess.DEVNULL
    )
    assert kill_orphans("uid-2") == 0
    # Its environment can be read a moment after it has begun.
    await until(lambda: kill_orphans("uid-1") == 1, 15)
    assert await orphan.wait() == -signal.SIGKILL


async def test_steps_die_with_the_runner(tmp_path):
    """``kill -9`` of the runner takes the step along."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from kubernaut_ray.kube.pipelines import process\n"
        "asyncio.run(process.run(['/bin/sh', '-c', 'echo $$ > pid; exec sleep 60'], env={'PATH': '/bin:/usr/bin'},"
        " cwd=pathlib.Path(sys.argv[1]), log=pathlib.Path(sys.argv[1]) / 'log', timeout=None))\n"
    )
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), cwd=Path(__file__).parents[4]
    )
    pid = tmp_path / "pid"
    await until(lambda: pid.exists() and pid.read_text().strip(), 15)
    runner.kill()
    await runner.wait()
    await until(lambda: not alive(int(pid.read_text())))
