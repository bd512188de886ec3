"""A workflow script's way to the Kubernetes API: Python 3 standard library only, inlined into each script at packing.

It finds the cluster by ``KUBECONFIG`` (as JSON) or by the pod's service account, speaks TLS with the cluster's CA only, and
turns refusals into one clear line. Scripts exit 0 when the world is as wanted, 1 when an action failed, 2 when a
precondition does not hold and nothing was changed.
"""

import base64
import http.client
import json
import os
import ssl
import sys
import time
import urllib.parse

EXECUTION = "kubernaut.ai/last-execution"
POD = "/var/run/secrets/kubernetes.io/serviceaccount"
KINDS = {
    "pod": ("/api/v1", "pods"),
    "node": ("/api/v1", "nodes"),
    "deployment": ("/apis/apps/v1", "deployments"),
    "statefulset": ("/apis/apps/v1", "statefulsets"),
    "daemonset": ("/apis/apps/v1", "daemonsets"),
    "replicaset": ("/apis/apps/v1", "replicasets"),
    "job": ("/apis/batch/v1", "jobs"),
    "poddisruptionbudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "horizontalpodautoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
}


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def result(name, value):
    """Write a result of the task; a result that the pipeline does not declare is dropped."""
    path = os.environ.get("RESULT_" + name.upper())
    if path:
        with open(path, "w") as file:
            file.write(str(value))


def finish(summary):
    result("summary", summary)
    print(summary)
    sys.exit(0)


def fail(message, code=1):
    result("summary", message)
    print("error: " + message)
    sys.exit(code)


def refuse(message):
    """A precondition does not hold; nothing was changed."""
    fail(message, 2)


def param(name, default=""):
    value = os.environ.get(name, "").strip()
    if not value and default is None:
        refuse("parameter " + name + " is empty")
    return value or default


def number(name, default):
    value = param(name, str(default))
    try:
        return int(value)
    except ValueError:
        refuse("parameter " + name + " must be a whole number, got " + repr(value))


class Api:
    """One connection to the API server."""

    def __init__(self):
        path = os.environ.get("KUBECONFIG", "")
        if path:
            with open(path) as file:
                config = json.load(file)
            cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
            server, token = cluster["server"], user["token"]
            authority = base64.b64decode(cluster.get("certificate-authority-data", "")).decode()
            context = ssl.create_default_context(cadata=authority or None)
        else:
            with open(POD + "/token") as file:
                token = file.read().strip()
            host = os.environ["KUBERNETES_SERVICE_HOST"]
            server = "https://[%s]" % host if ":" in host else "https://" + host
            server += ":" + os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            context = ssl.create_default_context(cafile=POD + "/ca.crt")
        url = urllib.parse.urlsplit(server)
        self.connection = http.client.HTTPSConnection(url.hostname, url.port or 443, context=context, timeout=20)
        self.base = url.path.rstrip("/")
        self.token = token

    def call(self, method, path, body=None, content="application/json"):
        """One request, tried again while the server is busy. Raises Refused."""
        headers = {"Authorization": "Bearer " + self.token, "Accept": "application/json", "Content-Type": content}
        data = None if body is None else json.dumps(body)
        for attempt in range(5):
            try:
                self.connection.request(method, self.base + path, data, headers)
                response = self.connection.getresponse()
                answer = response.read()
                if response.status not in (429, 500, 503, 504):
                    break
                problem = "HTTP %d" % response.status
            except (OSError, http.client.HTTPException) as error:
                problem = type(error).__name__ + ": " + str(error)
                self.connection.close()
            if attempt == 4:
                fail("the API server cannot be reached: " + problem)
            time.sleep(0.3 * 2**attempt)
        parsed = json.loads(answer or b"{}")
        if response.status >= 400:
            raise Refused(response.status, parsed.get("message") or "HTTP %d" % response.status)
        return parsed

    def get(self, kind, namespace, name):
        return self.call("GET", path_of(kind, namespace, name))

    def find(self, kind, namespace, name):
        """The object, or None."""
        try:
            return self.get(kind, namespace, name)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind, namespace, selector=""):
        query = "?labelSelector=" + urllib.parse.quote(selector) if selector else ""
        return self.call("GET", path_of(kind, namespace) + query).get("items") or []

    def patch(self, kind, obj, patch):
        """Merge-patch exactly the version that was read."""
        meta = dict(patch.get("metadata") or {}, resourceVersion=obj["metadata"]["resourceVersion"])
        path = path_of(kind, obj["metadata"].get("namespace"), obj["metadata"]["name"])
        return self.call("PATCH", path, dict(patch, metadata=meta), "application/merge-patch+json")

    def replace(self, kind, obj):
        return self.call("PUT", path_of(kind, obj["metadata"].get("namespace"), obj["metadata"]["name"]), obj)

    def delete(self, kind, obj, grace=None):
        """Delete exactly this object; gone already is success."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        options["preconditions"] = {"uid": obj["metadata"]["uid"]}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.call("DELETE", path_of(kind, obj["metadata"].get("namespace"), obj["metadata"]["name"]), options)
        except Refused as error:
            if error.status not in (404, 409):
                raise


def path_of(kind, namespace, name=None):
    if kind.lower() not in KINDS:
        refuse("kind %s is not handled; there are %s" % (kind, ", ".join(KINDS)))
    root, plural = KINDS[kind.lower()]
    parts = [root]
    if namespace and kind.lower() != "node":
        parts.append("namespaces/" + namespace)
    parts.append(plural)
    if name:
        parts.append(name)
    return "/".join(parts)


def target(api, *kinds):
    """The object that the parameters name, which must be of one of these kinds: (kind, object)."""
    kind = param("TARGET_RESOURCE_KIND", kinds[0]).lower()
    if kind not in [k.lower() for k in kinds]:
        refuse("this workflow acts on %s, not on a %s" % (", ".join(kinds), kind))
    namespace, name = param("TARGET_RESOURCE_NAMESPACE"), param("TARGET_RESOURCE_NAME", None)
    if not namespace and kind != "node":
        refuse("parameter TARGET_RESOURCE_NAMESPACE is empty")
    obj = api.find(kind, namespace, name)
    if obj is None:
        refuse("%s %s does not exist in namespace %s" % (kind, name, namespace or "(none)"))
    return kind, obj


def execution():
    return param("EXECUTION_ID", "unknown")


def done_before(obj):
    """Whether this very execution has changed the object already: a script may be run twice."""
    return execution() != "unknown" and (obj["metadata"].get("annotations") or {}).get(EXECUTION) == execution()


def mark(**more):
    """The annotations that record this execution."""
    return dict(more, **{EXECUTION: execution()})


def retrying(change):
    """Call a read-change-write until no conflict interferes."""
    for _ in range(10):
        try:
            return change()
        except Refused as error:
            if error.status != 409:
                raise
            time.sleep(0.1)
    fail("the object is changed by somebody else all the time")


def wait_for_rollout(api, kind, namespace, name, seconds):
    """Wait until the workload runs its newest template everywhere; 0 seconds does not wait."""
    deadline, delay = time.monotonic() + seconds, 0.1
    said = "the rollout was not waited for"
    while seconds > 0:
        obj = api.get(kind, namespace, name)
        spec, status = obj["spec"], obj.get("status") or {}
        wanted = spec.get("replicas", 1) if kind != "daemonset" else status.get("desiredNumberScheduled", 0)
        updated = status.get("updatedNumberScheduled" if kind == "daemonset" else "updatedReplicas", 0)
        ready = status.get("numberAvailable" if kind == "daemonset" else "availableReplicas", 0)
        seen = status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
        said = "%d of %d replicas are updated and %d available" % (updated, wanted, ready)
        if seen and updated >= wanted and ready >= wanted and status.get("replicas", wanted) <= wanted:
            return said
        if time.monotonic() >= deadline:
            fail("changed, but the rollout did not complete within %d s: %s" % (seconds, said))
        time.sleep(delay)
        delay = min(delay * 1.5, 2)
    return said


UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def bytes_of(quantity):
    text = str(quantity)
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return int(float(text[: -len(unit)]) * factor)
    return int(float(text))


def quantity_of(amount):
    """Bytes as a whole number of Mi."""
    return "%dMi" % max(1, -(-amount // 2**20))


def main(action):
    """Run a script's action with every refusal of the API server told in one line."""
    try:
        action(Api())
    except Refused as error:
        fail("the API server refused (HTTP %d): %s" % (error.status, error))
    except KeyError as error:
        fail("an object or the environment lacks %s" % error)
