# METADATA
# title: How bad a signal is
# description: >
#   Maps the severity that a source wrote, in whatever vocabulary, to ours: critical, high, warning, info or unknown.
package signalprocessing.severity

import rego.v1

default result := "unknown"

result := vocabulary[raw]

raw := lower(trim_space(input.signal.severity))

vocabulary := {
	"critical": "critical",
	"crit": "critical",
	"fatal": "critical",
	"emergency": "critical",
	"emerg": "critical",
	"disaster": "critical",
	"page": "critical",
	"sev0": "critical",
	"sev1": "critical",
	"sev-1": "critical",
	"p0": "critical",
	"p1": "critical",
	"1": "critical",
	"high": "high",
	"error": "high",
	"err": "high",
	"major": "high",
	"sev2": "high",
	"sev-2": "high",
	"p2": "high",
	"2": "high",
	"warning": "warning",
	"warn": "warning",
	"medium": "warning",
	"moderate": "warning",
	"minor": "warning",
	"average": "warning",
	"sev3": "warning",
	"sev-3": "warning",
	"p3": "warning",
	"3": "warning",
	"info": "info",
	"information": "info",
	"informational": "info",
	"notice": "info",
	"low": "info",
	"none": "info",
	"debug": "info",
	"sev4": "info",
	"sev-4": "info",
	"p4": "info",
	"4": "info",
}
