# METADATA
# title: Labels of our own for a signal
# description: >
#   Subdomain → values, used to choose workflows. Keys under kubernaut.ai/ and system/ are reserved and dropped by the
#   system, as is what goes beyond 10 keys or 5 values.
package signalprocessing.labels

import rego.v1

default labels := {}

labels := {name: [value] |
	some name in ["team", "cost-center", "region"]
	value := input.namespace.labels[concat("/", ["kubernaut.ai", name])]
	value != ""
}
