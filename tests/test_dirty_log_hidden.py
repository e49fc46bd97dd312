"""Entries that a host does not find: it takes one slot after the other, and those of the phase that is due."""

from __future__ import annotations

import pytest

from lmtrace_decoders.dirty_log.periods import _hidden


@pytest.mark.parametrize(
    ("written", "unseen"),
    [
        ("0+ 1+ 2+", set()),
        ("0+ 1+ 2+ 0- 1- 2- 0+", set()),
        ("0+ 1- 2+", {1, 2}),
        ("0+ 2+ 1+", set()),
        ("0+ 1+ 3+ 0- 1-", {2, 3, 4}),
        ("0+ 1+ 3+ 2+ 0-", {2}),
    ],
)
def test_a_host_finds_entries_in_order_and_of_their_phase(written: str, unseen: set[int]) -> None:
    entries = [{"id": number, "slot": int(one[0]), "cdqp": one[1] == "+"} for number, one in enumerate(written.split())]
    assert _hidden(3, entries) == unseen
