"""Commands that name ranges of blocks in their data: Dataset Management and Copy, against the limits they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lmtrace.spec.nvme import Nvm
from lmtrace_decoders.nvme import spool

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

ENTRY_BYTES = {0: 32, 1: 40, 2: 32, 3: 40}
"""Bytes of a source range by descriptor format."""
NAMES_NAMESPACE = 2
"""From this descriptor format on a source range names its namespace."""


class Range(NamedTuple):
    """A range of blocks; ``nsid`` is None where it is the command's."""

    nsid: int | None
    first: int
    blocks: int


def managed(command: Command) -> list[Range] | None:
    """Return the ranges of a Dataset Management command, None unless all were seen."""
    count = (command.dword(10) & 0xFF) + 1
    data = None if command.buffer is None else command.buffer.bytes(0, 16 * count)
    if data is None:
        return None
    parts = [data[at : at + 16] for at in range(0, len(data), 16)]
    return [Range(None, _u64(one, 8), int.from_bytes(one[4:8], "little")) for one in parts]


def copied(command: Command) -> list[Range] | None:
    """Return the source ranges of a Copy command, None unless all were seen and understood."""
    kind = command.dword(12) >> 8 & 0xF
    size, count = ENTRY_BYTES.get(kind), (command.dword(12) & 0xFF) + 1
    data = None if size is None or command.buffer is None else command.buffer.bytes(0, size * count)
    if data is None or size is None:
        return None
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        Range(
            int.from_bytes(one[:4], "little") if kind >= NAMES_NAMESPACE else None, _u64(one, 8),
            one[16] + (one[17] << 8) + 1,
        )
        for one in parts
    ]  # fmt: skip


def completed(run: Reconstruction, command: Command, tlp: int) -> None:
    """Say how a command that names ranges stands against what is known of its namespaces."""
    if command.opcode not in (Nvm.DATASET_MANAGEMENT, Nvm.COPY):
        return
    function, nsid = command.controller.function, command.dword(1)
    copies = command.opcode == Nvm.COPY
    found = copied(command) if copies else managed(command)
    row: dict[str, Any] = {
        "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
        "controller": function.cntlid, "transaction_id": run.output.first_transaction + command.number,
        "opcode": command.opcode, "nsid": nsid, "sct": command.status >> 8, "sc": command.status & 0xFF,
        "ranges": (command.dword(12 if copies else 10) & 0xFF) + 1, "time_ps": command.cqe_ps, "tlp_id": tlp,
        "learnt": spool.LEARNT[command.sq.learnt] if run.whole(function.link) else "inferred",
    }  # fmt: skip
    if found is not None:
        spaces = [run.namespaces.of(function, nsid if one.nsid is None else one.nsid) for one in found]
        ends = [(space.blocks, one.first + one.blocks) for space, one in zip(spaces, found, strict=True)]
        if all(size is not None for size, _ in ends):
            row["beyond_end"] = any(end > size for size, end in ends if size is not None)
        row["longest"], row["blocks"] = max(one.blocks for one in found), sum(one.blocks for one in found)
    if copies:
        row |= _copy(run, command, found)
    run.store.writer("range_commands").add(row)


def _copy(run: Reconstruction, command: Command, found: list[Range] | None) -> dict[str, Any]:
    """Return what is told of a Copy command alone."""
    function, nsid, format = command.controller.function, command.dword(1), command.dword(12) >> 8 & 0xF
    target, offered = run.namespaces.of(function, nsid), run.conditions.copy_formats.get(function.number)
    row: dict[str, Any] = {
        "copy_format": format, "format_offered": None if not offered else bool(offered >> format & 1),
    }  # fmt: skip
    if target.copy_limits is not None:
        row["most_per_range"], row["most_blocks"], row["most_ranges"] = target.copy_limits
    if found is None:
        return row
    first, last = command.qword(40), command.qword(40) + sum(one.blocks for one in found)
    here = [one for one in found if one.nsid in (None, nsid)]
    row["overlaps"] = any(one.first < last and first < one.first + one.blocks for one in here)
    others = [run.namespaces.of(function, one.nsid) for one in found if one.nsid not in (None, nsid)]
    mine = (target.block, target.protection)
    if not others:
        row["formats_differ"] = False
    elif all(one.told and one.block is not None and one.protection is not None for one in (target, *others)):
        row["formats_differ"] = any(
            (one.block.data, one.block.metadata, one.protection) != (mine[0].data, mine[0].metadata, mine[1])
            for one in others
            if one.block is not None and mine[0] is not None
        )
    return row


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")
