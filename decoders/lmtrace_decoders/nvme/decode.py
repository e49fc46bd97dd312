"""The decoder from TLP rows, or PDU rows, to NVMe tables."""

from __future__ import annotations

from lmtrace.stage import decoder
from lmtrace.store import Store
from lmtrace_decoders.fabrics.decode import Fabrics
from lmtrace_decoders.migration_record import write_migrations
from lmtrace_decoders.nvme.discovery import Discovery
from lmtrace_decoders.nvme.reconstruct import Reconstruction


@decoder(
    "nvme",
    takes=("tlps",),
    gives=(
        "pdus", "tlp_transactions", "transactions", "children", "controllers", "queues", "regions", "properties",
        "doorbells", "interrupts", "pins", "vector_writes",
        "pending_bits", "interrupt_modes", "sriov_writes", "remainder",
        "unmatched_completions", "queue_uses", "quiet_periods", "function_resets", "pmr_uses", "shadow_accesses",
        "command_data", "controller_states", "controller_state_queues", "cdq_entries", "cdq_rewrites",
        "migration_steps", "migrations",
    ),
)  # fmt: skip
def nvme(store: Store) -> None:
    """Give every TLP of every capture its request, role and owner, and write the NVMe tables."""
    steps = []
    for capture in store.captures:
        if capture.unit == "PDU":
            fabrics = Fabrics(store, capture)
            fabrics.run()
            steps.append(fabrics.admin.steps)
            continue
        discovery = Discovery(capture)
        discovery.run(store, capture)
        run = Reconstruction(store, capture, discovery)
        run.run()
        steps.append(run.migration.steps)
    write_migrations(store, steps)
