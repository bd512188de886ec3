from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from pathlib import Path

import orjson
import pytest
import yaml

from catalog.bundles import LAYOUT_REGISTRY, Bundles, check_bundle, pack, reference_for
from catalog.job import job_config
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable
from kubernaut_ray.kube.pipelines.oci import API_VERSION, KIND, MANIFEST_TYPE, NAME, Stores
from kubernaut_ray.kube.pipelines.reference import Reference, digest_of
from tests import registry
from tests.registry import plain

SHIPPED = Path(__file__).parents[2] / "manifests" / "workflows"
REF = f"{LAYOUT_REGISTRY}/workflows/restart-rollout:1.0.0"
# secret, as htpasswd -B writes it
HTPASSWD = "ann:$2b$05$vh5jj6xH2/9EJ1jLXcDsXuSH/KTr5sWZXCLyU6KB2V1s8mhttipeK"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "workflows")
    return tmp_path / "workflows" / "restart-rollout"


@pytest.fixture
def bundles(tmp_path):
    return Bundles(tmp_path / "bundles")


def change(folder, edit):
    pipeline = yaml.safe_load((folder / "pipeline.yaml").read_text())
    edit(pipeline)
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))


def test_a_folder_is_pushed_and_comes_back_as_it_was(folder, bundles):
    """Schema and pipeline survive; the script lies inside the step, with its library."""
    pushed = bundles.push(folder, REF)
    workflow, bundle = bundles.workflow(str(pushed))
    assert (folder / "workflow-schema.yaml").read_text() == bundle.schema_yaml
    assert ("restart-rollout", pushed.digest) == (workflow.workflow_name, workflow.container_digest)
    assert str(pushed) == workflow.pinned_image
    script = bundle.resource("pipeline", "workflow")["spec"]["tasks"][0]["taskSpec"]["steps"][0]["script"]
    assert script.startswith("#!/usr/bin/env python3")
    assert "class Api" in script
    assert "from k8s import" not in script
    compile(script, "script.py", "exec")


def test_equal_folders_give_equal_digests(folder, bundles, tmp_path):
    """Neither time nor place enters the digest, a changed script does."""
    first = bundles.push(folder, REF)
    copied = shutil.copytree(folder.parent, tmp_path / "elsewhere") / folder.name
    assert (
        first.digest
        == Bundles(tmp_path / "other")
        .push(copied, "registry.invalid/x:1".replace("registry.invalid", LAYOUT_REGISTRY))
        .digest
    )
    with (folder / "script.py").open("a") as script:
        script.write("# changed\n")
    assert first.digest != bundles.push(folder, REF).digest


def test_a_pin_outlives_its_tag(folder, bundles):
    """What was approved is what is pulled, even after the tag moved."""
    first = bundles.push(folder, REF)
    with (folder / "script.py").open("a") as script:
        script.write("# changed\n")
    assert first.digest != bundles.push(folder, REF).digest
    assert first.digest == bundles.pull(str(first)).digest


def test_every_layer_keeps_tektons_contract(folder, tmp_path):
    """All layers carry the three annotations, or Tekton refuses the whole image."""
    bundles = Bundles(tmp_path / "bundles")
    pushed = bundles.push(folder, REF)
    layout = Stores(tmp_path / "bundles").of(Reference.parse(REF))
    manifest = orjson.loads(layout.manifest(Reference.parse(str(pushed))))
    assert [layer["annotations"] for layer in manifest["layers"]] == [
        {API_VERSION: "tekton.dev/v1", KIND: "pipeline", NAME: "workflow"},
        {API_VERSION: "kubernaut.io/v1alpha1", KIND: "workflowschema", NAME: "restart-rollout"},
    ]
    assert manifest["mediaType"] == MANIFEST_TYPE


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        pytest.param(lambda p: p["metadata"].update(name="other"), "exactly one, named workflow", id="another name"),
        pytest.param(lambda p: p["spec"]["params"].pop(0), "must declare TARGET_RESOURCE", id="no target parameter"),
        pytest.param(lambda p: p["spec"]["params"].pop(1), "TARGET_RESOURCE_KIND", id="a schema parameter missing"),
        pytest.param(lambda p: p["spec"]["params"][1].update(type="array"), "type string", id="not a string"),
        pytest.param(lambda p: p["spec"]["params"][4].pop("default"), "needs a default", id="optional without default"),
        pytest.param(
            lambda p: p["spec"]["params"].append({"name": "EXTRA"}), "would never be given", id="nobody gives it"
        ),
        pytest.param(lambda p: p.update(kind="Deployment"), "must be a Pipeline or a Task", id="not Tekton's"),
        pytest.param(lambda p: p["spec"].update(tasks=[]), "at least one task", id="no tasks"),
        pytest.param(
            lambda p: p["spec"]["tasks"][0]["taskSpec"]["steps"][0].update(script="@../k8s.py"),
            "file of this folder", id="a script outside the folder",
        ),
        pytest.param(
            lambda p: p["spec"]["tasks"][0]["taskSpec"]["steps"][0].update(script="@missing.py"),
            "missing.py", id="a script that is not there",
        ),
    ],
)  # fmt: skip
def test_a_pipeline_that_does_not_fit_is_not_packed(folder, edit, says):
    """The pipeline must take what the schema offers."""
    change(folder, edit)
    with pytest.raises(InvalidInput, match=says):
        pack(folder)


@pytest.mark.parametrize("missing", ["workflow-schema.yaml", "pipeline.yaml"])
def test_a_folder_without_its_files_is_no_workflow(folder, missing):
    """The message names the file."""
    (folder / missing).unlink()
    with pytest.raises(InvalidInput, match=f"{missing} is missing"):
        pack(folder)


def test_a_script_too_long_for_tekton_is_refused(folder, bundles):
    """Tekton's resolver would cut it off silently."""
    with (folder / "script.py").open("a") as script:
        script.write("# " + "x" * 40_000)
    with pytest.raises(InvalidInput, match="at most 32256 bytes"):
        bundles.push(folder, REF)


def test_a_script_that_is_not_python_is_refused(folder):
    """Before it runs anywhere."""
    (folder / "script.py").write_text("def (:\n")
    with pytest.raises(InvalidInput, match="not Python: line 1"):
        pack(folder)


def _image(bundles_dir, layers, config=b"{}"):
    """Put an image with these (annotations, content) layers into a layout; return its reference."""
    blobs = [content for _, content in layers]
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "x", "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": "x", "digest": digest_of(c), "size": len(c), "annotations": a} for a, c in layers],
    }
    reference = Reference.parse(f"{LAYOUT_REGISTRY}/x:1")
    Stores(bundles_dir).of(reference).put(reference, (*blobs, config), orjson.dumps(manifest), MANIFEST_TYPE)
    return str(reference)


def _index(**images: str) -> tuple[bytes, str]:
    """Return an index of images by architecture, and its media type."""
    named = {"arm": "arm64", "amd": "amd64"}
    manifests = [
        {
            "mediaType": MANIFEST_TYPE,
            "digest": digest,
            "size": 1,
            "platform": {"os": "linux", "architecture": named[architecture]},
        }
        for architecture, digest in images.items()
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    return orjson.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}), kind


def test_an_index_without_the_platform_that_tekton_takes(bundles, tmp_path):
    """It is refused with what it has."""
    reference = Reference.parse(f"{LAYOUT_REGISTRY}/x:1")
    Stores(tmp_path / "bundles").of(reference).put(reference, (), *_index(arm=digest_of(b"")))
    with pytest.raises(InvalidInput, match="linux/amd64 of an index, and there is linux/arm64"):
        bundles.pull(str(reference))


DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
TASK = {API_VERSION: "tekton.dev/v1", KIND: "task", NAME: "t"}
TASK_YAML = b"apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: t}\nspec: {}\n"


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        pytest.param([], "0 layers", id="no layers"),
        pytest.param([({}, b"x")], "no annotation dev.tekton.image.apiVersion", id="an ordinary image"),
        pytest.param([(TASK, b"apiVersion: v1\nkind: Pod\nmetadata: {name: t}")], "annotated as", id="a false label"),
        pytest.param([({**TASK, KIND: "Task"}, TASK_YAML)], "lower case and singular", id="an upper-case kind"),
        pytest.param([({**TASK, KIND: "tasks"}, TASK_YAML)], "lower case and singular", id="a plural kind"),
        pytest.param([({**TASK, API_VERSION: "v1beta1"}, TASK_YAML)], "annotated as v1beta1", id="another version"),
        pytest.param([(TASK, b"x: [")], "not YAML", id="a layer that is no YAML"),
        pytest.param([(TASK, b"\xff\xfe")], "neither a tar", id="a layer that is no text"),
        pytest.param([(TASK, b"\x1f\x8bxx")], "neither a tar", id="a broken gzip"),
        pytest.param([(TASK, TASK_YAML), (TASK, TASK_YAML + b"#")], "two layers", id="the same resource twice"),
        pytest.param([({**TASK, NAME: str(n)}, b"%d" % n) for n in range(21)], "21 layers", id="too many layers"),
    ],
)
def test_an_image_that_is_no_bundle_is_refused(bundles, tmp_path, layers, says):
    """The message says why it is none."""
    with pytest.raises(InvalidInput, match=says) as caught:
        bundles.pull(_image(tmp_path / "bundles", layers))
    assert caught.value.reason == "NotABundle"


def test_a_bundle_of_tkn_is_read(bundles, tmp_path):
    """It writes docker's media types, a compressed tar named after the resource, and the version without its group."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        info = tarfile.TarInfo("t")
        info.size, info.mode = len(TASK_YAML), 0o600
        archive.addfile(info, io.BytesIO(TASK_YAML))
    layer, config = raw.getvalue(), b"{}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": digest_of(config),
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "digest": digest_of(layer),
                "size": len(layer),
                "annotations": {**TASK, API_VERSION: "v1"},
            }
        ],
    }
    reference = Reference.parse(f"{LAYOUT_REGISTRY}/tkn:1")
    Stores(tmp_path / "bundles").of(reference).put(reference, (layer, config), orjson.dumps(manifest), DOCKER_MANIFEST)
    assert bundles.pull(str(reference)).resource("Task", "t") == yaml.safe_load(TASK_YAML)


def test_a_tekton_bundle_without_schema_is_no_workflow(bundles, tmp_path):
    """It can be pulled and run by Tekton, but not registered."""
    bundle = bundles.pull(_image(tmp_path / "bundles", [(TASK, TASK_YAML)]))
    with pytest.raises(InvalidInput, match="no workflow") as caught:
        check_bundle(bundle)
    assert caught.value.reason == "NotAWorkflow"


def test_damage_is_found(folder, bundles, tmp_path):
    """A blob that is not what its digest says never reaches anybody."""
    pushed = bundles.push(folder, REF)
    for blob in (tmp_path / "bundles" / "blobs" / "sha256").iterdir():
        if blob.name != pushed.digest.partition(":")[2]:
            blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(InvalidInput, match="changed or damaged") as caught:
        bundles.pull(str(pushed))
    assert caught.value.reason == "DigestMismatch"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("restart:1", "registry host", id="no registry"),
        pytest.param("", "registry host", id="empty"),
        pytest.param("localhost:5000/Upper:1", "repository name", id="upper case"),
        pytest.param("localhost:5000/x:!", "not a tag", id="a bad tag"),
        pytest.param("localhost:5000/x@sha256:12", "not a digest", id="a short digest"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(bundles, text, says):
    """And shows one that would be right."""
    with pytest.raises(InvalidInput, match=says):
        bundles.pull(text)


def test_the_layout_names_what_it_has(folder, bundles):
    """A missing bundle is told with what there is."""
    bundles.push(folder, REF)
    with pytest.raises(InvalidInput, match=r"workflows/restart-rollout:1\.0\.0") as caught:
        bundles.pull(f"{LAYOUT_REGISTRY}/workflows/other:1")
    assert caught.value.reason == "NotFound"


def test_without_a_layout_its_references_are_refused(folder):
    """A cluster has no bundle directory."""
    with pytest.raises(InvalidInput, match="bundle directory"):
        Bundles(None).pull(REF)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with registry.running(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    with registry.running(tmp_path_factory.mktemp("registry"), htpasswd=HTPASSWD) as host:
        yield host


class TestRegistry:
    """The same through a real registry."""

    def test_push_and_pull(self, folder, host, tmp_path):
        """The digest is the same as in the layout, and the registry agrees with it."""
        remote = Bundles(None, access=plain(host))
        pushed = remote.push(folder, f"{host}/workflows/restart-rollout:1.0.0")
        assert Bundles(tmp_path / "b").push(folder, REF).digest == pushed.digest
        workflow, bundle = remote.workflow(str(pushed))
        assert pushed.digest == bundle.digest == remote.pull(pushed.image).digest
        assert pushed.image == workflow.container_image

    def test_a_missing_image(self, host):
        """NotFound is permanent."""
        with pytest.raises(InvalidInput, match="no such image") as caught:
            Bundles(None, access=plain(host)).pull(f"{host}/nothing:1")
        assert caught.value.reason == "NotFound"

    def test_https_to_a_plain_registry(self, host):
        """The message names the setting that helps."""
        with pytest.raises(Permanent, match="plain_http"):
            Bundles(None).pull(f"{host}/nothing:1")

    def test_a_tag_of_several_platforms(self, folder, host):
        """The index stays the pin; what is in it is the image that Tekton takes."""
        remote = Bundles(None, access=plain(host))
        amd = remote.push(folder, f"{host}/many:amd")
        with (folder / "script.py").open("a") as script:
            script.write("# for another platform\n")
        arm = remote.push(folder, f"{host}/many:arm")
        reference = Reference.parse(f"{host}/many:1")
        digest = (
            Stores(None, access=plain(host)).of(reference).put(reference, (), *_index(arm=arm.digest, amd=amd.digest))
        )
        workflow, bundle = remote.workflow(str(reference))
        assert digest == bundle.digest == workflow.container_digest
        assert remote.pull(str(amd)).resources == bundle.resources == remote.pull(f"{reference}@{digest}").resources

    def test_nobody_there(self):
        """A refused connection is told at once, not after minutes."""
        with pytest.raises(Retryable, match="cannot be reached"):
            Bundles(None, access=plain("127.0.0.1:1")).pull("127.0.0.1:1/x:1")


class TestRegistryWithPassword:
    """Credentials come from a docker config.json and stay out of errors."""

    def config(self, tmp_path, locked, password):
        file = tmp_path / "config.json"
        auth = base64.b64encode(f"ann:{password}".encode()).decode()
        file.write_text(json.dumps({"auths": {locked: {"auth": auth}}}))
        return file

    def test_the_right_password(self, folder, tmp_path, locked):
        """Push and pull work."""
        bundles = Bundles(None, access=plain(locked), registry_config=self.config(tmp_path, locked, "secret"))
        pushed = bundles.push(folder, f"{locked}/w:1")
        assert pushed.digest == bundles.pull(str(pushed)).digest

    @pytest.mark.parametrize("password", ["wrong-password", None])
    def test_the_wrong_password(self, tmp_path, locked, password):
        """The refusal is permanent and does not repeat the password."""
        config = self.config(tmp_path, locked if password else "other.example.com", password or "wrong-password")
        with pytest.raises(Permanent, match="credentials") as caught:
            Bundles(None, access=plain(locked), registry_config=config).pull(f"{locked}/w:1")
        assert "wrong-password" not in str(caught.value)

    def test_a_broken_configuration(self, tmp_path, locked):
        """The file is named."""
        (tmp_path / "config.json").write_text(json.dumps({"auths": {locked: {"auth": "%"}}}))
        with pytest.raises(InvalidInput, match=r"config\.json"):
            Bundles(None, access=plain(locked), registry_config=tmp_path / "config.json").pull(f"{locked}/w:1")


@pytest.mark.parametrize("name", sorted(p.name for p in SHIPPED.iterdir() if p.name != "lib"))
def test_every_shipped_workflow_packs(name, tmp_path):
    """Schema, pipeline and script fit together, and say what an investigator needs."""
    packed = pack(SHIPPED / name)
    workflow = packed.workflow
    assert name == workflow.workflow_name
    assert all(
        (workflow.description.when_to_use, workflow.description.when_not_to_use, workflow.description.preconditions)
    )
    assert {"TARGET_RESOURCE_KIND", "TARGET_RESOURCE_NAME"} <= {p.name for p in workflow.parameters}
    assert workflow.labels.signal_type != "*"
    Bundles(tmp_path).push(SHIPPED / name, reference_for(workflow))


JOB = SHIPPED.parent / "samples" / "job-workflow"


def test_a_workflow_of_one_container_needs_no_pipeline(bundles):
    """Engine job: the schema says all; a pipeline beside it would never run and is refused."""
    workflow, bundle = bundles.workflow(str(bundles.push(JOB, f"{LAYOUT_REGISTRY}/workflows/job:1")))
    assert (workflow.execution_engine, bundle.resources) == ("job", ())
    assert job_config(workflow).command == ("python3", "-c")


def test_a_pipeline_beside_a_job_is_refused(bundles, folder, tmp_path):
    """It would look as if it ran."""
    both = shutil.copytree(JOB, tmp_path / "both")
    shutil.copy(folder / "pipeline.yaml", both)
    shutil.copy(folder / "script.py", both)
    with pytest.raises(InvalidInput, match="no pipeline"):
        bundles.push(both)


def image(layers):
    """An ordinary image's blobs and manifest; each layer is a mapping of names to contents."""
    blobs = []
    for files in layers:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        blobs.append(raw.getvalue())
    config = b"{}"
    listed = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest_of(b), "size": len(b)}
        for b in blobs
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": listed, "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": len(config)}}  # fmt: skip
    return (*blobs, config), orjson.dumps(manifest)


def test_an_ordinary_image_with_a_schema_at_its_root_is_a_workflow(tmp_path, bundles):
    """As a Dockerfile makes it, in a real registry; the Job then runs the image itself, by its digest."""
    schema = (JOB / "workflow-schema.yaml").read_bytes()
    with registry.running(tmp_path) as host:
        reference = Reference.parse(f"{host}/fix:1")
        store = Stores(None, access=plain(host)).of(reference)
        digest = store.put(reference, *image([{"bin/fix": b"#!"}, {"./workflow-schema.yaml": schema}]), MANIFEST_TYPE)
        workflow, bundle = Bundles(None, access=plain(host)).workflow(f"{host}/fix:1")
    assert (digest, f"{host}/fix:1@{digest}") == (bundle.digest, workflow.pinned_image)
    assert workflow.workflow_name == "annotate-for-review"


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([{"bin/fix": b"#!"}], id="none"),
        pytest.param([{"workflow-schema.yaml": b"x"}, {".wh.workflow-schema.yaml": b""}], id="deleted above"),
        pytest.param([{"etc/workflow-schema.yaml": b"x"}], id="elsewhere"),
    ],
)
def test_an_image_without_a_schema_is_no_workflow(tmp_path, bundles, layers):
    """And the answer says what makes one."""
    reference = Reference.parse(f"{LAYOUT_REGISTRY}/fix:1")
    Stores(tmp_path / "bundles").of(reference).put(reference, *image(layers), MANIFEST_TYPE)
    with pytest.raises(InvalidInput, match="kubernaut-ray workflow push"):
        bundles.workflow(str(reference))
