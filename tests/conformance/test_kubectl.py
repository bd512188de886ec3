"""kubectl, as people use it on our kinds and on built-in ones."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from pathlib import Path

import orjson
import pytest
import yaml

from tests.conformance.conftest import Run, deployment, remediation
from tests.conftest import kubectl

pytestmark = pytest.mark.conformance


def written(path: Path, *documents: dict[str, object]) -> str:
    file = path / "objects.yaml"
    file.write_text("---\n".join(yaml.safe_dump(d) for d in documents))
    return str(file)


@pytest.fixture
def incident(kctl: Run, tmp_path: Path) -> str:
    kctl("create", "-f", written(tmp_path, remediation()))
    return "rr-1"


def test_get(kctl: Run, incident: str) -> None:
    """Short names, wide, by name, by label, as YAML, as custom columns, with our columns."""
    plain = kctl("get", "rr").stdout.splitlines()
    assert plain[0].split()[:5] == ["NAME", "PHASE", "OUTCOME", "SIGNAL", "SEVERITY"]
    assert "rr-1" in plain[1]
    assert "KIND" in kctl("get", "rr", "-o", "wide").stdout
    assert kctl("get", "rr", incident, "-o", "jsonpath={.metadata.name}").stdout == "rr-1"
    assert (
        yaml.safe_load(kctl("get", "remediationrequests", incident, "-o", "yaml").stdout)["kind"]
        == "RemediationRequest"
    )
    assert "KubePodOOMKilled" in kctl("get", "rr", "-o", "custom-columns=S:.spec.signalName").stdout
    assert "No resources found" in kctl("get", "rr,sp,aa,rar,wfe,nr", "-l", "no=such").stderr
    assert "NotFound" in kctl("get", "rr", "nope", check=False).stderr


def test_get_categories_and_many_kinds(kctl: Run, incident: str, tmp_path: Path) -> None:
    """``get all`` and ``get kubernaut``."""
    kctl("apply", "-f", written(tmp_path, deployment()))
    assert "deployment.apps/web" in kctl("get", "all").stdout
    assert "rr-1" in kctl("get", "kubernaut").stdout
    assert "rr-1" in kctl("get", "rr,sp,aa,rar,wfe,nr", "-A").stdout


def test_apply(kctl: Run, tmp_path: Path) -> None:
    """Client-side apply creates, leaves alone, changes, and shows the difference beforehand."""
    body = deployment()
    file = written(tmp_path, body)
    assert "created" in kctl("apply", "-f", file).stdout
    assert "unchanged" in kctl("apply", "-f", file).stdout
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.invalid/app:2"
    file = written(tmp_path, body)
    diff = kctl("diff", "-f", file, check=False)
    assert (diff.returncode, "registry.invalid/app:2" in diff.stdout) == (1, True)
    assert "configured" in kctl("apply", "-f", file).stdout
    assert "app:2" in kctl("get", "deploy", "web", "-o", "wide").stdout
    assert "server dry run" in kctl("apply", "-f", file, "--dry-run=server").stdout


def test_apply_ours(kctl: Run, tmp_path: Path) -> None:
    """Client-side and server-side apply of a custom resource; a typo is refused."""
    body = remediation()
    assert "created" in kctl("apply", "-f", written(tmp_path, body)).stdout
    body["spec"]["severity"] = "warning"
    assert "configured" in kctl("apply", "-f", written(tmp_path, body)).stdout
    assert (
        "serverside-applied"
        in kctl("apply", "--server-side", "--force-conflicts", "-f", written(tmp_path, body)).stdout
    )
    body["spec"]["sevrity"] = "x"
    refused = kctl("apply", "-f", written(tmp_path, body), check=False)
    assert (refused.returncode, "sevrity" in refused.stderr) == (1, True)


def test_create_and_delete(kctl: Run, tmp_path: Path) -> None:
    """create -f, twice; delete waits until the object is gone."""
    file = written(tmp_path, remediation(), deployment())
    kctl("create", "-f", file)
    again = kctl("create", "-f", file, check=False)
    assert (again.returncode, "AlreadyExists" in again.stderr) == (1, True)
    assert 'remediationrequest.kubernaut.ai "rr-1" deleted' in kctl("delete", "-f", file).stdout
    assert "NotFound" in kctl("get", "rr", "rr-1", check=False).stderr


def test_describe(kctl: Run, incident: str, tmp_path: Path) -> None:
    """With events."""
    uid = kctl("get", "rr", incident, "-o", "jsonpath={.metadata.uid}").stdout
    namespace = kctl("get", "rr", incident, "-o", "jsonpath={.metadata.namespace}").stdout
    stamp = "2026-01-31T12:00:00Z"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "rr-1.1"},
        "involvedObject": {
            "apiVersion": "kubernaut.ai/v1alpha1", "kind": "RemediationRequest", "name": incident, "namespace": namespace, "uid": uid,
        },
        "type": "Normal",
        "reason": "Analyzed",
        "message": "the cause was found",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": "test"},
    }  # fmt: skip
    kctl("create", "-f", written(tmp_path, event))
    text = kctl("describe", "rr", incident).stdout
    assert "Signal Name:" in text
    assert "the cause was found" in text
    assert "Analyzed" in kctl("get", "events").stdout
    kctl("apply", "-f", written(tmp_path, deployment()))
    assert "Pod Template:" in kctl("describe", "deploy", "web").stdout


def test_patch_label_annotate(kctl: Run, incident: str) -> None:
    """Merge and JSON patches, labels, annotations, and the status."""
    kctl("patch", "rr", incident, "--type=merge", "-p", '{"spec":{"severity":"warning"}}')
    kctl("patch", "rr", incident, "--type=json", "-p", '[{"op":"replace","path":"/spec/severity","value":"info"}]')
    assert kctl("get", "rr", incident, "-o", "jsonpath={.spec.severity}").stdout == "info"
    kctl("label", "rr", incident, "team=a")
    kctl("annotate", "rr", incident, "note=b c")
    assert "rr-1" in kctl("get", "rr", "-l", "team=a").stdout
    kctl("patch", "rr", incident, "--subresource=status", "--type=merge", "-p", '{"status":{"overallPhase":"Pending"}}')
    assert "Pending" in kctl("get", "rr", incident).stdout
    refused = kctl(
        "patch", "rr", incident, "--type=merge", "-p", '{"spec":{"signalFingerprint":"' + "f" * 64 + '"}}', check=False
    )
    assert "signalFingerprint is immutable" in refused.stderr


def test_edit(kctl: Run, incident: str, tmp_path: Path) -> None:
    """An editor changes the object; an editor that changes nothing changes nothing."""
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/severity: critical/severity: edited/' \"$1\"\n")
    editor.chmod(0o755)
    environment = {**os.environ, "EDITOR": str(editor)}
    assert "edited" in kctl("edit", "rr", incident, env=environment).stdout
    assert kctl("get", "rr", incident, "-o", "jsonpath={.spec.severity}").stdout == "edited"
    assert "no changes made" in kctl("edit", "rr", incident, env=environment).stderr


def test_wait(kctl: Run, incident: str) -> None:
    """For a field, and for deletion."""
    late = kctl("wait", "rr", incident, "--for=jsonpath={.status.overallPhase}=Completed", "--timeout=1s", check=False)
    assert late.returncode == 1
    kctl(
        "patch", "rr", incident, "--subresource=status", "--type=merge", "-p", '{"status":{"overallPhase":"Completed"}}'
    )
    kctl("wait", "rr", incident, "--for=jsonpath={.status.overallPhase}=Completed", "--timeout=20s")
    kctl("delete", "rr", incident, "--wait=false")
    kctl("wait", "rr", incident, "--for=delete", "--timeout=20s")


def test_watch(kctl: Run, api_server: Path, namespace: str, incident: str) -> None:
    """get -w prints a line for each change."""
    command = [
        "kubectl",
        f"--kubeconfig={api_server}",
        f"--cache-dir={api_server.parent / 'kubectl-cache'}",
        "-n",
        namespace,
    ]
    with subprocess.Popen([*command, "get", "rr", "-w"], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline().startswith("NAME")
            assert incident in watching.stdout.readline()
            kctl(
                "patch",
                "rr",
                incident,
                "--subresource=status",
                "--type=merge",
                "-p",
                '{"status":{"overallPhase":"Pending"}}',
            )
            line = watching.stdout.readline()
            assert [incident, "Pending"] == line.split()[:2]
        finally:
            watching.kill()


def test_scale_and_set_image(kctl: Run, tmp_path: Path) -> None:
    """What an operator types in an incident."""
    kctl("apply", "-f", written(tmp_path, deployment()))
    kctl("set", "image", "deploy/web", "app=registry.invalid/app:3")
    kctl("set", "resources", "deploy/web", "-c", "app", "--limits=memory=256Mi")
    kctl("rollout", "restart", "deploy/web")
    kctl("scale", "deploy/web", "--replicas=0", "--current-replicas=0")
    body = orjson.loads(kctl("get", "deploy", "web", "-o", "json").stdout)
    [container] = body["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["resources"]["limits"]["memory"]) == ("registry.invalid/app:3", "256Mi")
    assert "kubectl.kubernetes.io/restartedAt" in body["spec"]["template"]["metadata"]["annotations"]


def test_api_resources_and_explain(kctl: Run) -> None:
    """What there is, and what its fields mean."""
    listed = kctl("api-resources", "--api-group=kubernaut.ai").stdout
    assert all(
        kind in listed for kind in ("RemediationRequest", "AIAnalysis", "WorkflowExecution", "NotificationRequest")
    )
    assert "deployments" in kctl("api-resources").stdout
    assert "kubernaut.ai/v1alpha1" in kctl("api-versions").stdout
    explained = kctl("explain", "rr.spec.targetResource").stdout
    assert "RemediationRequest" in explained
    assert "kind" in explained
    assert "image" in kctl("explain", "deployment.spec.template.spec.containers").stdout
    assert "signalFingerprint" in kctl("explain", "rr", "--recursive").stdout
    assert "Server Version: v1." in kctl("version").stdout


def test_typed_creates(kctl: Run) -> None:
    """The generators of kubectl create, which send protobuf."""
    kctl("create", "configmap", "c", "--from-literal=a=b")
    kctl("create", "secret", "generic", "s", "--from-literal=a=b")
    kctl("create", "serviceaccount", "runner")
    kctl("create", "deployment", "web", "--image=registry.invalid/app:1", "--replicas=0", "--port=80")
    kctl("create", "job", "j", "--image=registry.invalid/app:1", "--", "true")
    kctl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    kctl("create", "poddisruptionbudget", "p", "--selector=app=web", "--min-available=50%")
    kctl("create", "role", "r", "--verb=get,list", "--resource=pods")
    kctl("create", "rolebinding", "rb", "--role=r", "--serviceaccount=default:runner")
    assert base64.b64decode(kctl("get", "secret", "s", "-o", "jsonpath={.data.a}").stdout).decode() == "b"
    body = orjson.loads(kctl("get", "deploy", "web", "-o", "json").stdout)
    [container] = body["spec"]["template"]["spec"]["containers"]
    assert (
        body["spec"]["replicas"],
        container["image"],
        container["ports"][0]["containerPort"],
    ) == (0, "registry.invalid/app:1", 80)
    assert kctl("get", "svc", "svc", "-o", "jsonpath={.spec.ports[0].targetPort}").stdout == "8080"
    assert kctl("get", "pdb", "p", "-o", "jsonpath={.spec.minAvailable}").stdout == "50%"
    assert kctl("create", "token", "runner").stdout.count(".") == 2


def test_create_namespace(api_server: Path) -> None:
    """And delete it, waiting until it is gone."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    assert kubectl(api_server, "create", "namespace", name).returncode == 0
    assert f'namespace "{name}" deleted' in kubectl(api_server, "delete", "namespace", name).stdout
    assert "NotFound" in kubectl(api_server, "get", "namespace", name).stderr


def test_auth(kctl: Run, namespace: str) -> None:
    """can-i for oneself and for others, and whoami."""
    assert kctl("auth", "can-i", "list", "pods").stdout.strip() == "yes"
    account = f"system:serviceaccount:{namespace}:default"
    assert kctl("auth", "can-i", "list", "pods", f"--as={account}", check=False).stdout.strip() == "no"
    assert "Username" in kctl("auth", "whoami").stdout
    refused = kctl("get", "secrets", f"--as={account}", check=False)
    assert f'User "{account}" cannot list resource "secrets"' in refused.stderr
