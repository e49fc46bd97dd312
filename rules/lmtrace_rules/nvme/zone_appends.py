"""nvme-checklist G23: Zone Append."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Nvm
from lmtrace.spec.zones import ZONE_BOUNDARY_ERROR
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.zone_rows import COMMANDS, WHAT, ended, how, judged, name_of, softened, told

SECTION = "G23 Zoned namespaces"
PROFILE = ("nvme", "zones")
TYPE_1 = 1


def _appends(batch: pa.RecordBatch) -> np.ndarray:
    return told(batch, Nvm.ZONE_APPEND)


def _beside_start(batch: pa.RecordBatch) -> np.ndarray:
    """Return the commands whose first block is not the first one of a zone."""
    return np.asarray(there(batch, "zone") & (numbers(batch, "slba") != numbers(batch, "zone")))


@column_rule(
    "NVM21-Z3.4.1-n1", table=COMMANDS, columns=WHAT, spec="ZNS Command Set 1.2, 3.4.1", party="host", local=False,
)  # fmt: skip
def append_asked_inside_a_zone(batch: pa.RecordBatch) -> Broken:
    """The ZSLBA of a Zone Append is the first block of a zone.

    It names the zone; where in it is the controller's to say.

    Holds::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100

    Breaks::

        1us zone_commands opcode=0x7d slba=0x108 zone=0x100

    Silent::

        1us zone_commands opcode=0x7d slba=0x108
    """
    return found(
        _appends(batch) & there(batch, "zone"), _beside_start(batch),
        lambda row: f"{name_of(batch, row)} names no first block of a zone",
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.1-n2", table=COMMANDS, columns=WHAT, spec="ZNS Command Set 1.2, 3.4.1", party="controller", local=False,
)  # fmt: skip
def append_done_inside_a_zone(batch: pa.RecordBatch) -> Broken:
    """A Zone Append whose ZSLBA is not the first block of a zone is refused.

    The host means something that the command does not do.

    Holds::

        1us zone_commands opcode=0x7d slba=0x108 zone=0x100 sc=2

    Breaks::

        1us zone_commands opcode=0x7d slba=0x108 zone=0x100 sc=0

    Silent::

        1us zone_commands opcode=0x7d slba=0x108 sc=0

    Silent::

        1us zone_commands opcode=0x7d slba=0x108 zone=0x100 sct=1 sc=0xb9
    """
    beside = _beside_start(batch)
    return found(
        _appends(batch) & beside, ended(batch),
        lambda row: f"{name_of(batch, row)} succeeded, though no zone begins there",
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.1-n3", table=COMMANDS,
    columns=(*WHAT, "blocks", "zone_size", "alba", "wp_least", "wp_most", "flaw"), spec="ZNS Command Set 1.2, 3.4.1",
    party="controller", local=False,
)  # fmt: skip
def append_told_elsewhere(batch: pa.RecordBatch) -> Broken:
    """A Zone Append tells where it wrote: in its zone, at the write pointer, and where no other write did.

    Appends in flight together lie one behind the other in some order. A host finds its data by what it is told.

    Holds::

        1us zone_commands opcode=0x7d slba=256 blocks=8 zone=256 zone_size=64 alba=264 wp_least=264 wp_most=280

    Breaks::

        1us zone_commands opcode=0x7d slba=256 blocks=8 zone=256 zone_size=64 alba=260 wp_least=264 wp_most=280

    Breaks::

        1us zone_commands opcode=0x7d slba=256 blocks=8 zone=256 zone_size=64 alba=288 wp_least=264 wp_most=280

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 zone_size=64 alba=0x140

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 zone_size=64 alba=0x108 flaw=overlap

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 zone_size=64 alba=0x118 flaw=gap

    Silent::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 zone_size=64 alba=0x120
    """
    zone, alba = numbers(batch, "zone").astype(np.int64), numbers(batch, "alba").astype(np.int64)
    least, most = numbers(batch, "wp_least").astype(np.int64), numbers(batch, "wp_most").astype(np.int64)
    known = there(batch, "wp_least", "wp_most")
    outside = (alba < zone) | (alba + numbers(batch, "blocks") > zone + numbers(batch, "zone_size").astype(np.int64))
    beside = known & ((alba < least) | (alba > most))
    overlaps, gap = words(batch, "flaw", ("overlap",)), words(batch, "flaw", ("gap",))

    def message(row: int) -> str:
        text = f"{name_of(batch, row)} wrote {numbers(batch, 'blocks')[row]} blocks at {alba[row]}"
        if outside[row]:
            return f"{text}, outside the zone"
        if beside[row]:
            due = f"{least[row]}" if least[row] == most[row] else f"between {least[row]} and {most[row]}"
            return f"{text}; the write pointer was {due}"
        return (
            f"{text}, where another write beside it wrote too"
            if overlaps[row]
            else (f"{text}; with the writes beside it that leaves a gap")
        )

    applies = _appends(batch) & there(batch, "alba", "zone")
    answer = found(applies, outside | beside | overlaps | gap, message, softened(batch))
    return replace(answer, unseen=int((applies & ~known & ~outside).sum()), reason="the write pointer is not known")


@column_rule(
    "NVM21-Z3.4.1-n4", table=COMMANDS, columns=(*WHAT, "bytes", "append_limit"), spec="ZNS Command Set 1.2, 3.4.1",
    party="controller", local=False,
)  # fmt: skip
def append_beyond_the_limit(batch: pa.RecordBatch) -> Broken:
    """A Zone Append that is larger than ZASL allows is refused.

    A controller that tells a limit and takes more may well tear what it writes.

    Holds::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 bytes=32768 append_limit=16384 sc=2

    Holds::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 bytes=32768 append_limit=0 sc=0

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 bytes=32768 append_limit=16384 sc=0

    Silent::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 bytes=32768 sc=0
    """
    size, limit = numbers(batch, "bytes"), numbers(batch, "append_limit")
    return found(
        _appends(batch) & there(batch, "bytes", "append_limit"), (limit > 0) & (size > limit) & ended(batch),
        lambda row: f"{name_of(batch, row)} wrote {size[row]:,} bytes of at most {limit[row]:,}",
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.1-n5", table=COMMANDS, columns=(*WHAT, "blocks", "capacity", "wp", "area", "alba"),
    spec="ZNS Command Set 1.2, 3.4.1", party="controller", local=False,
)  # fmt: skip
def appended_across_the_boundary(batch: pa.RecordBatch) -> Broken:
    """A Zone Append that has no room below the capacity of its zone is refused, and none for that which has.

    What lies there belongs to nobody.

    Holds::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 capacity=48 wp=0x12c area=no sct=1 sc=0xb8

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 capacity=48 wp=0x12c area=no sc=0

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 capacity=48 alba=0x12c sc=0

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 capacity=48 wp=0x108 area=no sct=1 sc=0xb8

    Silent::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 capacity=48 sct=1 sc=0xb8

    Silent::

        1us zone_commands opcode=0x7d slba=0x100 blocks=8 zone=0x100 wp=0x12c area=no sc=0
    """
    zone, blocks = numbers(batch, "zone").astype(np.int64), numbers(batch, "blocks")
    end, capacity = zone + numbers(batch, "capacity").astype(np.int64), there(batch, "zone", "capacity")
    where = np.where(there(batch, "alba"), numbers(batch, "alba"), numbers(batch, "wp")).astype(np.int64)
    placed = there(batch, "alba") | there(batch, "wp")
    beyond = (blocks > end - zone) | (placed & (where + blocks > end))
    fits = there(batch, "wp", "area") & (numbers(batch, "area") == 0) & ~beyond
    return judged(
        batch, _appends(batch) & ~_beside_start(batch), capacity & beyond, capacity & fits, (ZONE_BOUNDARY_ERROR,),
        lambda row: f"it has {blocks[row]} blocks and the zone ends at {end[row] - 1}",
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.1-n6", table=COMMANDS, columns=(*WHAT, "protection", "remap"), spec="ZNS Command Set 1.2, 3.4.1",
    party="controller", severity="info", local=False,
)  # fmt: skip
def reference_tag_not_remapped(batch: pa.RecordBatch) -> Broken:
    """A Zone Append without PIREMAP is refused where protection information is of type 1.

    The reference tag tells the block, which the host does not know yet.

    Holds::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 protection=1 remap=no sct=1 sc=0x81

    Holds::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 protection=1 remap=yes sc=0

    Breaks::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 protection=1 remap=no sc=0

    Silent::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 protection=2 remap=no sc=0

    Silent::

        1us zone_commands opcode=0x7d slba=0x100 zone=0x100 remap=no sc=0
    """
    type_1 = there(batch, "protection") & (numbers(batch, "protection") == TYPE_1)
    return found(
        _appends(batch) & type_1, (numbers(batch, "remap") == 0) & ended(batch),
        lambda row: f"{name_of(batch, row)} {how(batch, row)} without PIREMAP, with protection information of type 1",
    )  # fmt: skip
