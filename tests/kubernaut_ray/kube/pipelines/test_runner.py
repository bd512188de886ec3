from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from kubernaut_ray.errors import Permanent
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.runner import Runner, only_one
from kubernaut_ray.kube.resources import CONFIG_MAP, PIPELINE, PIPELINE_RUN, SECRET, SERVICE_ACCOUNT, TASK, TASK_RUN

pytestmark = pytest.mark.integration
ENDED = ("True", "False")


class World:
    """An API, a data directory, and runners that come and go."""

    def __init__(self, kube, kubeconfig, namespace, data):
        self.kube, self.kubeconfig, self.namespace, self.data = kube, kubeconfig, namespace, data
        self.runner = None

    async def start(self, **options):
        cluster = Cluster.read(self.kubeconfig)
        stores = Stores(self.data / "bundles")
        self.runner = Runner(self.kube, cluster, stores, self.data, namespace=self.namespace, **options)
        await self.runner.start()

    async def die(self):
        """End the runner as a kill would: nothing is written any more."""
        self.runner._drain_timeout = 0
        await self.runner.stop()

    async def create(self, name, spec, **rest):
        body = {"metadata": {"name": name, "namespace": self.namespace}, "spec": {"pipelineSpec": spec, **rest}}
        return await self.kube.create(PIPELINE_RUN, body, self.namespace)

    async def ended(self, name, seconds=15.0):
        return await self.until(PIPELINE_RUN, name, lambda o: condition(o).get("status") in ENDED, seconds)

    async def until(self, resource, name, fits, seconds=15.0):
        deadline = time.monotonic() + seconds
        while True:
            found = [o for o in (await self.kube.list(resource, self.namespace)).items if o["metadata"]["name"] == name]
            if found and fits(found[0]):
                return found[0]
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.01)

    async def run(self, name, spec, **rest):
        await self.create(name, spec, **rest)
        return await self.ended(name)

    async def task_run(self, name):
        return await self.kube.get(TASK_RUN, name, self.namespace)

    def log(self, run, task, step="s"):
        return (self.data / "logs" / run / f"{run}-{task}" / f"{step}.log").read_text()


@pytest.fixture
async def world(kube, api_server, namespace, tmp_path):
    world = World(kube, api_server, namespace, tmp_path)
    await world.start()
    yield world
    await world.die()


def condition(obj):
    return ((obj.get("status") or {}).get("conditions") or [{}])[0]


def spec(script="true", **task):
    return {"steps": [{"name": "s", "image": "i", "script": script}], **task}


def one(script="true", **task):
    return {"tasks": [{"name": "a", "taskSpec": spec(script), **task}]}


async def test_a_run_of_several_tasks(world):
    """Results travel along the graph, finally knows how it went, the status is Tekton's."""
    run = await world.run(
        "r",
        {
            "params": [{"name": "WHO"}, {"name": "HOW", "default": "hello"}],
            "tasks": [
                {
                    "name": "a",
                    "params": [{"name": "who", "value": "$(params.WHO)"}],
                    "taskSpec": spec(
                        "echo -n $(params.HOW) $(params.who) > $(results.said.path)",
                        params=[{"name": "who"}],
                        results=[{"name": "said"}],
                    ),
                },
                {
                    "name": "b",
                    "params": [{"name": "heard", "value": "$(tasks.a.results.said)!"}],
                    "taskSpec": spec(
                        'echo -n "$(params.heard)" > /tekton/results/loud', params=[{"name": "heard"}], results=[{"name": "loud"}]
                    ),
                },
            ],
            "finally": [
                {
                    "name": "f",
                    "params": [{"name": "how", "value": "$(tasks.a.status)-$(tasks.status)"}],
                    "taskSpec": spec("echo $(params.how) $(context.pipelineRun.name)", params=[{"name": "how"}]),
                }
            ],
            "results": [{"name": "answer", "value": "<$(tasks.b.results.loud)>"}],
        },
        params=[{"name": "WHO", "value": "world"}],
    )  # fmt: skip
    status = run["status"]
    assert (condition(run)["status"], condition(run)["reason"]) == ("True", "Succeeded")
    assert condition(run)["message"] == "Tasks Completed: 3 (Failed: 0, Cancelled 0), Skipped: 0"
    assert status["results"] == [{"name": "answer", "value": "<hello world!>"}]
    assert [c["pipelineTaskName"] for c in status["childReferences"]] == ["a", "b", "f"]
    assert status["startTime"] <= status["completionTime"]
    assert "Succeeded-Succeeded r" in world.log("r", "f")
    task_run = await world.task_run("r-a")
    assert run["metadata"]["uid"] == task_run["metadata"]["ownerReferences"][0]["uid"]
    assert {"tekton.dev/pipelineRun": "r", "tekton.dev/pipelineTask": "a"}.items() <= task_run["metadata"][
        "labels"
    ].items()
    step = task_run["status"]["steps"][0]
    assert (
        step["name"], step["container"], step["terminated"]["exitCode"], step["terminated"]["reason"],
    ) == ("s", "step-s", 0, "Completed")  # fmt: skip
    assert task_run["status"]["results"] == [{"name": "said", "type": "string", "value": "hello world"}]


@pytest.mark.parametrize(
    ("pipeline", "rest", "reason", "says"),
    [
        pytest.param(one("echo no memory; exit 3"), {}, "Failed", "Failed: 1", id="a failing step"),
        pytest.param(one("sleep 60"), {"timeouts": {"pipeline": "300ms"}}, "PipelineRunTimeout", "failed to finish", id="time"),
        pytest.param(one("#!/usr/bin/env no-such-shell\n"), {}, "Failed", "Failed: 1", id="no interpreter"),
        pytest.param({"params": [{"name": "P"}], **one()}, {}, "ParameterMissing", "P", id="a parameter missing"),
        pytest.param(
            {"params": [{"name": "P"}], **one()}, {"params": [{"name": "P", "value": ["x"]}]}, "ParameterTypeMismatch",
            "type string", id="a parameter of another type",
        ),
        pytest.param({"tasks": []}, {}, "CouldntGetPipeline", "not valid", id="no tasks"),
        pytest.param(one(runAfter=["z"]), {}, "PipelineInvalidGraph", "z, which is no task", id="a wrong graph"),
        pytest.param(
            {**one(), "results": [{"name": "x", "value": "$(tasks.a.results.y)"}]}, {}, "CouldntGetPipelineResult",
            "don't exist", id="a result nobody wrote",
        ),
        pytest.param(
            {**one(), "workspaces": [{"name": "w"}]}, {}, "InvalidWorkspaceBindings", "w", id="a workspace missing"
        ),
        pytest.param({"tasks": [{"name": "a", "taskRef": {"name": "none"}}]}, {}, "Failed", "Failed: 1", id="no such task"),
    ],
)  # fmt: skip
async def test_failures_have_tektons_reasons(world, pipeline, rest, reason, says):
    """Every failure ends the run, with a reason and a message."""
    run = await world.run("r", pipeline, **rest)
    assert ("False", reason) == (condition(run)["status"], condition(run)["reason"])
    assert says in condition(run)["message"]
    assert run["status"]["completionTime"]


async def test_a_failing_step_is_told_in_full(world):
    """Exit code, reason and the last line it said; later steps are skipped."""
    task = {
        "steps": [{"name": "s", "script": "echo first; echo disk full >&2; exit 7"}, {"name": "t", "script": "true"}]
    }
    await world.run("r", {"tasks": [{"name": "a", "taskSpec": task}]})
    task_run = await world.task_run("r-a")
    assert condition(task_run)["message"] == '"step-s" exited with code 7: disk full'
    assert [s["terminationReason"] for s in task_run["status"]["steps"]] == ["Error", "Skipped"]
    assert task_run["status"]["steps"][0]["terminated"]["exitCode"] == 7


async def test_steps_run_in_order_and_share_a_workspace(world):
    """Template environment, working directory, step results, ignored errors."""
    task = {
        "stepTemplate": {"env": [{"name": "A", "value": "template"}, {"name": "B", "value": "kept"}]},
        "workspaces": [{"name": "w"}],
        "steps": [
            {
                "name": "one",
                "env": [{"name": "A", "value": "own"}],
                "workingDir": "$(workspaces.w.path)",
                "results": [{"name": "r"}],
                "onError": "continue",
                "script": 'echo "$A $B" > file; echo -n 42 > $(step.results.r.path); exit 9',
            },
            {"name": "two", "script": "cat /workspace/w/file; echo $(steps.one.results.r) $(cat $(steps.step-one.exitCode.path))"},
            {"name": "three", "command": ["echo"], "args": ["$(params.list[*])", "last"]},
        ],
        "params": [{"name": "list", "type": "array"}],
    }  # fmt: skip
    run = await world.run(
        "r",
        {
            "workspaces": [{"name": "shared"}],
            "tasks": [
                {
                    "name": "a",
                    "taskSpec": task,
                    "params": [{"name": "list", "value": ["x", "y"]}],
                    "workspaces": [{"name": "w", "workspace": "shared"}],
                }
            ],
        },
        workspaces=[{"name": "shared", "emptyDir": {}}],
    )
    assert condition(run)["reason"] == "Succeeded"
    assert world.log("r", "a", "two") == "own kept\n42 9\n"
    assert world.log("r", "a", "three") == "x y last\n"
    assert (await world.task_run("r-a"))["status"]["steps"][0]["terminationReason"] == "Continued"


async def test_the_environment_is_scrubbed(world, monkeypatch):
    """Nothing of the runner's reaches a step but what the spec says; the kubeconfig holds the account's own token."""
    monkeypatch.setenv("RUNNER_SECRET", "top")
    await world.kube.create(SERVICE_ACCOUNT, {"metadata": {"name": "sa"}}, world.namespace)
    task = spec("env; cat $KUBECONFIG > $(results.config.path)", results=[{"name": "config"}])
    run = await world.run(
        "r", {"tasks": [{"name": "a", "taskSpec": task}]}, taskRunTemplate={"serviceAccountName": "sa"}
    )
    assert condition(run)["reason"] == "Succeeded"
    assert "RUNNER_SECRET" not in world.log("r", "a")
    config = json.loads((await world.task_run("r-a"))["status"]["results"][0]["value"])
    user = await world.kube.review_token(config["users"][0]["user"]["token"])
    assert user.username == f"system:serviceaccount:{world.namespace}:sa"


async def test_an_account_that_is_not_there(world):
    """The task fails as a pod that cannot be created would."""
    await world.run("r", one(), taskRunTemplate={"serviceAccountName": "nobody"})
    failed = condition(await world.task_run("r-a"))
    assert (failed["reason"], "nobody" in failed["message"]) == ("PodCreationFailed", True)


async def test_environment_from_secrets_and_config_maps(world):
    """As the kubelet does it."""
    await world.kube.create(SECRET, {"metadata": {"name": "s"}, "data": {"k": "aGlkZGVu"}}, world.namespace)
    await world.kube.create(CONFIG_MAP, {"metadata": {"name": "c"}, "data": {"k": "open"}}, world.namespace)
    env = [
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    ]
    task = {"steps": [{"name": "s", "script": 'test "$S $C" = "hidden open"', "env": env}]}
    assert condition(await world.run("r", {"tasks": [{"name": "a", "taskSpec": task}]}))["reason"] == "Succeeded"
    env[0]["valueFrom"]["secretKeyRef"]["key"] = "other"
    await world.run("q", {"tasks": [{"name": "a", "taskSpec": task}]})
    assert "env from Secret s, key other" in condition(await world.task_run("q-a"))["message"]


async def test_pipelines_and_tasks_by_name(world):
    """References are looked up in the namespace."""
    task = {"metadata": {"name": "t"}, "spec": spec("echo $(params.p)", params=[{"name": "p", "default": "d"}])}
    await world.kube.create(TASK, task, world.namespace)
    pipeline = {"metadata": {"name": "p"}, "spec": {"tasks": [{"name": "a", "taskRef": {"name": "t"}}]}}
    await world.kube.create(PIPELINE, pipeline, world.namespace)
    body = {"metadata": {"name": "r", "namespace": world.namespace}, "spec": {"pipelineRef": {"name": "p"}}}
    await world.kube.create(PIPELINE_RUN, body, world.namespace)
    assert condition(await world.ended("r"))["reason"] == "Succeeded"
    assert world.log("r", "a") == "d\n"


async def test_retries_are_attempts_of_one_task_run(world):
    """Each failure is kept in retriesStatus, the last attempt decides."""
    run = await world.run("r", one("[ $(context.task.retry-count) = 2 ]", retries=2))
    assert condition(run)["reason"] == "Succeeded"
    assert [
        s["steps"][0]["terminated"]["exitCode"] for s in (await world.task_run("r-a"))["status"]["retriesStatus"]
    ] == [1, 1]
    run = await world.run("q", one("exit 1", retries=1))
    assert condition(run)["reason"] == "Failed"
    assert len((await world.task_run("q-a"))["status"]["retriesStatus"]) == 1


async def test_a_task_timeout(world):
    """The task fails, not the pipeline's clock."""
    run = await world.run("r", one("sleep 60", timeout="200ms"))
    assert condition(run)["reason"] == "Failed"
    assert condition(await world.task_run("r-a"))["reason"] == "TaskRunTimeout"


@pytest.mark.parametrize(
    ("requested", "ran"), [("Cancelled", ["a"]), ("CancelledRunFinally", ["a", "f"]), ("StoppedRunFinally", ["a", "f"])]
)
async def test_a_person_ends_a_run(world, requested, ran):
    """At once, or with the finally tasks, or after what runs."""
    pipeline = one("touch $HOME/../../started; sleep 0.5; exit 0" if requested == "StoppedRunFinally" else "sleep 60")
    pipeline["tasks"].append({"name": "b", "runAfter": ["a"], "taskSpec": spec()})
    pipeline["finally"] = [{"name": "f", "taskSpec": spec()}]
    await world.create("r", pipeline)
    await world.until(TASK_RUN, "r-a", lambda t: (t.get("status") or {}).get("startTime"))
    await world.kube.patch(PIPELINE_RUN, "r", {"spec": {"status": requested}}, world.namespace)
    run = await world.ended("r")
    assert (condition(run)["status"], condition(run)["reason"]) == ("False", "Cancelled")
    assert ran == [c["pipelineTaskName"] for c in run["status"]["childReferences"]]
    expected = "Succeeded" if requested == "StoppedRunFinally" else "TaskRunCancelled"
    assert expected == condition(await world.task_run("r-a"))["reason"]


async def test_a_run_that_is_deleted_takes_its_steps_along(world):
    """Nothing goes on without its object."""
    await world.create("r", one("echo $$ > $HOME/../../pid; sleep 60"))
    folder = world.data / "pipelines"

    def pids():
        return [p for p in folder.glob("*/pid") if p.read_text().strip()]

    deadline = time.monotonic() + 10
    while not pids():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    pid = int(pids()[0].read_text())
    await world.kube.delete(PIPELINE_RUN, "r", world.namespace)
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_name_may_return(world):
    """A PipelineRun's name is its target's lock; a later run of that name is a run of its own, with its own log."""
    await world.run("r", one("echo first"))
    await world.kube.delete(PIPELINE_RUN, "r", world.namespace)
    await world.run("r", one("echo second"))
    assert world.log("r", "a") == "second\n"
    assert (world.data / "logs" / "r" / "r-a.previous" / "s.log").read_text() == "first\n"


async def test_a_held_run_waits(world):
    """``PipelineRunPending`` holds it until somebody lets it go."""
    await world.create("r", one(), status="PipelineRunPending")
    await world.until(PIPELINE_RUN, "r", lambda o: condition(o).get("reason") == "PipelineRunPending")
    await world.kube.patch(PIPELINE_RUN, "r", {"spec": {"status": None}}, world.namespace)
    assert condition(await world.ended("r"))["reason"] == "Succeeded"


async def test_scratch_folders_are_removed(world):
    """Tokens and work do not stay behind."""
    await world.run("r", one())
    deadline = time.monotonic() + 5
    while any((world.data / "pipelines").iterdir()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


class TestRestart:
    """A runner that dies and comes back."""

    async def interrupted(self, world, **task):
        script = f"echo x >> {world.data}/count; [ -e {world.data}/pass ] || sleep 60"
        await world.create("r", one(script, **task))
        deadline = time.monotonic() + 10
        while not (world.data / "count").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        await world.die()
        (world.data / "pass").touch()

    async def test_a_step_that_was_running_is_lost_not_repeated(self, world):
        """Nobody knows how far it came, so nothing is run twice silently."""
        await self.interrupted(world)
        await world.start()
        run = await world.ended("r")
        assert condition(run)["reason"] == "Failed"
        task_run = await world.task_run("r-a")
        assert condition(task_run)["reason"] == "TaskRunLost"
        assert "how far the step came is unknown" in task_run["status"]["steps"][0]["terminated"]["message"]
        assert (world.data / "count").read_text() == "x\n"

    async def test_declared_retries_allow_another_attempt(self, world):
        """Whoever declares retries says that a repetition is safe."""
        await self.interrupted(world, retries=1)
        await world.start()
        assert condition(await world.ended("r"))["reason"] == "Succeeded"
        assert (world.data / "count").read_text() == "x\nx\n"
        kept = (await world.task_run("r-a"))["status"]["retriesStatus"]
        assert [s["conditions"][0]["reason"] for s in kept] == ["TaskRunLost"]

    async def test_what_had_not_started_goes_on(self, world):
        """Runs created while nobody watched are taken up."""
        await world.die()
        await world.create("r", one())
        await world.start()
        assert condition(await world.ended("r"))["reason"] == "Succeeded"

    async def test_an_outcome_that_was_not_told_yet_is_told(self, world, monkeypatch):
        """The step ended, the runner died before the API server heard of it."""
        original = KubeClient.patch

        async def deaf(self, resource, name, patch, *args, **kw):
            if resource is TASK_RUN and "completionTime" in patch.get("status", {}):
                await asyncio.sleep(60)
            return await original(self, resource, name, patch, *args, **kw)

        monkeypatch.setattr(KubeClient, "patch", deaf)
        await world.create("r", one(f"echo x >> {world.data}/count"))
        deadline = time.monotonic() + 10
        while not list((world.data / "pipelines").glob("*/outcome.json")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        await world.die()
        monkeypatch.undo()
        await world.start()
        assert condition(await world.ended("r"))["reason"] == "Succeeded"
        assert (world.data / "count").read_text() == "x\n"

    async def test_draining_lets_a_running_step_end(self, world):
        """SIGTERM is no kill."""
        await world.create("r", one("sleep 0.4"))
        await world.until(TASK_RUN, "r-a", lambda t: (t.get("status") or {}).get("startTime"))
        await world.runner.stop()
        assert condition(await world.task_run("r-a"))["reason"] == "Succeeded"
        await world.start()
        assert condition(await world.ended("r"))["reason"] == "Succeeded"


def test_one_runner_a_data_directory(tmp_path):
    """Two of them could not tell a lost step from a running one."""
    with only_one(tmp_path), pytest.raises(Permanent, match="another pipeline runner"), only_one(tmp_path):
        pass
