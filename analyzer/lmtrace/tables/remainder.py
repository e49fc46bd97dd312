"""The table of TLPs that belong to nothing lmtrace follows."""

from __future__ import annotations

from lmtrace.tables.base import PLACE, table

REMAINDER = table(
    "remainder",
    "One TLP that belongs to nothing lmtrace follows, its class, and what lies nearest to its address.",
    PLACE
    + """
function uint16 Requester, of a request of the device; null otherwise.
controller uint16 CNTLID of it.
class str `unknown address`, `another function`, `host access elsewhere`, `flush`, `I/O request`, `completion`, `stray completion`.
kind str MRd, MWr and so on.
address uint64 First byte that is enabled; null for a completion.
length uint32 Bytes.
nearest str The region that lives nearest to it in the address space of its requester.
distance uint64 Bytes between the two, 0 within it.
accounted bool Everything that the function may reach is known, so that this belongs to nothing; null for others.
former bool It lies in a region whose life has ended.
own_region bool It lies in a BAR or a memory of the function itself.
own_memory bool It lies in the controller memory buffer by the address that its controller knows; null without one.
other_function uint16 Another function that has a region or buffer there.
other_admin bool That is an admin queue.
foreign_entry bool It posts the next entry of a completion queue of that function for a command of it, or fetches one due.
between_vfs bool The requester is no function of a device whose virtual functions are known; null otherwise.
odd_header bool Its header is malformed, or its address is not one of plain memory; null for completions.
time_ps int64 Time.
tlp_id uint64 The TLP.
learnt str How BAR0 of the function was learnt: `seen`, `inferred` or `given`; null where no function is known.
""",  # noqa: E501
)
