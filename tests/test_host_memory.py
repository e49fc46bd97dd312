"""What becomes of a Host Memory Buffer, and what configuration spaces and error logs leave in tables and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmtrace.check import check
from lmtrace.pieces import Pieces
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace.spec.admin_data import HOST_MEMORY_DESCRIPTOR
from lmtrace_decoders.nvme.host_memory import Buffer, _ranges


def judged(folder: Path, fault: str | None = None, name: str = "administration") -> Run:
    return check(synth(name, folder / "played.pcapng", fault=fault), output=folder / "run")


def uses(run: Run) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in run.table("host_memory_uses").to_pylist()}


@pytest.mark.parametrize(
    ("fault", "inside", "beside", "after"),
    [
        (None, 12, 0, 0), ("memory-beside-buffer-used", 0, 12, 0), ("returned-memory-used", 12, 0, 1),
    ],
)  # fmt: skip
def test_what_the_controller_did(tmp_path: Path, fault: str | None, inside: int, beside: int, after: int) -> None:
    found = uses(judged(tmp_path, fault))
    assert {what: row["requests"] for what, row in found.items()} == {
        "inside": inside, "beside": beside, "after": after,
    }  # fmt: skip
    assert {row["bytes"] for row in found.values()} == {8 * 4096}
    for row in found.values():
        assert (row["address"] is None) == (row["requests"] == 0)


def test_without_a_buffer_there_is_nothing(tmp_path: Path) -> None:
    assert judged(tmp_path, name="plain-io").table("host_memory_uses").num_rows == 0


def test_configuration_space_of_controllers(tmp_path: Path) -> None:
    rows = judged(tmp_path).table("controllers").to_pylist()
    primary = next(row for row in rows if row["function"] == 0x0100)
    said = tuple(primary[name] for name in ("vendor_id", "subsystem_vendor_id", "total_vfs", "first_vf", "vf_stride"))
    assert said == (0x1B36, 0x1AF4, 2, 1, 1)
    virtual = next(row for row in rows if row["function"] == 0x0101)
    assert virtual["vendor_id"] is None and virtual["total_vfs"] is None


def descriptors(*entries: tuple[int, int]) -> Pieces:
    return Pieces.of(b"".join(HOST_MEMORY_DESCRIPTOR.encode(BADD=start, BSIZE=pages) for start, pages in entries))


def test_ranges_of_a_descriptor_list() -> None:
    found = _ranges(descriptors((0x8000, 2), (0x1000, 1), (0x5000, 0)), 3, 4096)
    assert found is not None
    assert [one.tolist() for one in found] == [[0x1000, 0x8000], [0x2000, 0xA000]]
    assert _ranges(descriptors((0x1000, 2), (0x2000, 1)), 2, 4096) is None, "they overlap"
    assert _ranges(descriptors((0x1000, 2)), 2, 4096) is None, "the second was not seen"
    assert _ranges(descriptors(), 0, 4096) is None
    top = _ranges(descriptors(((1 << 64) - 4096, 0xFFFFFFFF)), 1, 4096)
    assert top is not None and int(top[1][0]) == (1 << 64) - 1


def test_spans_that_touch_a_buffer() -> None:
    starts, ends = np.array([0x1000, 0x8000], np.uint64), np.array([0x2000, 0xA000], np.uint64)
    buffer = Buffer(0x0100, starts, ends, 0, [])
    first = np.array([0x0F00, 0x0FC0, 0x1FFF, 0x2000, 0x9000, 0xB000], np.uint64)
    last = np.array([0x0FFF, 0x1003, 0x1FFF, 0x2003, 0x9003, 0xB003], np.uint64)
    assert buffer.holds(first, last).tolist() == [False, True, True, False, True, False]
