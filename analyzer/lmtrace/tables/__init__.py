"""Every table lmtrace leaves behind: its columns, their types, and a sentence for each.

Times are integer picoseconds since the first timestamp of the capture and finer units are rounded down; the order of
things is the order of ``id``. ``<thing>_id`` is a row number of that table. ``source_offset`` counts bytes of the
uncompressed capture, or packets. In a network capture PDUs take the place of TLPs: a ``<thing>_tlp_id`` is a row of
``pdus`` there, whose ids go on where those of ``tlps`` end. A column is null where the fact does not exist or was not
seen.
"""

from __future__ import annotations

from lmtrace.tables.base import SCHEMA_VERSION, Column, Table
from lmtrace.tables.commands import (
    CHILDREN,
    COMMAND_DATA,
    CONTROLLERS,
    DATA_CHECKS,
    HOST_MEMORY_USES,
    KEY_VALUE_COMMANDS,
    QUEUES,
    RANGE_COMMANDS,
    REGIONS,
    RESERVATION_COMMANDS,
    TRANSACTIONS,
)
from lmtrace.tables.interrupts import (
    INTERRUPT_MODES,
    INTERRUPTS,
    PENDING_BITS,
    PINS,
    SRIOV_WRITES,
    VECTOR_WRITES,
)
from lmtrace.tables.judgement import (
    OUTCOMES,
    TROUBLES,
    VIOLATIONS,
)
from lmtrace.tables.migration import (
    CDQ_ENTRIES,
    CDQ_REWRITES,
    CONTROLLER_STATE_QUEUES,
    CONTROLLER_STATES,
    DIRTY_LOG,
    MIGRATED_COMMANDS,
    MIGRATION_PHASES,
    MIGRATION_STEPS,
    MIGRATIONS,
    PRECOPY_ROUNDS,
    STATE_COMPARISON,
    USER_DATA,
)
from lmtrace.tables.remainder import REMAINDER
from lmtrace.tables.tracking import (
    MEMORY_CHANGES,
    MEMORY_LOG,
    MEMORY_REPORTS,
    TRACKED_RANGES,
)
from lmtrace.tables.wire import (
    DOORBELLS,
    FUNCTION_RESETS,
    PDUS,
    PMR_USES,
    PROPERTIES,
    QUEUE_USES,
    QUIET_PERIODS,
    SHADOW_ACCESSES,
    TLP_TRANSACTIONS,
    TLPS,
    UNMATCHED_COMPLETIONS,
)
from lmtrace.tables.zones import REPORTED_ZONES, ZONE_COMMANDS

__all__ = [
    "CDQ_ENTRIES",
    "CDQ_REWRITES",
    "CHILDREN",
    "COMMAND_DATA",
    "CONTROLLERS",
    "CONTROLLER_STATES",
    "CONTROLLER_STATE_QUEUES",
    "DATA_CHECKS",
    "DIRTY_LOG",
    "DOORBELLS",
    "FUNCTION_RESETS",
    "HOST_MEMORY_USES",
    "INTERRUPTS",
    "INTERRUPT_MODES",
    "KEY_VALUE_COMMANDS",
    "MEMORY_CHANGES",
    "MEMORY_LOG",
    "MEMORY_REPORTS",
    "MIGRATED_COMMANDS",
    "MIGRATIONS",
    "MIGRATION_PHASES",
    "MIGRATION_STEPS",
    "OUTCOMES",
    "PDUS",
    "PENDING_BITS",
    "PINS",
    "PMR_USES",
    "PRECOPY_ROUNDS",
    "PROPERTIES",
    "QUEUES",
    "QUEUE_USES",
    "QUIET_PERIODS",
    "RANGE_COMMANDS",
    "REGIONS",
    "REMAINDER",
    "REPORTED_ZONES",
    "RESERVATION_COMMANDS",
    "ROLES",
    "SCHEMA_VERSION",
    "SHADOW_ACCESSES",
    "SRIOV_WRITES",
    "STATE_COMPARISON",
    "TABLES",
    "TLPS",
    "TLP_TRANSACTIONS",
    "TRACKED_RANGES",
    "TRANSACTIONS",
    "TROUBLES",
    "UNMATCHED_COMPLETIONS",
    "USER_DATA",
    "VECTOR_WRITES",
    "VIOLATIONS",
    "ZONE_COMMANDS",
    "Column",
    "Table",
]

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        TLPS, PDUS, TLP_TRANSACTIONS, TRANSACTIONS, CHILDREN, CONTROLLERS, QUEUES, REGIONS, PROPERTIES, DOORBELLS,
        INTERRUPTS, PINS, VECTOR_WRITES, PENDING_BITS, INTERRUPT_MODES, SRIOV_WRITES, REMAINDER,
        UNMATCHED_COMPLETIONS, QUEUE_USES, QUIET_PERIODS, FUNCTION_RESETS, PMR_USES, SHADOW_ACCESSES, COMMAND_DATA,
        DATA_CHECKS, RANGE_COMMANDS, RESERVATION_COMMANDS, KEY_VALUE_COMMANDS,
        ZONE_COMMANDS, REPORTED_ZONES, HOST_MEMORY_USES, CONTROLLER_STATES,
        CONTROLLER_STATE_QUEUES, CDQ_ENTRIES, CDQ_REWRITES, DIRTY_LOG, MIGRATION_STEPS, MIGRATIONS, MIGRATION_PHASES,
        PRECOPY_ROUNDS, STATE_COMPARISON, MIGRATED_COMMANDS, USER_DATA, TRACKED_RANGES, MEMORY_REPORTS, MEMORY_CHANGES,
        MEMORY_LOG, VIOLATIONS, OUTCOMES, TROUBLES,
    )
}  # fmt: skip
"""Every table by name."""

ROLES = (
    "config", "register", "sq_doorbell", "cq_doorbell", "sqe_fetch", "prp_list", "sgl_segment", "data", "metadata",
    "cqe", "interrupt", "msix_table", "cdq_entry", "shadow_doorbell", "cmb", "message", "unrelated", "hmb",
)  # fmt: skip
"""What a TLP may be for; the position is the code used in memory."""
