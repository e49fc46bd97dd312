"""Tables of what was judged, and what could not be understood."""

from __future__ import annotations

from lmtrace.tables.base import table

VIOLATIONS = table(
    "violations",
    "One broken rule.",
    """
id uint64 Row number.
rule str Rule.
name str Name of the rule.
severity str `error`, `warning` or `info`.
party str Who is obliged: `controller`, `host` or `both`.
capture str Name of the capture file.
link str Link.
controller uint16 CNTLID.
time_ps int64 When it broke.
message str What happened, in a sentence.
spec str Section of the specification.
fingerprint str Stable across runs and formats: rule, controller, queue, command, one of several links; never time.
waived str Reason of the waiver that covers it; null without one.
transaction_id uint64 The command.
tlp_id uint64 The TLP that shows it.
source_offset int64 Place of that TLP in the capture.
""",
)

OUTCOMES = table(
    "outcomes",
    "One rule in this run.",
    """
rule str Rule.
name str Name of the rule.
severity str Severity of its worst broken answer, else of the rule.
outcome str `held`, `broken`, `not exercised` or `not observable`.
held uint64 Times it held.
broken uint64 Times it was broken.
not_observable uint64 Times the evidence was not in the capture.
reason str Why it could not be judged.
text str What the rule wants.
why str Why it wants that.
""",
)

TROUBLES = table(
    "troubles",
    "One kind of thing import could not understand.",
    """
name str Kind of trouble.
capture str Name of the capture file.
severity str `info`, `data-loss` or `error`.
count uint64 How often.
first_time_ps int64 First time; null before any.
first_offset int64 First byte offset or packet; null where there is none.
text str What was seen the first time.
advice str What to do.
""",
)
