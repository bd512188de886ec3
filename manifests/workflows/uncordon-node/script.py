#!/usr/bin/env python3
"""Uncordon a healthy node; doing it twice changes nothing."""

from k8s import finish, main, refuse, retrying, target


def action(api):
    def change():
        kind, node = target(api, "Node")
        name = node["metadata"]["name"]
        if not node["spec"].get("unschedulable"):
            finish("node %s is schedulable already" % name)
        conditions = {c["type"]: c["status"] for c in (node.get("status") or {}).get("conditions") or []}
        if conditions.get("Ready") != "True":
            refuse("node %s is not Ready; uncordoning it would attract pods that cannot run" % name)
        pressed = [t for t in ("MemoryPressure", "DiskPressure", "PIDPressure") if conditions.get(t) == "True"]
        if pressed:
            refuse("node %s is under %s" % (name, ", ".join(pressed)))
        return api.patch(kind, node, {"spec": {"unschedulable": None}})

    node = retrying(change)
    finish("node %s is schedulable again" % node["metadata"]["name"])


main(action)
