# METADATA
# title: Whether a person must approve a remediation
# description: >
#   Approval is required unless everything needed to judge is there and nothing speaks against going on: confidence at or
#   above the threshold, an environment known not to be production, not too many failed attempts before, and no poor record
#   of the workflow (input.trust, whose level is suggest, approve or auto).
#   When this gives no answer at all, the system asks a person.
package aianalysis.approval

import rego.v1

default require_approval := true

require_approval := false if {
	judgeable
	count(findings) == 0
}

default reason := "the input lacks what is needed to judge (confidence, environment), or has it in another type"

reason := concat("; ", [finding[1] | some finding in sort(findings)]) if {
	judgeable
	count(findings) > 0
} else := "no rule asks for approval" if {
	judgeable
}

judgeable if {
	is_number(input.confidence)
	is_string(input.environment)
	is_number(threshold)
	is_number(attempt)
}

default threshold := 0.8

threshold := input.approval_threshold

default attempt := 0

attempt := input.recovery_attempt_number

production if input.environment == "production"

# Each finding is [rank, words]; the rank, always of two digits, only orders the words.
findings contains [10, sprintf("confidence %v is below the threshold of %v", [input.confidence, threshold])] if {
	input.confidence < threshold
}

# The record of this very workflow in this environment. A good one never speaks for going on where something else asks.
findings contains [15, sprintf("the workflow helped in %v of %v executions here, and in none of the last %v", [trust.effective, trust.assessed, trust.failures_in_a_row])] if {
	trust.level == "suggest"
}

findings contains [16, "how the workflow fared before cannot be read"] if trust.level == "unknown"

findings contains [20, sprintf("recovery attempt %d", [attempt])] if {
	is_number(attempt)
	attempt >= 3
}

findings contains [30, "recovery of a P0 signal"] if {
	input.is_recovery_attempt
	input.business_priority == "P0"
}

findings contains [31, "recovery in production after an execution that failed half-way"] if {
	production
	input.was_execution_failure
}

findings contains [40, "production, and the target is not in the owner chain of the signal's resource"] if {
	production
	input.target_in_owner_chain == false
}

findings contains [50, concat("", ["production, and detection failed for ", concat(", ", failed)])] if {
	production
	count(input.failed_detections) > 0
}

findings contains [60, "production, and the investigation has warnings"] if {
	production
	count(input.warnings) > 0
}

findings contains [70, "production, and the workload is stateful"] if {
	production
	input.detected_labels.stateful
	not "stateful" in failed
}

findings contains [80, sprintf("production, and a %s is a sensitive kind", [input.target_resource.kind])] if {
	production
	input.target_resource.kind in {"Node", "PersistentVolume", "PersistentVolumeClaim", "Namespace", "StatefulSet"}
}

findings contains [90, "production always needs approval"] if production

findings contains [91, "the environment is not known, so it may be production"] if {
	not production
	not input.environment in {"staging", "development", "test"}
}

default trust := {}

trust := input.trust

default failed := []

failed := input.failed_detections
