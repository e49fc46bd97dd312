"""nvme-checklist G20: the ranges that Dataset Management and Copy commands name, and Get LBA Status returns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lmtrace.events import Command
from lmtrace.rule import Broken, Verdict, column_rule, expect, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import Admin, Nvm
from lmtrace_rules.columns import found, numbers, there

SECTION = "G20 NVM command set"
PROFILE = ("nvme", "blocks")
UNSEEN = "the limits of the namespace were not seen"
TRACKED, ALLOCATED, LISTING = 0x02, 0x02, (0x10, 0x11)
STATUS_HEAD, STATUS_ENTRY, MOST_STATUS = 8, 16, 1 << 16


def _copies(batch: pa.RecordBatch) -> np.ndarray:
    """Return the rows about Copy commands that succeeded."""
    copies, ok = numbers(batch, "opcode") == Nvm.COPY, numbers(batch, "sct") == 0
    return np.asarray(copies & ok & (numbers(batch, "sc") == 0))


@column_rule(
    "NVM21-N3.3.3-n2", table="range_commands", columns=("opcode", "ranges", "beyond_end", "nsid"),
    spec="NVM Command Set 1.2, 3.3.3", party="host", severity="warning", local=False,
)  # fmt: skip
def managed_beyond_namespace(batch: pa.RecordBatch) -> Broken:
    """The ranges of a Dataset Management command lie within the namespace.

    There is nothing to manage elsewhere.

    Holds::

        1us range_commands opcode=9 ranges=2 beyond_end=no nsid=1

    Breaks::

        1us range_commands opcode=9 ranges=2 beyond_end=yes nsid=1

    Silent::

        1us range_commands opcode=9 ranges=2 nsid=1
    """
    nsid = numbers(batch, "nsid")
    return found(
        (numbers(batch, "opcode") == Nvm.DATASET_MANAGEMENT) & there(batch, "beyond_end"),
        numbers(batch, "beyond_end") != 0,
        lambda row: f"a Dataset Management command names blocks beyond namespace {nsid[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.2-n1", table="range_commands",
    columns=("opcode", "sct", "sc", "ranges", "longest", "blocks", "most_per_range", "most_blocks", "most_ranges"),
    spec="NVM Command Set 1.2, 3.3.2", party="controller", local=False,
)  # fmt: skip
def copy_over_limit(batch: pa.RecordBatch) -> Broken:
    """A Copy of more ranges or blocks than the namespace allows fails.

    MSRC, MSSRL and MCL tell how much a controller copies at once.

    Holds::

        1us range_commands opcode=0x19 ranges=4 longest=8 blocks=32 most_per_range=64 most_blocks=128 most_ranges=4

    Breaks::

        1us range_commands opcode=0x19 ranges=5 longest=8 blocks=40 most_per_range=64 most_blocks=128 most_ranges=4

    Breaks::

        1us range_commands opcode=0x19 ranges=1 longest=65 blocks=65 most_per_range=64 most_blocks=128 most_ranges=4

    Breaks::

        1us range_commands opcode=0x19 ranges=3 longest=64 blocks=192 most_per_range=64 most_blocks=128 most_ranges=4

    Silent::

        1us range_commands opcode=0x19 ranges=5 longest=8 blocks=40

    Silent::

        1us range_commands opcode=0x19 ranges=5 sct=1 sc=0x83 most_per_range=64 most_blocks=128 most_ranges=4
    """
    known = there(batch, "most_ranges", "most_blocks", "most_per_range")
    ranges, longest, blocks = (numbers(batch, name) for name in ("ranges", "longest", "blocks"))
    over = (ranges > numbers(batch, "most_ranges")) | (longest > numbers(batch, "most_per_range"))
    over |= blocks > numbers(batch, "most_blocks")
    copies = numbers(batch, "opcode") == Nvm.COPY
    held = found(
        copies & known, over & _copies(batch),
        lambda row: f"a Copy of {ranges[row]} ranges with {blocks[row]} blocks, at most {longest[row]} in one, "
        "succeeded: more than the namespace allows",
    )  # fmt: skip
    return Broken(held.applied, held.rows, held.message, None, int((copies & ~known).sum()), UNSEEN)


@column_rule(
    "NVM21-N3.3.2-n2", table="range_commands", columns=("opcode", "sct", "sc", "copy_format", "format_offered"),
    spec="NVM Command Set 1.2, 3.3.2", party="controller", local=False,
)  # fmt: skip
def copy_format_not_offered(batch: pa.RecordBatch) -> Broken:
    """A Copy with a descriptor format that OCFS does not offer fails.

    What the controller took for source ranges are none.

    Holds::

        1us range_commands opcode=0x19 copy_format=1 format_offered=no sct=0 sc=2

    Breaks::

        1us range_commands opcode=0x19 copy_format=1 format_offered=no sct=0 sc=0

    Silent::

        1us range_commands opcode=0x19 copy_format=1 sct=0 sc=0
    """
    format = numbers(batch, "copy_format")
    return found(
        there(batch, "format_offered") & (numbers(batch, "format_offered") == 0), _copies(batch),
        lambda row: f"a Copy with descriptor format {format[row]}, which OCFS does not offer, succeeded",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.2-n3", table="range_commands", columns=("opcode", "sct", "sc", "overlaps", "nsid"),
    spec="NVM Command Set 1.2, 3.3.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def copy_onto_itself(batch: pa.RecordBatch) -> Broken:
    """A Copy whose source and destination overlap fails.

    What the destination holds depends on the order in which blocks are copied.

    Holds::

        1us range_commands opcode=0x19 overlaps=yes sct=1 sc=0x87 nsid=1

    Breaks::

        1us range_commands opcode=0x19 overlaps=yes sct=0 sc=0 nsid=1

    Silent::

        1us range_commands opcode=0x19 overlaps=no sct=0 sc=0 nsid=1
    """
    nsid = numbers(batch, "nsid")
    return found(
        there(batch, "overlaps") & (numbers(batch, "overlaps") != 0), _copies(batch),
        lambda row: f"a Copy in namespace {nsid[row]} succeeded, though its destination overlaps a source",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.2-n4", table="range_commands", columns=("opcode", "sct", "sc", "formats_differ", "nsid"),
    spec="NVM Command Set 1.2, 3.3.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def copy_between_formats(batch: pa.RecordBatch) -> Broken:
    """A Copy between namespaces of different formats or protection fails.

    Blocks of one are none of the other.

    Holds::

        1us range_commands opcode=0x19 formats_differ=yes sct=1 sc=0x85 nsid=1

    Breaks::

        1us range_commands opcode=0x19 formats_differ=yes sct=0 sc=0 nsid=1

    Silent::

        1us range_commands opcode=0x19 sct=0 sc=0 nsid=1
    """
    nsid = numbers(batch, "nsid")
    return found(
        there(batch, "formats_differ") & (numbers(batch, "formats_differ") != 0), _copies(batch),
        lambda row: f"a Copy to namespace {nsid[row]} succeeded, though a source has another format",
    )  # fmt: skip


@rule("NVM21-N5.2-n1", spec="NVM Command Set 1.2, 4.2.1", party="controller", severity="warning")
def status_beyond_namespace(command: Command, session: Session) -> Iterator[Verdict]:
    """Get LBA Status returns ranges that lie within the namespace, one behind the other.

    The host goes on reading where the last one ended.

    Holds::

        1us identify cns=0 nsid=1
            data nsze=64
        2us command opc=0x86 nsid=1 cdw12=63 cdw13=0x02000000
            data size=256 at=0 raw=1
            data at=8 raw=16
            data at=16 raw=47

    Breaks::

        1us identify cns=0 nsid=1
            data nsze=64
        2us command opc=0x86 nsid=1 cdw12=63 cdw13=0x02000000
            data size=256 at=0 raw=1
            data at=8 raw=16
            data at=16 raw=48

    Breaks::

        1us command opc=0x86 nsid=1 cdw12=63 cdw13=0x07000000

    Silent::

        2us command opc=0x86 nsid=1 cdw12=63 cdw13=0x02000000
            data size=256 at=0 raw=1
            data at=8 raw=16
            data at=16 raw=48
    """
    if command.sqid or command.opcode != Admin.GET_LBA_STATUS or not command.succeeded:
        return
    kind, nsid = command.sqe[55], command.field("NSID")
    if kind not in (ALLOCATED, *LISTING):
        yield expect(False, f"{command.title} succeeded with ATYPE {kind:02X}h, which there is not", command, "info")
        return
    size, head = session.namespaces.size(nsid, command.function), None
    if command.data is not None:
        head = command.data.bytes(0, STATUS_HEAD)
    if size is None or head is None:
        yield not_observable("the size of the namespace or the returned data were not seen", command)
        return
    room = 4 * (int.from_bytes(command.sqe[48:52], "little") + 1)
    count = min(int.from_bytes(head[:4], "little"), (room - STATUS_HEAD) // STATUS_ENTRY, MOST_STATUS)
    data = command.data.bytes(STATUS_HEAD, STATUS_HEAD + STATUS_ENTRY * count) if command.data is not None else None
    if data is None:
        yield not_observable("the size of the namespace or the returned data were not seen", command)
        return
    ends = [
        int.from_bytes(data[at : at + 8], "little") + int.from_bytes(data[at + 8 : at + 12], "little") + 1
        for at in range(0, len(data), STATUS_ENTRY)
    ]
    last = max(ends, default=0)
    yield expect(
        last <= size, f"{command.title} tells of blocks up to LBA {last - 1} of namespace {nsid}, which has {size}",
        command,
    )  # fmt: skip
