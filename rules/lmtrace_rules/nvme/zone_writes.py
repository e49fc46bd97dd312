"""nvme-checklist G23: writes and reads of zones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Nvm
from lmtrace.spec.zones import (
    WITH_WRITE_POINTER,
    ZONE_BOUNDARY_ERROR,
    ZONE_INVALID_WRITE,
    ZONE_IS_FULL,
    ZONE_IS_READ_ONLY,
    ZoneState,
    states,
)
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.zone_rows import COMMANDS, WHAT, WRITES, end_of, ended, judged, may, surely, told

SECTION = "G23 Zoned namespaces"
PROFILE = ("nvme", "zones")
FULL, READ_ONLY, OFFLINE = states(ZoneState.FULL), states(ZoneState.READ_ONLY), states(ZoneState.OFFLINE)


@column_rule(
    "NVM21-Z2.1.1-n1", table=COMMANDS, columns=(*WHAT, "wp", "area"), spec="ZNS Command Set 1.2, 2.1.1",
    party="controller", local=False,
)  # fmt: skip
def written_beside_the_write_pointer(batch: pa.RecordBatch) -> Broken:
    """A write to a zone begins at its write pointer, or is refused.

    Elsewhere it leaves a hole, or destroys what was written. A zone with a Zone Random Write Area has a rule of its
    own.

    Holds::

        1us zone_commands opcode=1 slba=0x108 zone=0x100 states=4 wp=0x108 area=no sc=0

    Holds::

        1us zone_commands opcode=1 slba=0x110 zone=0x100 states=4 wp=0x108 area=no sct=1 sc=0xbc

    Breaks::

        1us zone_commands opcode=1 slba=0x110 zone=0x100 states=4 wp=0x108 area=no sc=0

    Breaks::

        1us zone_commands opcode=1 slba=0x108 zone=0x100 states=4 wp=0x108 area=no sct=1 sc=0xbc

    Silent::

        1us zone_commands opcode=1 slba=0x110 zone=0x100 states=0xe01e sc=0

    Silent::

        1us zone_commands opcode=1 slba=0x110 zone=0x100 states=4 wp=0x108 area=yes sc=0

    Silent::

        1us zone_commands opcode=1 slba=0x110 zone=0x100 states=4 wp=0x108 area=no sct=1 sc=0xb8
    """
    slba, wp = numbers(batch, "slba"), numbers(batch, "wp")
    plain = numbers(batch, "area") == 0
    known = there(batch, "wp", "area") & plain & surely(batch, WITH_WRITE_POINTER)
    return judged(
        batch, told(batch, *WRITES) & plain & may(batch, WITH_WRITE_POINTER), known & (slba != wp),
        known & (slba == wp), (ZONE_INVALID_WRITE,),
        lambda row: f"the write pointer is {wp[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n2", table=COMMANDS, columns=(*WHAT, "blocks", "capacity", "zone_size"),
    spec="ZNS Command Set 1.2, 2.1.1", party="controller", local=False,
)  # fmt: skip
def written_across_the_boundary(batch: pa.RecordBatch) -> Broken:
    """A write that reaches beyond the capacity of its zone is refused.

    What lies there belongs to nobody, or to the next zone.

    Holds::

        1us zone_commands opcode=1 slba=0x12c blocks=8 zone=0x100 capacity=48 zone_size=64 sct=1 sc=0xb8

    Breaks::

        1us zone_commands opcode=1 slba=0x12c blocks=8 zone=0x100 capacity=48 zone_size=64 sc=0

    Breaks::

        1us zone_commands opcode=1 slba=0x13c blocks=8 zone=0x100 zone_size=64 sc=0

    Breaks::

        1us zone_commands opcode=1 slba=0x128 blocks=8 zone=0x100 capacity=48 zone_size=64 sct=1 sc=0xb8

    Silent::

        1us zone_commands opcode=1 slba=0x12c blocks=8 zone=0x100 zone_size=64 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0x12c blocks=8 zone=0x100 capacity=48 zone_size=64 sct=1 sc=0xb9
    """
    capacity = np.where(there(batch, "capacity"), numbers(batch, "capacity"), numbers(batch, "zone_size"))
    end = numbers(batch, "zone").astype(np.int64) + capacity.astype(np.int64)
    known, beyond = there(batch, "zone", "zone_size"), end_of(batch) > end
    return judged(
        batch, told(batch, *WRITES), known & beyond, known & ~beyond & there(batch, "capacity"),
        (ZONE_BOUNDARY_ERROR,),
        lambda row: f"its last block is {end_of(batch)[row] - 1} and the zone ends at {end[row] - 1}",
        reason="the capacity of the zone is not known",
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n3", table=COMMANDS, columns=(*WHAT, "blocks", "capacity", "wp"), spec="ZNS Command Set 1.2, 2.1.1",
    party="controller", local=False,
)  # fmt: skip
def full_zone_written(batch: pa.RecordBatch) -> Broken:
    """A write or append to a full zone is refused, and none for that to a zone that is not full.

    There is no write pointer, and what is there stays until a reset.

    Holds::

        1us zone_commands opcode=1 slba=0x100 blocks=8 zone=0x100 states=0x4000 sct=1 sc=0xb9

    Breaks::

        1us zone_commands opcode=1 slba=0x100 blocks=8 zone=0x100 states=0x4000 sc=0

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 states=2 wp=0x100 capacity=48 sct=1 sc=0xb9

    Silent::

        1us zone_commands opcode=1 slba=0x100 blocks=8 zone=0x100 states=0x4004 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0x100 blocks=8 zone=0x100 states=0x4000 sct=1 sc=0xbc

    Silent::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 states=4 wp=0x12c capacity=48 sct=1 sc=0xb9
    """
    room = numbers(batch, "zone").astype(np.int64) + numbers(batch, "capacity") - numbers(batch, "wp").astype(np.int64)
    fits = there(batch, "capacity", "wp") & (numbers(batch, "blocks") <= room)
    asked = told(batch, *WRITES, Nvm.ZONE_APPEND) & (may(batch, FULL) | ended(batch, ZONE_IS_FULL))
    return judged(
        batch, asked, surely(batch, FULL), ~may(batch, FULL) & fits, (ZONE_IS_FULL,),
        lambda row: "the zone is full" if numbers(batch, "states")[row] == FULL else "the zone is not full",
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n4", table=COMMANDS, columns=WHAT, spec="ZNS Command Set 1.2, 2.1.1", party="controller", local=False,
)  # fmt: skip
def read_only_zone_written(batch: pa.RecordBatch) -> Broken:
    """A write or append to a zone that is read only is refused.

    The zone got there because its media fail.

    Holds::

        1us zone_commands opcode=1 slba=0x100 zone=0x100 states=0x2000 sct=1 sc=0xba

    Breaks::

        1us zone_commands opcode=1 slba=0x100 zone=0x100 states=0x2000 sc=0

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 states=0x8000 sct=1 sc=0xba

    Silent::

        1us zone_commands opcode=1 slba=0x100 zone=0x100 states=0xa004 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0x100 zone=0x100 states=4 sct=1 sc=0xba

    Silent::

        1us zone_commands opcode=1 slba=0x100 zone=0x100 states=0x2000 sct=1 sc=0xbb
    """
    return judged(
        batch, told(batch, *WRITES, Nvm.ZONE_APPEND) & may(batch, READ_ONLY | OFFLINE), surely(batch, READ_ONLY),
        surely(batch, OFFLINE), (ZONE_IS_READ_ONLY,),
        lambda row: "the zone is " + ("read only" if numbers(batch, "states")[row] == READ_ONLY else "offline"),
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n5", table=COMMANDS, columns=WHAT, spec="ZNS Command Set 1.2, 2.1.1", party="controller", local=False,
)  # fmt: skip
def offline_zone_used(batch: pa.RecordBatch) -> Broken:
    """A zone that is offline is neither read nor written.

    Its data are lost.

    Holds::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=0x8000 sct=1 sc=0xbb

    Breaks::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=0x8000 sc=0

    Breaks::

        1us zone_commands opcode=1 slba=0x100 zone=0x100 states=0x8000 sc=0

    Silent::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=0xa000 sc=0

    Silent::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=4 sct=1 sc=0xbb
    """
    used = told(batch, *WRITES, Nvm.ZONE_APPEND, Nvm.READ, Nvm.COMPARE) & may(batch, OFFLINE)
    return judged(
        batch, used, surely(batch, OFFLINE), np.zeros(batch.num_rows, np.bool_), (), lambda row: "the zone is offline"
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n12", table=COMMANDS, columns=(*WHAT, "blocks", "capacity", "zone_size", "across"),
    spec="ZNS Command Set 1.2, 2.1.1", party="controller", local=False,
)  # fmt: skip
def read_across_zones(batch: pa.RecordBatch) -> Broken:
    """A read that crosses from one zone into the next is refused, unless OZCS offers it.

    The zones may be in different states. A read inside a zone is never refused for this.

    Holds::

        1us zone_commands opcode=2 slba=0x13c blocks=8 zone=0x100 zone_size=64 across=no sct=1 sc=0xb8

    Holds::

        1us zone_commands opcode=2 slba=0x13c blocks=8 zone=0x100 zone_size=64 across=yes sc=0

    Breaks::

        1us zone_commands opcode=2 slba=0x13c blocks=8 zone=0x100 zone_size=64 across=no sc=0

    Breaks::

        1us zone_commands opcode=2 slba=0x13c blocks=8 zone=0x100 zone_size=64 across=yes sct=1 sc=0xb8

    Breaks::

        1us zone_commands opcode=2 slba=0x108 blocks=8 zone=0x100 capacity=48 zone_size=64 across=no sct=1 sc=0xb8

    Silent::

        1us zone_commands opcode=2 slba=0x13c blocks=8 zone=0x100 zone_size=64 sc=0

    Silent::

        1us zone_commands opcode=2 slba=0x130 blocks=8 zone=0x100 capacity=48 zone_size=64 across=no sct=1 sc=0xb8
    """
    zone, end = numbers(batch, "zone").astype(np.int64), end_of(batch)
    crosses = end > zone + numbers(batch, "zone_size").astype(np.int64)
    inside = there(batch, "capacity") & (end <= zone + numbers(batch, "capacity").astype(np.int64))
    offered = numbers(batch, "across") != 0
    known = there(batch, "zone", "zone_size", "across")
    return judged(
        batch, told(batch, Nvm.READ), known & crosses & ~offered, known & (crosses & offered | inside),
        (ZONE_BOUNDARY_ERROR,),
        lambda row: (
            "it stays inside a zone" if not crosses[row]
            else "OZCS lets reads cross zones" if offered[row] else "OZCS does not let reads cross zones"
        ),
        reason="OZCS, or the capacity of the zone, is not known",
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n13", table=COMMANDS, columns=(*WHAT, "wp", "above", "above_odd"), spec="ZNS Command Set 1.2, 2.1.1",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def old_data_above_the_write_pointer(batch: pa.RecordBatch) -> Broken:
    """Blocks above the write pointer read as DLFEAT says of deallocated blocks.

    Nobody has written them since the zone was reset.

    Holds::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=4 wp=0x108 above=8 above_odd=0 sc=0

    Breaks::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=4 wp=0x108 above=8 above_odd=2 sc=0

    Silent::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=4 wp=0x108 above=8 sc=0

    Silent::

        1us zone_commands opcode=2 slba=0x100 zone=0x100 states=4 wp=0x108 sct=2 sc=0x87
    """
    above, odd, wp = numbers(batch, "above"), numbers(batch, "above_odd"), numbers(batch, "wp")
    return found(
        there(batch, "above_odd") & (above > 0), odd > 0,
        lambda row: (
            f"{odd[row]} of {above[row]} blocks read from above the write pointer {wp[row]} hold something else than "
            "deallocated blocks"
        ),
    )  # fmt: skip


@column_rule(
    "NVM21-Z5.7-n1", table=COMMANDS, columns=(*WHAT, "blocks", "wp", "area", "area_size", "capacity"),
    spec="ZNS Command Set 1.2, 5.7", party="controller", severity="warning", local=False,
)  # fmt: skip
def written_outside_the_area(batch: pa.RecordBatch) -> Broken:
    """A write to a zone with a Zone Random Write Area lies in that area or in the one behind it, or is refused.

    What lies below is committed; what lies farther above has no room.

    Holds::

        1us zone_commands opcode=1 slba=280 blocks=8 zone=256 states=8 wp=256 area=yes area_size=16 capacity=48 sc=0

    Holds::

        1us zone_commands opcode=1 slba=284 blocks=8 zone=256 states=8 wp=256 area=yes area_size=16 capacity=48 \
            sct=1 sc=0xbc

    Breaks::

        1us zone_commands opcode=1 slba=284 blocks=8 zone=256 states=8 wp=256 area=yes area_size=16 capacity=48 sc=0

    Breaks::

        1us zone_commands opcode=1 slba=256 blocks=8 zone=256 states=8 wp=264 area=yes area_size=16 capacity=48 sc=0

    Breaks::

        1us zone_commands opcode=1 slba=264 blocks=8 zone=256 states=8 wp=256 area=yes area_size=16 capacity=48 \
            sct=1 sc=0xbc

    Silent::

        1us zone_commands opcode=1 slba=284 blocks=8 zone=256 states=8 wp=256 area=no area_size=16 capacity=48 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0x11c blocks=8 zone=0x100 states=8 area=yes area_size=16 capacity=48 sc=0

    Silent::

        1us zone_commands opcode=1 slba=300 blocks=8 zone=256 states=8 wp=280 area=yes area_size=16 capacity=48 \
            sct=1 sc=0xbc
    """
    first, end, wp = numbers(batch, "slba").astype(np.int64), end_of(batch), numbers(batch, "wp").astype(np.int64)
    known = there(batch, "wp", "area", "area_size") & (numbers(batch, "area") != 0)
    known = known & surely(batch, WITH_WRITE_POINTER)
    inside = (first >= wp) & (end <= wp + 2 * numbers(batch, "area_size"))
    room = there(batch, "capacity") & (end <= numbers(batch, "zone").astype(np.int64) + numbers(batch, "capacity"))
    answer = judged(
        batch, told(batch, *WRITES) & there(batch, "area") & (numbers(batch, "area") != 0), known & ~inside,
        known & inside & room, (ZONE_INVALID_WRITE,),
        lambda row: f"the write pointer is {wp[row]} and the area has {numbers(batch, 'area_size')[row]} blocks",
        "warning",
    )  # fmt: skip
    return replace(answer, severity=None)
