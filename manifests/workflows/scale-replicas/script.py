#!/usr/bin/env python3
"""Set or raise the number of replicas once per execution, within a cap, and never against an autoscaler."""

from k8s import done_before, finish, main, mark, number, refuse, result, retrying, target, wait_for_rollout


def autoscaler_of(api, kind, obj):
    meta = obj["metadata"]
    for hpa in api.list("horizontalpodautoscaler", meta["namespace"]):
        ref = hpa["spec"]["scaleTargetRef"]
        if ref["kind"].lower() == kind and ref["name"] == meta["name"]:
            return hpa["metadata"]["name"]
    return None


def action(api):
    absolute, add, cap = number("REPLICAS", 0), number("ADD_REPLICAS", 1), number("MAX_REPLICAS", 20)

    def change():
        kind, obj = target(api, "Deployment", "StatefulSet")
        old = obj["spec"].get("replicas", 1)
        if done_before(obj):
            return kind, obj, old, old
        hpa = autoscaler_of(api, kind, obj)
        if hpa:
            refuse("the HorizontalPodAutoscaler %s owns the number of replicas; change its bounds instead" % hpa)
        new = min(absolute or old + add, cap)
        if new <= old and not absolute:
            refuse("%d replicas are at the cap of %d already" % (old, cap))
        patch = {"metadata": {"annotations": mark()}, "spec": {"replicas": new}}
        return kind, api.patch(kind, obj, patch), old, new

    kind, obj, old, new = retrying(change)
    meta = obj["metadata"]
    result("replicas", new)
    rollout = wait_for_rollout(api, kind, meta["namespace"], meta["name"], number("ROLLOUT_TIMEOUT_SECONDS", 120))
    finish("scaled %s %s from %d to %d replicas; %s" % (kind, meta["name"], old, new, rollout))


main(action)
