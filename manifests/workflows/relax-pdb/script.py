#!/usr/bin/env python3
"""Let a PodDisruptionBudget allow disruptions again; the former budget is kept in an annotation."""

import json

from k8s import finish, main, mark, param, refuse, retrying, target

BEFORE = "kubernaut.ai/budget-before"


def selects(budget, labels):
    selector = budget["spec"].get("selector") or {}
    wanted = selector.get("matchLabels") or {}
    return bool(wanted) and all(labels.get(k) == v for k, v in wanted.items()) and not selector.get("matchExpressions")


def budget_of(api):
    kind, obj = target(api, "PodDisruptionBudget", "Deployment", "StatefulSet")
    if kind == "poddisruptionbudget":
        return obj
    labels = (obj["spec"]["template"].get("metadata") or {}).get("labels") or {}
    found = [b for b in api.list("poddisruptionbudget", obj["metadata"]["namespace"]) if selects(b, labels)]
    if len(found) != 1:
        names = ", ".join(b["metadata"]["name"] for b in found) or "none"
        refuse("exactly one PodDisruptionBudget must select %s; found %s" % (obj["metadata"]["name"], names))
    return found[0]


def action(api):
    text = param("MAX_UNAVAILABLE", "1")
    wanted = text if text.endswith("%") else int(text)

    def change():
        budget = budget_of(api)
        spec = budget["spec"]
        if spec.get("maxUnavailable") == wanted:
            return budget, None
        if (budget.get("status") or {}).get("disruptionsAllowed", 0) > 0:
            refuse("the budget allows disruptions already")
        before = {k: spec[k] for k in ("minAvailable", "maxUnavailable") if k in spec}
        notes = mark(**{BEFORE: json.dumps(before, sort_keys=True)})
        patch = {"metadata": {"annotations": notes}, "spec": {"minAvailable": None, "maxUnavailable": wanted}}
        return api.patch("poddisruptionbudget", budget, patch), before

    budget, before = retrying(change)
    name = budget["metadata"]["name"]
    if before is None:
        finish("PodDisruptionBudget %s has maxUnavailable %s already" % (name, text))
    finish("PodDisruptionBudget %s now has maxUnavailable %s; it was %s" % (name, text, json.dumps(before)))


main(action)
