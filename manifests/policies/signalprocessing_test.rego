# Tests of the signal processing policies. They set single fields of the input (with input.x as …) and never the whole of it,
# which the evaluator used by the system cannot do. Run them with: kubernaut-ray policy check manifests/policies
package signalprocessing_test

import rego.v1

import data.signalprocessing.business
import data.signalprocessing.environment
import data.signalprocessing.labels
import data.signalprocessing.priority
import data.signalprocessing.severity

test_the_namespace_label_decides_the_environment if {
	environment.result == {"environment": "production", "source": "namespace-labels"} with input.namespace as {"name": "dev", "labels": {"kubernaut.ai/environment": " Prod "}}
}

test_an_unreadable_label_is_not_guessed_over if {
	environment.result == {"environment": "unknown", "source": "default"} with input.namespace as {"name": "dev", "labels": {"kubernaut.ai/environment": "moonbase"}}
}

test_the_signals_own_labels_are_not_trusted if {
	environment.result == {"environment": "unknown", "source": "default"} with input.namespace as {"name": "shop", "labels": {}} with input.signal as {"labels": {"environment": "development"}}
}

test_a_namespace_name_suggests_an_environment if {
	environment.result == {"environment": "staging", "source": "rego-inference"} with input.namespace as {"name": "shop-staging", "labels": {}}
}

test_production_is_never_guessed_away if {
	environment.result == {"environment": "production", "source": "rego-inference"} with input.namespace as {"name": "prod-test-shop", "labels": {}}
}

test_words_that_disagree_are_no_answer if {
	environment.result == {"environment": "unknown", "source": "default"} with input.namespace as {"name": "dev-qa", "labels": {}}
}

test_part_of_a_word_is_not_a_word if {
	environment.result == {"environment": "unknown", "source": "default"} with input.namespace as {"name": "product-devices", "labels": {}}
}

test_no_namespace_is_an_unknown_environment if {
	environment.result == {"environment": "unknown", "source": "default"}
}

test_severities_of_every_vocabulary_are_mapped if {
	severity.result == "critical" with input.signal as {"severity": "Sev1"}
}

test_spaces_and_case_do_not_matter if {
	severity.result == "warning" with input.signal as {"severity": " WARNING "}
}

test_an_unheard_of_severity_is_unknown if {
	severity.result == "unknown" with input.signal as {"severity": "purple"}
}

test_critical_in_production_is_p0 if {
	priority.result.priority == "P0" with input.severity as "critical" with input.environment as "production"
}

test_a_critical_tier_raises_a_critical_signal if {
	priority.result == {"priority": "P0", "policy_name": "critical-tier-critical"} with input.severity as "critical" with input.environment as "development" with input.namespace as {"labels": {"kubernaut.ai/tier": "critical"}}
}

test_a_tier_does_not_raise_a_warning if {
	priority.result.priority == "P3" with input.severity as "warning" with input.environment as "development" with input.namespace as {"labels": {"kubernaut.ai/tier": "critical"}}
}

test_an_unknown_environment_is_p2 if {
	priority.result == {"priority": "P2", "policy_name": "default"} with input.severity as "warning" with input.environment as "unknown"
}

test_business_labels_win_over_the_name if {
	business.result.business_unit == "shop" with input.namespace as {"name": "payments", "labels": {"kubernaut.ai/business-unit": "shop"}}
}

test_a_name_with_several_business_words_takes_the_first if {
	business.result.business_unit == "payments" with input.namespace as {"name": "payments-platform", "labels": {}}
}

test_service_levels_are_read_from_tiers if {
	business.result.sla == "gold" with input.namespace as {"name": "x", "labels": {"kubernaut.ai/sla-tier": "tier-1"}}
}

test_without_labels_business_has_defaults if {
	business.result == {"business_unit": "", "service_owner": "", "criticality": "medium", "sla": "bronze"} with input.namespace as {"name": "x", "labels": {}}
}

test_team_cost_center_and_region_become_labels if {
	labels.labels == {"team": ["a"], "region": ["eu"]} with input.namespace as {"name": "x", "labels": {"kubernaut.ai/team": "a", "kubernaut.ai/region": "eu", "other": "b"}}
}

test_the_matrix_of_severity_and_environment if {
	priority.result.priority == "P1" with input.severity as "critical" with input.environment as "staging"
	priority.result.priority == "P2" with input.severity as "critical" with input.environment as "development"
	priority.result.priority == "P2" with input.severity as "critical" with input.environment as "test"
	priority.result.priority == "P1" with input.severity as "warning" with input.environment as "production"
	priority.result.priority == "P2" with input.severity as "warning" with input.environment as "staging"
	priority.result.priority == "P3" with input.severity as "warning" with input.environment as "test"
	priority.result.priority == "P2" with input.severity as "info" with input.environment as "production"
	priority.result.priority == "P3" with input.severity as "info" with input.environment as "staging"
}

test_a_high_tier_raises_a_critical_signal_to_p1 if {
	priority.result == {"priority": "P1", "policy_name": "critical-tier-high"} with input.severity as "critical" with input.environment as "test" with input.namespace as {"labels": {"kubernaut.ai/tier": "high"}}
}

test_critical_production_wins_over_a_lower_tier if {
	priority.result.policy_name == "critical-production" with input.severity as "critical" with input.environment as "production" with input.namespace as {"labels": {"kubernaut.ai/tier": "high"}}
}

test_business_is_read_field_by_field if {
	business.result == {"business_unit": "payments", "service_owner": "amy", "criticality": "high", "sla": "bronze"} with input.namespace as {"name": "checkout", "labels": {"kubernaut.ai/service-owner": "amy", "kubernaut.ai/sla-tier": "bogus"}}
}

test_a_criticality_that_is_none_keeps_the_default if {
	business.result.criticality == "medium" with input.namespace as {"name": "x", "labels": {"kubernaut.ai/criticality": "enormous"}}
}
