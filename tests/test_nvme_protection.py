"""Protection information: where it lies in a namespace's blocks, and what guards them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lmtrace
from lmtrace.scenario import synth
from lmtrace_decoders.nvme.namespaces import Namespace
from lmtrace_decoders.nvme.protection import Protection, guards, protection_of
from lmtrace_decoders.nvme.transfer import BlockFormat, Entry, io_bytes
from test_snap_length import cut

ONE_FORMAT = 2 << 7 | 16
"""An extended LBA format: a guard of 64 bits, and 16 bits of storage tag."""


def namespace(kind: int | None, metadata: int, formats: bytes | None = None) -> Namespace:
    return Namespace(0, 1, BlockFormat(512, metadata), told=True, protection=kind, formats=formats)


def test_guard_is_the_crc_of_t10_dif() -> None:
    rows = np.frombuffer(b"123456789" + bytes(9), np.uint8).reshape(2, 9)
    assert guards(rows).tolist() == [0xD0DB, 0]


@pytest.mark.parametrize(
    ("told", "extended", "expected"),
    [
        (namespace(None, 8), False, None),
        (namespace(0, 8), None, Protection(0)),
        (namespace(1, 8), False, Protection(1, 8, False, True, True)),
        (namespace(1, 8), None, Protection(1, 8, False, True, False)),
        (namespace(1, 16), None, None),
        (namespace(3, 16), True, None),
        (namespace(3, 16), False, Protection(3, 8, False, True, True)),
        (namespace(3, 16, bytes(256)), True, Protection(3, 8, False, True, True)),
        (namespace(2, 16, ONE_FORMAT.to_bytes(4, "little")), True, Protection(2, 16, False, False, False)),
        (namespace(4, 16), False, None),
    ],
)
def test_what_identify_told_says_how_a_namespace_is_protected(
    told: Namespace, extended: bool | None, expected: Protection | None
) -> None:
    assert protection_of(told, extended) == expected


@pytest.mark.parametrize(
    ("extended", "made", "expected"),
    [
        (False, False, (1024, 16)), (False, True, (1024, 0)), (False, None, (1024, 16)), (True, False, (1040, 0)),
        (True, True, (1024, 0)), (True, None, (None, 0)),
    ],
)  # fmt: skip
def test_metadata_that_the_controller_makes_do_not_move(
    extended: bool, made: bool | None, expected: tuple[int | None, int]
) -> None:
    write = Entry(1, 1, 0, 0, 1 << 29 | 1, 0, 0)
    assert io_bytes(write, BlockFormat(512, 8, extended), made) == expected


def test_tags_of_blocks_that_were_cut_are_not_observable(tmp_path: Path) -> None:
    (whole,) = synth("protected-blocks", tmp_path / "whole.pcap")
    run = lmtrace.check(cut(whole, tmp_path / "cut.pcap", 240), output=tmp_path / "run")
    outcomes = {row["rule"]: row["outcome"] for row in run.table("outcomes").to_pylist()}
    assert outcomes["NVM21-N5.3-n1"] == outcomes["NVM21-N5.3-n3"] == "not observable"
    assert [row for row in run.table("violations").to_pylist() if row["severity"] == "error"] == []
