#!/usr/bin/env python3
"""Delete failed Jobs; running and completed ones are never touched."""

import datetime

from k8s import finish, main, number, param, refuse, result


def failed(job):
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Failed" and c.get("status") == "True" for c in conditions)


def old_enough(job, minutes):
    created = datetime.datetime.fromisoformat(job["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    return datetime.datetime.now(datetime.timezone.utc) - created >= datetime.timedelta(minutes=minutes)


def action(api):
    namespace, name = param("TARGET_RESOURCE_NAMESPACE", None), param("TARGET_RESOURCE_NAME", None)
    if param("ALL_IN_NAMESPACE", "false") == "true":
        jobs = api.list("job", namespace)
    else:
        job = api.find("job", namespace, name)
        if job is None:
            result("deleted", 0)
            finish("job %s is gone" % name)
        if not failed(job):
            refuse("job %s has not failed" % name)
        jobs = [job]
    chosen = [j for j in jobs if failed(j) and old_enough(j, number("OLDER_THAN_MINUTES", 0))]
    for job in chosen:
        api.delete("job", job)
    result("deleted", len(chosen))
    finish("deleted %d failed jobs in %s: %s" % (len(chosen), namespace, ", ".join(j["metadata"]["name"] for j in chosen) or "none"))


main(action)
