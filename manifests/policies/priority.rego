# METADATA
# title: How urgent a signal is
# description: >
#   Severity and environment, both as classified by policy, give P0 to P3; the namespace's label tier raises a critical
#   signal outside production. One chain of else, so that exactly one rule answers.
package signalprocessing.priority

import rego.v1

default result := {"priority": "P2", "policy_name": "default"}

result := {"priority": "P0", "policy_name": "critical-production"} if {
	input.severity == "critical"
	input.environment == "production"
} else := {"priority": "P0", "policy_name": "critical-tier-critical"} if {
	input.severity == "critical"
	tier == "critical"
} else := {"priority": "P1", "policy_name": "critical-tier-high"} if {
	input.severity == "critical"
	tier == "high"
} else := {"priority": matrix[input.severity][input.environment], "policy_name": name} if {
	matrix[input.severity][input.environment]
	name := sprintf("%s-%s", [input.severity, input.environment])
}

matrix := {
	"critical": {"production": "P0", "staging": "P1", "development": "P2", "test": "P2"},
	"high": {"production": "P1", "staging": "P2", "development": "P3", "test": "P3"},
	"warning": {"production": "P1", "staging": "P2", "development": "P3", "test": "P3"},
	"info": {"production": "P2", "staging": "P3", "development": "P3", "test": "P3"},
}

default tier := ""

tier := lower(input.namespace.labels["kubernaut.ai/tier"])
