"""hmlm 6.14: the order of a whole migration as far as no rule judges it."""

from __future__ import annotations

from lmtrace.rule import not_a_rule

SECTION = "6.14 End-to-end order"

for _number in range(1, 7):
    not_a_rule(f"HMLM-8.1.12.1-n{_number}", "needs what was copied to be followed")
