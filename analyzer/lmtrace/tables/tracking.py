"""Tables of memory tracking."""

from __future__ import annotations

from lmtrace.tables.base import PLACE, table

TRACKED_RANGES = table(
    "tracked_ranges",
    "One memory range that a Track Send asked to be tracked.",
    PLACE
    + """
transaction_id uint64 The Track Send command.
function uint16 Function that took it.
target uint16 CNTLID of the controller to be tracked.
number uint32 Place among the descriptors of the command, from 0.
address uint64 First byte.
length uint64 Bytes.
granularity uint64 Bytes of one unit, 4096 times a power of two.
complete bool Every byte of the structure was seen.
status str Status of the command.
from_ps int64 Completion of the Track Send; null where it was refused.
to_ps int64 End of the tracking; null while it lasts, or where it was refused.
ended_by str `stop`, `start`, `reset`, or null.
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

MEMORY_REPORTS = table(
    "memory_reports",
    "One Track Receive that succeeded, with what the writes seen on the link say about its report.",
    PLACE
    + """
transaction_id uint64 The Track Receive command.
function uint16 Function that took it.
target uint16 CNTLID of the tracked controller.
fetch_ps int64 Fetch of the command.
time_ps int64 Its completion.
tlp_id uint64 TLP that completed it.
more bool MTR: there is more to report.
suspended bool SUSP: the controller was suspended meanwhile.
granularity uint64 Bytes of one unit.
descriptors uint32 Descriptors announced (NTMCD).
complete bool Every byte of the report was seen.
length uint64 Bytes that its ranges name, each once.
judged bool It was compared with the writes of the tracked controller, all of which were seen.
reason str Why it was not.
final bool It is the first one with SUSP 1 and MTR 0 since the controller was suspended.
pages_changed uint64 4 KiB pages of it that were written since they were reported last.
pages_repeated uint64 Pages reported again without a write in between, at the granularity of the tracking.
pages_unwritten uint64 Pages reported for the first time that were not written since the tracking began.
pages_missed uint64 Pages written before the suspension that neither this final report nor one before named.
pages_late uint64 Those of the missed ones that a later report named.
pages_eaten uint64 Those of the missed ones that waited while a Track Receive failed.
learnt str How the tracked controller's function was learnt: `seen`, `inferred` or `given`.
""",
)

MEMORY_CHANGES = table(
    "memory_changes",
    "One descriptor of a Track Receive report.",
    PLACE
    + """
transaction_id uint64 The Track Receive command.
target uint16 CNTLID of the tracked controller.
number uint32 Place among the descriptors of the report, from 0.
address uint64 First byte of the changed range.
length uint64 Bytes.
more bool MTR of the report.
suspended bool SUSP of the report.
time_ps int64 Completion of the command.
complete bool Every byte of the report was seen; else descriptors may be missing here.
pages_changed uint64 4 KiB pages of it that were seen written since they were reported last; null where not followed.
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

MEMORY_LOG = table(
    "memory_log",
    "One memory range where reports and writes of a tracked controller do not agree.",
    PLACE
    + """
target uint16 CNTLID of the tracked controller.
function uint16 Its function.
judgement str `missed`, `late`, `repeated`, `unwritten`, or `unread`: written and not asked for before the end.
address uint64 First byte.
length uint64 Bytes, in units of the granularity of the tracking.
time_ps int64 When it showed: completion of the report, or end of the tracking.
transaction_id uint64 The report that shows it; null for `unread`.
written_ps int64 First write that should have been reported.
written_tlp_id uint64 Its TLP.
late_transaction_id uint64 The later report that named a part of it.
eaten_transaction_id uint64 The failed Track Receive after the write, which may have consumed it.
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)
