# METADATA
# title: Whose business a signal is
# description: >
#   Owner, criticality and service level, each by itself: a label of the namespace, or else what its name suggests, or
#   else nothing said (criticality medium, service level bronze).
package signalprocessing.business

import rego.v1

result := {
	"business_unit": business_unit,
	"service_owner": service_owner,
	"criticality": criticality,
	"sla": sla,
}

default labels := {}

labels := input.namespace.labels

default business_unit := ""

business_unit := labels["kubernaut.ai/business-unit"] if {
	labels["kubernaut.ai/business-unit"]
} else := suggested[0]

# The first word of the namespace's name that means something decides.
suggested := [units[word] | some word in split(lower(input.namespace.name), "-"); units[word]]

units := {
	"billing": "payments",
	"payments": "payments",
	"checkout": "payments",
	"platform": "platform",
	"infra": "platform",
	"monitoring": "platform",
	"data": "data",
	"analytics": "data",
}

default service_owner := ""

service_owner := labels["kubernaut.ai/service-owner"] if {
	labels["kubernaut.ai/service-owner"]
} else := labels["kubernaut.ai/team"] if {
	labels["kubernaut.ai/team"]
}

default criticality := "medium"

criticality := lower(labels["kubernaut.ai/criticality"]) if {
	lower(labels["kubernaut.ai/criticality"]) in {"critical", "high", "medium", "low"}
} else := "high" if {
	business_unit == "payments"
}

default sla := "bronze"

sla := tiers[lower(labels["kubernaut.ai/sla-tier"])]

tiers := {
	"platinum": "platinum",
	"gold": "gold",
	"silver": "silver",
	"bronze": "bronze",
	"tier-0": "platinum",
	"tier-1": "gold",
	"tier-2": "silver",
	"tier-3": "bronze",
}
