#!/usr/bin/env python3
"""Raise the memory limits of a workload once per execution, never lower them, never beyond the cap."""

from k8s import bytes_of, done_before, finish, main, mark, number, param, quantity_of, refuse, result, retrying, target, wait_for_rollout


def wanted(old, absolute, percent, cap):
    """The new limit in bytes; never below the old one."""
    new = bytes_of(absolute) if absolute else old + old * percent // 100
    return max(old, min(new, cap))


def action(api):
    absolute, cap = param("MEMORY_LIMIT"), bytes_of(param("MEMORY_LIMIT_CAP", "8Gi"))
    percent, only = number("MEMORY_INCREASE_PERCENT", 100), param("CONTAINER_NAME")

    def change():
        kind, obj = target(api, "Deployment", "StatefulSet", "DaemonSet")
        containers = obj["spec"]["template"]["spec"]["containers"]
        chosen = [c for c in containers if not only or c["name"] == only]
        if not chosen:
            refuse("there is no container %s; there are %s" % (only, ", ".join(c["name"] for c in containers)))
        limits = {c["name"]: (c.get("resources") or {}).get("limits", {}).get("memory") for c in chosen}
        limits = {name: limit for name, limit in limits.items() if limit}
        if not limits:
            refuse("no container of it has a memory limit, so none was reached")
        shown = ", ".join("%s %s" % pair for pair in limits.items())
        if done_before(obj):
            return kind, obj, None, shown
        changed = []
        for container in chosen:
            if container["name"] in limits:
                old = bytes_of(limits[container["name"]])
                new = wanted(old, absolute, percent, cap)
                if new > old:
                    container["resources"]["limits"]["memory"] = quantity_of(new)
                    changed.append("%s %s" % (container["name"], quantity_of(new)))
        if not changed:
            refuse("the memory limits (%s) are at the cap of %s or at the wanted value already" % (shown, param("MEMORY_LIMIT_CAP", "8Gi")))
        obj["metadata"].setdefault("annotations", {}).update(mark())
        return kind, api.replace(kind, obj), shown, ", ".join(changed)

    kind, obj, before, after = retrying(change)
    meta = obj["metadata"]
    result("old_limit", before or "")
    result("new_limit", after)
    rollout = wait_for_rollout(api, kind, meta["namespace"], meta["name"], number("ROLLOUT_TIMEOUT_SECONDS", 120))
    if before is None:
        finish("memory limits of %s %s had been raised to %s by this execution; %s" % (kind, meta["name"], after, rollout))
    finish("raised the memory limits of %s %s from %s to %s; %s" % (kind, meta["name"], before, after, rollout))


main(action)
