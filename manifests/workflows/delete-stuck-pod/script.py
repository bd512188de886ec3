#!/usr/bin/env python3
"""Delete one pod, exactly the one that was read, by force if it hangs in termination."""

import time

from k8s import fail, finish, main, number, param, refuse, target


def action(api):
    name, namespace = param("TARGET_RESOURCE_NAME", None), param("TARGET_RESOURCE_NAMESPACE", None)
    if api.find("pod", namespace, name) is None:
        finish("pod %s is gone" % name)
    _, pod = target(api, "Pod")
    meta = pod["metadata"]
    owner = next((o for o in meta.get("ownerReferences") or [] if o.get("controller")), None)
    if owner is None and param("ALLOW_BARE_POD", "false") != "true":
        refuse("pod %s has no controller, so nothing would replace it; set ALLOW_BARE_POD to delete it all the same" % name)
    terminating = "deletionTimestamp" in meta
    force = terminating and param("FORCE", "true") == "true"
    api.delete("pod", pod, 0 if force else None)
    deadline, seconds = time.monotonic() + number("WAIT_SECONDS", 30), number("WAIT_SECONDS", 30)
    while seconds:
        now = api.find("pod", namespace, name)
        if now is None or now["metadata"]["uid"] != meta["uid"]:
            break
        if time.monotonic() >= deadline:
            fail("pod %s is still there after %d s; finalizers: %s" % (name, seconds, now["metadata"].get("finalizers") or "none"))
        time.sleep(0.2)
    replaced = "%s %s replaces it" % (owner["kind"], owner["name"]) if owner else "nothing replaces it"
    finish("deleted pod %s%s; %s" % (name, " by force" if force else "", replaced))


main(action)
