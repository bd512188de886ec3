# Tests of the approval policy; see signalprocessing_test.rego for how to run them.
package aianalysis.approval_test

import rego.v1

import data.aianalysis.approval

test_a_confident_first_attempt_outside_production_runs_by_itself if {
	approval.require_approval == false with input.confidence as 0.9 with input.environment as "staging" with input.approval_threshold as 0.8
}

test_confidence_at_the_threshold_is_enough if {
	approval.require_approval == false with input.confidence as 0.8 with input.environment as "test" with input.approval_threshold as 0.8
}

test_confidence_below_the_threshold_needs_approval if {
	approval.require_approval with input.confidence as 0.79 with input.environment as "test" with input.approval_threshold as 0.8
}

test_the_threshold_is_080_when_nobody_says_another if {
	approval.require_approval with input.confidence as 0.79 with input.environment as "test"
}

test_production_needs_approval_however_confident if {
	approval.require_approval with input.confidence as 1 with input.environment as "production"
}

test_an_unknown_environment_needs_approval if {
	approval.require_approval with input.confidence as 1 with input.environment as "unknown"
}

test_a_second_recovery_outside_production_runs_by_itself if {
	approval.require_approval == false with input.confidence as 0.9 with input.environment as "staging" with input.is_recovery_attempt as true with input.recovery_attempt_number as 2
}

test_a_third_recovery_needs_approval if {
	approval.require_approval with input.confidence as 0.9 with input.environment as "staging" with input.is_recovery_attempt as true with input.recovery_attempt_number as 3
}

test_recovery_of_a_p0_needs_approval if {
	approval.require_approval with input.confidence as 0.9 with input.environment as "staging" with input.is_recovery_attempt as true with input.business_priority as "P0"
}

test_warnings_matter_in_production_only if {
	approval.require_approval == false with input.confidence as 0.9 with input.environment as "staging" with input.warnings as ["one"] with input.failed_detections as ["hpaEnabled"]
}

test_the_reason_names_what_detection_failed if {
	contains(approval.reason, "hpaEnabled, pdbProtected") with input.confidence as 0.9 with input.environment as "production" with input.failed_detections as ["hpaEnabled", "pdbProtected"]
}

test_a_target_outside_the_owner_chain_is_said_first if {
	startswith(approval.reason, "production, and the target is not in the owner chain") with input.confidence as 0.9 with input.environment as "production" with input.target_in_owner_chain as false
}

test_an_empty_input_needs_approval if {
	approval.require_approval
}

test_numbers_that_are_none_need_approval if {
	approval.require_approval with input.confidence as 0.9 with input.environment as "staging" with input.approval_threshold as "0"
	approval.require_approval with input.confidence as "1" with input.environment as "staging"
	approval.require_approval with input.confidence as 0.9 with input.environment as "staging" with input.recovery_attempt_number as null
}

test_a_poor_record_needs_approval_however_confident if {
	approval.require_approval with input.confidence as 1 with input.environment as "staging" with input.trust as {"level": "suggest", "assessed": 4, "effective": 1, "failures_in_a_row": 2}
}

test_the_reason_says_how_it_fared if {
	contains(approval.reason, "helped in 1 of 4 executions here, and in none of the last 2") with input.confidence as 1 with input.environment as "staging" with input.trust as {"level": "suggest", "assessed": 4, "effective": 1, "failures_in_a_row": 2}
}

test_a_record_that_cannot_be_read_needs_approval if {
	approval.require_approval with input.confidence as 1 with input.environment as "staging" with input.trust as {"level": "unknown"}
}

test_a_new_workflow_is_judged_by_the_other_rules if {
	approval.require_approval == false with input.confidence as 0.9 with input.environment as "staging" with input.trust as {"level": "approve", "assessed": 0}
	approval.require_approval with input.confidence as 0.7 with input.environment as "staging" with input.trust as {"level": "approve", "assessed": 0}
}

test_the_best_record_overrides_nothing if {
	approval.require_approval with input.confidence as 1 with input.environment as "production" with input.trust as {"level": "auto", "assessed": 50, "effective": 50}
	approval.require_approval with input.confidence as 0.7 with input.environment as "staging" with input.trust as {"level": "auto", "assessed": 50, "effective": 50}
}
