#!/usr/bin/env python3
"""Restore the pod template of an earlier revision, as kubectl rollout undo does, once per execution."""

from k8s import done_before, fail, finish, main, mark, number, refuse, result, retrying, target, wait_for_rollout

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"


def revision_of(obj):
    return int((obj["metadata"].get("annotations") or {}).get(REVISION, "0"))


def template_of(replica_set):
    """The pod template without the label that the Deployment controller adds."""
    template = replica_set["spec"]["template"]
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH}
    return dict(template, metadata=meta)


def history(api, deployment):
    """The ReplicaSets of a Deployment, newest revision first."""
    meta = deployment["metadata"]
    owned = [
        r for r in api.list("replicaset", meta["namespace"])
        if any(o.get("uid") == meta["uid"] for o in r["metadata"].get("ownerReferences") or [])
    ]
    return sorted(owned, key=revision_of, reverse=True)


def choose(api, deployment, wanted):
    """The ReplicaSet to go back to."""
    sets, current = history(api, deployment), revision_of(deployment)
    if wanted:
        found = [r for r in sets if revision_of(r) == wanted]
        if not found:
            known = ", ".join(str(revision_of(r)) for r in sets) or "none"
            refuse("there is no revision %d; there are %s" % (wanted, known))
        return found[0]
    earlier = [r for r in sets if revision_of(r) < (current or revision_of(sets[0]))] if sets else []
    if not earlier:
        refuse("there is no revision before the current one, so there is nothing to roll back to")
    return earlier[0]


def action(api):
    wanted = number("TARGET_REVISION", 0)

    def change():
        kind, obj = target(api, "Deployment")
        if obj["spec"].get("paused"):
            refuse("the Deployment is paused; resume it first")
        if done_before(obj):
            return obj, (obj["metadata"].get("annotations") or {}).get("kubernaut.ai/rolled-back-to", "?"), False
        replica_set = choose(api, obj, wanted)
        template = template_of(replica_set)
        if template["spec"] == obj["spec"]["template"]["spec"]:
            refuse("revision %d has the template that runs now" % revision_of(replica_set))
        obj["spec"]["template"] = template
        revision = str(revision_of(replica_set))
        obj["metadata"].setdefault("annotations", {}).update(mark(**{"kubernaut.ai/rolled-back-to": revision}))
        return api.replace(kind, obj), revision, True

    obj, revision, changed = retrying(change)
    meta = obj["metadata"]
    result("revision", revision)
    rollout = wait_for_rollout(api, "deployment", meta["namespace"], meta["name"], number("ROLLOUT_TIMEOUT_SECONDS", 120))
    word = "rolled back" if changed else "had been rolled back by this execution:"
    finish("%s deployment %s to revision %s; %s" % (word, meta["name"], revision, rollout))


main(action)
