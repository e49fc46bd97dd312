"""What a managing host puts into its commands."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.layout import Layout, describe_bits
from lmtrace.spec.migration import CREATE_CDQ, HMLM_OPCODES, SET_FEATURES_CDQ, sqe_layout
from lmtrace.spec.nvme import SQE
from lmtrace_samples.fault import instead
from lmtrace_samples.mutation import HOST, Chance, mutation
from lmtrace_samples.world import Side, World


@mutation
def entries(world: World, chance: Chance) -> None:
    """Bits of the entries of live-migration commands."""
    for side in world.sides:
        instead(side.drivers[0], "entry", _entry(side, chance))


def _entry(side: Side, chance: Chance) -> Callable[..., bytes]:
    def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
        made = original(qid, sqe)
        layout = None if qid else sqe_layout(made[0], int.from_bytes(made[40:44], "little"))
        if layout is None:
            return made
        return _spoilt(layout, made, chance) or _misused(side, layout, made, chance) or made

    return entry


def _with(sqe: bytes, layout: Layout, **values: int) -> bytes:
    """Return an entry with some fields changed."""
    number = int.from_bytes(sqe, "little")
    for name, value in values.items():
        field = layout[name]
        number = number & ~(((1 << field.width) - 1) << field.lo) | value << field.lo
    return number.to_bytes(len(sqe), "little")


def _spoilt(layout: Layout, sqe: bytes, chance: Chance) -> bytes | None:
    """What no entry of these commands may have."""
    rng, name = chance.rng(), layout.name
    reserved = [bit for bit in range(512) if layout.reserved_mask >> bit & 1]
    bit, kind = rng.choice(reserved), rng.randrange(1, 3)
    text = f"The host sets a reserved bit of {name}: {describe_bits([bit])}."
    if chance.strikes("reserved-command-bit", HOST, "HMLM-1.4.1-n1", text):
        return (int.from_bytes(sqe, "little") | 1 << bit).to_bytes(64, "little")
    if sqe[0] not in HMLM_OPCODES:
        return None
    nsid = rng.choice((1, 2, 0xFFFFFFFF))
    if chance.strikes("namespace-named", HOST, "HMLM-4.1.1-n1", f"The host names namespace {nsid:X}h in {name}."):
        return _with(sqe, SQE, NSID=nsid)
    if chance.strikes("data-pointer-kind", HOST, "HMLM-4.1.1-n2", f"The host gives {name} PSDT {kind}."):
        return _with(sqe, SQE, PSDT=kind)
    if chance.strikes("command-fused", HOST, "HMLM-4.1.1-n3", f"The host gives {name} FUSE {kind}."):
        return _with(sqe, SQE, FUSE=kind)
    return None


def _misused(side: Side, layout: Layout, sqe: bytes, chance: Chance) -> bytes | None:
    """What the host may not ask of a data queue."""
    rng = chance.rng()
    if layout is CREATE_CDQ:
        offset = rng.choice((4, 32, 64, 2048))
        text = f"The host places a data queue {offset} bytes behind the start of a page."
        if chance.strikes("data-queue-off-page", HOST, "HMLM-5.1.4.1.1-n3", text):
            return _with(sqe, layout, PRP1=layout["PRP1"].of(sqe) + offset)
        text = "The host creates a data queue for the managing controller itself."
        if chance.strikes("data-queue-for-manager", HOST, "HMLM-5.1.4.1.1.1-n3", text):
            return _with(sqe, layout, CQS=0)
    if layout is SET_FEATURES_CDQ:
        cdqid = layout["CDQID"].of(sqe)
        for queue in side.subsystem.data_queues:
            if queue.cdqid == cdqid and queue.used < queue.slots - 6:
                head = (queue.tail + 3) % queue.slots
                text = f"The host moves the head of a data queue to slot {head}, past entries that are not there."
                if chance.strikes("unwritten-entry-consumed", HOST, "HMLM-5.1.25.1.23-n7", text):
                    return _with(sqe, layout, HP=head)
    return None
