"""The decoder that looks at both ends of every migration."""

from __future__ import annotations

from lmtrace.stage import decoder
from lmtrace.store import Store
from lmtrace_decoders.both_ends.capability import compare_capabilities
from lmtrace_decoders.both_ends.commands import tell_commands
from lmtrace_decoders.both_ends.ends import handovers
from lmtrace_decoders.both_ends.reading import tell_reading
from lmtrace_decoders.both_ends.states import compare_states, order_of_pieces
from lmtrace_decoders.both_ends.user_data import follow_user_data
from lmtrace_decoders.both_ends.wire import compare_destination, compare_source


@decoder(
    "both-ends",
    takes=("tlps", "transactions", "tlp_transactions", "controllers", "queues", "doorbells", "interrupts", "migrations",
           "controller_states", "command_data", "unmatched_completions", "properties", "cdq_entries",
           "migration_steps"),
    gives=("state_comparison", "migrated_commands", "user_data"),
)  # fmt: skip
def both_ends(store: Store) -> None:
    """Compare what left the source of each migration with what arrived at its destination."""
    for handover in handovers(store):
        compare_capabilities(handover)
        compare_states(handover)
        order_of_pieces(handover)
        tell_reading(handover)
        compare_source(handover)
        compare_destination(handover)
        tell_commands(handover)
        follow_user_data(handover)
