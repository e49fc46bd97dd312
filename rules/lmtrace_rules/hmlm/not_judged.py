"""hmlm 6.12 and 6.14: memory tracking and the order of a whole migration, which no rule judges."""

from __future__ import annotations

from lmtrace.rule import not_a_rule

SECTION = "6.12 Memory change tracking, 6.14 End-to-end order"

for _number in range(1, 17):
    not_a_rule(f"HMLM-5.1.27.1.2-n{_number}", "memory tracking is not followed: which ranges a controller tracks")
not_a_rule("HMLM-5.1.26-n1", "memory tracking is not followed: which controllers are tracked")
for _number in range(1, 12):
    not_a_rule(
        f"HMLM-5.1.26.1.1-n{_number}", "memory tracking is not followed: reports against the writes that were seen"
    )
for _number in range(1, 7):
    not_a_rule(f"HMLM-8.1.12.1-n{_number}", "needs what was copied to be followed")
