#!/usr/bin/env python3
"""Roll a workload's pods, as kubectl rollout restart does, once per execution."""

import datetime

from k8s import EXECUTION, execution, finish, main, mark, number, refuse, retrying, target, wait_for_rollout

RESTARTED = "kubectl.kubernetes.io/restartedAt"


def action(api):
    def change():
        kind, obj = target(api, "Deployment", "StatefulSet", "DaemonSet")
        if obj["spec"].get("paused"):
            refuse("the workload is paused; resume it first")
        template = obj["spec"]["template"]
        notes = (template.get("metadata") or {}).get("annotations") or {}
        if notes.get(EXECUTION) == execution():
            return kind, obj, False
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        patch = {"spec": {"template": {"metadata": {"annotations": mark(**{RESTARTED: now})}}}}
        return kind, api.patch(kind, obj, patch), True

    kind, obj, changed = retrying(change)
    meta = obj["metadata"]
    rollout = wait_for_rollout(api, kind, meta["namespace"], meta["name"], number("ROLLOUT_TIMEOUT_SECONDS", 120))
    word = "restarted" if changed else "had been restarted by this execution:"
    finish("%s %s %s; %s" % (word, kind, meta["name"], rollout))


main(action)
