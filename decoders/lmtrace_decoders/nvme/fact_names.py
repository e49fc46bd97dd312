"""The facts about a command that are kept as pairs of bits: not known, no, yes."""

from __future__ import annotations

FACTS = (
    "fetch_aligned", "fetch_inside", "fetched_early", "fetched_again", "fetched_in_order", "fetched_after_shutdown",
    "fetched_after_invalid_tail", "cq_oversubscribed", "phase_written_last", "sqhd_beyond_tail", "cq_full",
    "cqe_before_fetch", "sq_being_deleted", "acre", "crime", "fuse_paired", "fuse_partner_failed", "nsid_active",
    "over_transfer_limit", "data_covered", "buffer_shared", "completed_after_shutdown",
    "beyond_end", "write_protected", "media_read_only", "over_zeroes_limit", "broadcast_supported", "directive_enabled",
    "fdp_enabled", "protection_enabled", "reference_fits", "reserved_away",
    "metadata_made", "guards_fit", "application_tags_fit", "reference_tags_fit", "data_lacks_end",
)  # fmt: skip
"""Columns of the table ``transactions``; the position is that of the pair of bits in a record's ``facts``, those beyond
`IN_FIRST` in its ``more_facts``."""
IN_FIRST = 31
