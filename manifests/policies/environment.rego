# METADATA
# title: Which environment a signal's target lives in
# description: >
#   Reads only what the cluster says about the target's namespace. The signal's own labels are never used: whoever can
#   write an alert could otherwise call production "development". The namespace label kubernaut.ai/environment is
#   authoritative; without one the namespace's name is compared, word by word, with common conventions.
package signalprocessing.environment

import rego.v1

default result := {"environment": "unknown", "source": "default"}

result := {"environment": known[label], "source": "namespace-labels"} if {
	label != ""
	known[label]
} else := {"environment": "unknown", "source": "default"} if {
	# A label that we cannot read is no leave to guess.
	label != ""
} else := {"environment": "production", "source": "rego-inference"} if {
	"production" in guesses
} else := {"environment": guess, "source": "rego-inference"} if {
	count(guesses) == 1
	some guess in guesses
}

default label := ""

label := lower(trim_space(input.namespace.labels["kubernaut.ai/environment"]))

known := {
	"production": "production",
	"prod": "production",
	"prd": "production",
	"live": "production",
	"staging": "staging",
	"stage": "staging",
	"stg": "staging",
	"preprod": "staging",
	"uat": "staging",
	"development": "development",
	"dev": "development",
	"test": "test",
	"testing": "test",
	"qa": "test",
	"ci": "test",
}

# Several words that disagree are no answer, but for production: it is never guessed away.
guesses contains known[word] if {
	some word in split(lower(input.namespace.name), "-")
	known[word]
}
