"""The order of a pipeline's tasks: ``runAfter`` and the results that one task takes from another.

``validate`` names everything that Tekton would refuse: doubled names, unknown tasks, cycles, ``finally`` tasks that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.spec import PipelineSpec, PipelineTask
from kubernaut_ray.kube.pipelines.variables import result_references


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a task waits for: ``results`` of these tasks are needed, the tasks of ``after`` merely come first."""

    results: frozenset[tuple[str, str]]
    after: frozenset[str]

    @property
    def tasks(self) -> frozenset[str]:
        return self.after | {task for task, _ in self.results}


def dependencies(task: PipelineTask) -> Dependencies:
    """Return the dependencies of one task, read from its params, its when expressions and ``runAfter``."""
    used = [p.value for p in task.params] + [[w.input, *w.values] for w in task.when]
    return Dependencies(frozenset(result_references(used)), frozenset(task.run_after))


def validate(spec: PipelineSpec) -> None:
    """Raise ``InvalidInput`` (reason ``PipelineInvalidGraph``) with every problem of the graph."""
    problems = list(_problems(spec))
    if problems:
        raise InvalidInput(
            "the pipeline's graph is not valid: " + "; ".join(problems),
            problems=tuple(("tasks", p) for p in problems),
            reason="PipelineInvalidGraph",
        )


def _problems(spec: PipelineSpec) -> Iterator[str]:
    names = [t.name for t in (*spec.tasks, *spec.finally_)]
    yield from (f"two tasks are named {n}" for n in sorted({n for n in names if names.count(n) > 1}))
    dag = {t.name for t in spec.tasks}
    graph: dict[str, frozenset[str]] = {}
    for task in (*spec.tasks, *spec.finally_):
        if (task.task_ref is None) == (task.task_spec is None):
            yield f"task {task.name} needs exactly one of taskRef and taskSpec"
        needs = dependencies(task).tasks
        yield from (f"task {task.name} depends on {n}, which is no task" for n in sorted(needs - dag))
        if task.name in dag:
            graph[task.name] = needs & dag
    yield from (f"finally task {t.name} must not have runAfter" for t in spec.finally_ if t.run_after)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"tasks wait for one another: {' → '.join(error.args[1])}"
