"""One attempt at a TaskRun: its steps in order in a scratch folder, and what came of them.

The folder takes the place of a pod's mounts: ``/tekton/results`` and ``/workspace`` in a spec mean folders inside it, and
``$(results.X.path)``, ``$(workspaces.W.path)``, ``$(step.results.R.path)`` name them. A step's environment is what the
spec says plus ``PATH``, ``HOME``, ``TMPDIR``, ``LANG`` and ``KUBECONFIG``; nothing of the runner's own leaks in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from kubernaut_ray import clock
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.kube.pipelines import process
from kubernaut_ray.kube.pipelines.conditions import Reason
from kubernaut_ray.kube.pipelines.process import CannotStart, Ended
from kubernaut_ray.kube.pipelines.spec import EnvVar, ParamValue, ResultSpec, Step, TaskSpec
from kubernaut_ray.kube.pipelines.variables import substitute, text

MAX_RESULT = 4096
"""Tekton's limit on what a step may say through results."""
NOT_STARTED = 127
_MOUNTS = re.compile(r"(?<![\w/.-])(/tekton/results|/tekton/home|/workspace)(?![\w-])")

EnvSource = Callable[[Mapping[str, Any]], Awaitable[str]]
"""Reads a ``valueFrom`` (secretKeyRef or configMapKeyRef). Raises ``CannotStart``."""
Report = Callable[[list[dict[str, Any]]], Awaitable[None]]
"""Tells the state of the steps, between them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a TaskRun's status will say."""

    ok: bool
    reason: str
    message: str
    steps: list[dict[str, Any]]
    results: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folders of one attempt."""

    root: Path

    def make(self, spec: TaskSpec) -> None:
        for folder in (self.home, self.tmp, self.results, self.work, self.scripts):
            folder.mkdir(parents=True, exist_ok=True)
        for workspace in spec.workspaces:
            (self.work / workspace.name).mkdir(exist_ok=True)
        self.root.chmod(0o700)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def work(self) -> Path:
        return self.root / "workspace"

    @property
    def scripts(self) -> Path:
        return self.root / "scripts"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    def step(self, name: str) -> Path:
        return self.root / "steps" / name

    def mounted(self, value: str) -> str:
        """Map the paths of a pod into this folder."""
        places = {"/tekton/results": self.results, "/tekton/home": self.home, "/workspace": self.work}
        return _MOUNTS.sub(lambda m: str(places[m[1]]), value)


class Attempt:
    """Runs the steps of one TaskRun once."""

    def __init__(
        self,
        uid: str,
        spec: TaskSpec,
        variables: Mapping[str, ParamValue],
        scratch: Scratch,
        logs: Path,
        *,
        environment: EnvSource,
        report: Report,
        timeout: float | None,
        suffix: str = "",
    ) -> None:
        self._uid = uid
        self._spec = spec
        self._scratch = scratch
        self._logs = logs
        self._environment = environment
        self._report = report
        self._deadline = time.monotonic() + timeout if timeout else None
        self._timeout = timeout
        self._suffix = suffix
        self._variables: dict[str, ParamValue] = dict(variables)
        for result in spec.results:
            self._variables[f"results.{result.name}.path"] = str(scratch.results / result.name)
        for workspace in spec.workspaces:
            self._variables[f"workspaces.{workspace.name}.path"] = str(scratch.work / workspace.name)
            self._variables[f"workspaces.{workspace.name}.bound"] = "true"

    async def run(self) -> Outcome:
        """Run every step until one fails. Cancelling kills the running step; the caller then says what that means."""
        self._scratch.make(self._spec)
        self._logs.mkdir(parents=True, exist_ok=True)
        states: list[dict[str, Any]] = []
        failure: tuple[str, str] | None = None
        last = len(self._spec.steps) - 1
        for index, step in enumerate(self._spec.steps):
            name = step.name or f"unnamed-{index}"
            if failure:
                states.append(_terminated(name, 1, "Error", "Skipped", None))
                continue
            started = clock.utcnow()
            try:
                ended = await self._step(step, name)
            except CannotStart as error:
                states.append(_terminated(name, NOT_STARTED, "Error", "Error", started, str(error)))
                failure = (Reason.FAILED, f'"step-{name}" cannot start: {error}')
                continue
            ignored = step.on_error == "continue" and not ended.timed_out
            states.append(self._state(name, ended, started, ignored=ignored))
            self._collect(step, name, ended)
            if ended.timed_out and self._over():
                failure = (Reason.TASK_TIMEOUT, self.timeout_message())
            elif ended.timed_out:
                failure = (Reason.TASK_TIMEOUT, f'"step-{name}" exited because the step exceeded its timeout')
            elif ended.exit_code and not ignored:
                failure = (Reason.FAILED, f'"step-{name}" exited with code {ended.exit_code}{_last_line(ended.tail)}')
            elif index != last:
                await self._report(states)
        results, problem = self._results()
        if failure is None and problem is not None:
            failure = problem
        if failure:
            return Outcome(False, failure[0], failure[1], states, results)
        return Outcome(True, Reason.SUCCEEDED, "All Steps have completed executing", states, results)

    def timeout_message(self) -> str:
        return f'TaskRun failed to finish within "{self._timeout or 0:g}s"'

    def _over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    async def _step(self, step: Step, name: str) -> Ended:
        folder = self._scratch.step(name)
        (folder / "results").mkdir(parents=True, exist_ok=True)
        template = self._spec.step_template or Step()
        variables = {
            **self._variables,
            **{f"step.results.{r.name}.path": str(folder / "results" / r.name) for r in step.results},
        }
        env = await self._env((*template.env, *step.env), variables)
        script = self._text(step.script, variables)
        if script:
            command = process.command_of_script(script, self._scratch.scripts / name, env["PATH"])
        else:
            words = [*(step.command or template.command), *(step.args or template.args)]
            if not (step.command or template.command):
                raise CannotStart("it has neither script nor command, and the image's own entrypoint is not known here")
            command = process.command_of([self._scratch.mounted(w) for w in substitute(words, variables)], env["PATH"])
        if script and step.args:
            command += [self._scratch.mounted(a) for a in substitute(list(step.args), variables)]
        cwd = self._scratch.work / self._text(step.working_dir or template.working_dir, variables)
        cwd.mkdir(parents=True, exist_ok=True)
        remaining = self._deadline - time.monotonic() if self._deadline is not None else None
        limits = [max(0.05, t) for t in (remaining, step.timeout or None) if t is not None]
        log = self._logs / f"{name}{self._suffix}.log"
        return await process.run(command, env=env, cwd=cwd, log=log, timeout=min(limits, default=None))

    async def _env(self, declared: tuple[EnvVar, ...], variables: Mapping[str, ParamValue]) -> dict[str, str]:
        env = {
            "PATH": process.host_path(),
            "HOME": str(self._scratch.home),
            "TMPDIR": str(self._scratch.tmp),
            "LANG": "C.UTF-8",
            "KUBECONFIG": str(self._scratch.kubeconfig),
        }
        for variable in declared:
            source = substitute(variable.value_from, variables) if variable.value_from else None
            env[variable.name] = await self._environment(source) if source else self._text(variable.value, variables)
        return {**env, process.MARK: self._uid}

    def _text(self, value: str, variables: Mapping[str, ParamValue]) -> str:
        return self._scratch.mounted(text(value, variables))

    def _state(self, name: str, ended: Ended, started: Any, *, ignored: bool) -> dict[str, Any]:
        if ended.timed_out:
            return _terminated(name, ended.exit_code, "Error", "TimeoutExceeded", started, ended.tail)
        if ended.exit_code == 0:
            return _terminated(name, 0, "Completed", "Completed", started)
        word = "Continued" if ignored else "Error"
        return _terminated(name, ended.exit_code, "Error", word, started, ended.tail)

    def _collect(self, step: Step, name: str, ended: Ended) -> None:
        """Make a step's results and exit code known to the steps after it."""
        folder = self._scratch.step(name)
        (folder / "exitCode").write_text(str(ended.exit_code))
        self._variables[f"steps.step-{name}.exitCode.path"] = str(folder / "exitCode")
        for result in step.results:
            path = folder / "results" / result.name
            if path.is_file():
                self._variables[f"steps.{name}.results.{result.name}"] = path.read_text(errors="replace")[:MAX_RESULT]

    def _results(self) -> tuple[list[dict[str, Any]], tuple[str, str] | None]:
        """Read what was written; the second value says what is wrong with it."""
        found: list[dict[str, Any]] = []
        for result in self._spec.results:
            path = self._scratch.results / result.name
            if result.value is not None:
                found.append(
                    {"name": result.name, "type": result.type, "value": substitute(result.value, self._variables)}
                )
                continue
            if not path.is_file():
                continue
            if path.stat().st_size > MAX_RESULT:
                message = f"result {result.name} is {path.stat().st_size} bytes, at most {MAX_RESULT} are taken"
                return found, (Reason.RESULT_TOO_LARGE, message)
            try:
                found.append({"name": result.name, "type": result.type, "value": _result_value(result, path)})
            except ValueError as error:
                return found, (Reason.FAILED, f"result {result.name} is not of type {result.type}: {error}")
        return found, None


def _result_value(result: ResultSpec, path: Path) -> ParamValue:
    content = path.read_bytes()
    if result.type == "string":
        return content.decode(errors="replace")
    value = orjson.loads(content)
    if isinstance(value, list if result.type == "array" else dict):
        return value
    raise ValueError(f"it holds a JSON {type(value).__name__}")


def _last_line(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return f": {lines[-1][:400]}" if lines else ""


def _terminated(name: str, code: int, reason: str, word: str, started: Any, message: str = "") -> dict[str, Any]:
    """Return a ``StepState``. ``word`` is its terminationReason."""
    now = clock.utcnow()
    terminated = {
        "exitCode": code,
        "reason": reason,
        "startedAt": rfc3339(started or now),
        "finishedAt": rfc3339(now),
        **({"message": message} if message else {}),
    }
    return {"name": name, "container": f"step-{name}", "terminated": terminated, "terminationReason": word}


def interrupted(steps: list[dict[str, Any]], spec: TaskSpec | None, word: str, message: str) -> list[dict[str, Any]]:
    """Return the step states of an attempt that was ended from outside: the running step is terminated with ``word``."""
    states = list(steps)
    for index, step in enumerate(spec.steps if spec else ()):
        if index >= len(states):
            name = step.name or f"unnamed-{index}"
            first = index == len(steps)
            states.append(_terminated(name, 255 if first else 1, "Error", word if first else "Skipped", None, message))
    return states
