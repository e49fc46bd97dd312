"""What a Controller State structure must look like whoever wrote it (hmlm 3.2 to 3.5)."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.pieces import QueueState
from lmtrace.spec.layout import Layout, describe_bits
from lmtrace.spec.migration import CONTROLLER_STATE_HEADER, IO_CQ_STATE, IO_SQ_STATE, NVME_CONTROLLER_STATE
from lmtrace_rules.hmlm.read_states import HEADER, QUEUE, QUEUES, Assembled


def faults_of_form(moved: Assembled) -> Iterator[str]:
    """Yield what is wrong with versions and reserved bits among the bytes that one command moved."""
    version = moved.own.field(CONTROLLER_STATE_HEADER, "VER")
    if version:
        yield f"VER of the header is {version:#x}"
    yield from _reserved(moved, CONTROLLER_STATE_HEADER, 0, "header")
    state = moved.state
    if state.header("VER") or not state.header("NVMECSS"):
        return
    version = moved.own.field(NVME_CONTROLLER_STATE, "VER", HEADER)
    if version:
        yield f"VER of the NVMe part is {version:#x}"
    yield from _reserved(moved, NVME_CONTROLLER_STATE, HEADER, "NVMe part")
    end = moved.nvme_end
    if state.nvme("VER") != 0 or end is None or fault_of_size(moved) is not None:
        return
    for first, last in moved.own.ranges:
        for number in range(max(first - QUEUES, 0) // QUEUE, (min(last, end) - QUEUES + QUEUE - 1) // QUEUE):
            place = _place(moved, number)
            if place is not None:
                kind, offset, layout = place
                yield from _reserved(moved, layout, offset, f"{kind} entry at byte {offset}")


def _place(moved: Assembled, number: int) -> tuple[str, int, Layout] | None:
    """Return (SQ or CQ, offset, layout) of the queue entry ``number``, or None where there is none."""
    sqs, cqs = moved.state.nvme("NIOSQ"), moved.state.nvme("NIOCQ")
    if sqs is None or cqs is None or number >= sqs + cqs:
        return None
    offset = QUEUES + QUEUE * number
    return ("SQ", offset, IO_SQ_STATE) if number < sqs else ("CQ", offset, IO_CQ_STATE)


def _reserved(moved: Assembled, layout: Layout, offset: int, name: str) -> Iterator[str]:
    bits = moved.own.reserved_bits(layout, offset)
    if bits:
        yield f"reserved bits of the {name} are 1: {describe_bits(bits)}"


def fault_of_size(moved: Assembled) -> str | None:
    """Return how NVMECSS differs from what the queue counts make, None if it does not, once both are known."""
    dwords, sqs, cqs = moved.state.header("NVMECSS"), moved.state.nvme("NIOSQ"), moved.state.nvme("NIOCQ")
    if dwords is None or sqs is None or cqs is None:
        return None
    wanted = (NVME_CONTROLLER_STATE.size + QUEUE * (sqs + cqs)) // 4
    return None if dwords == wanted else f"NVMECSS is {dwords}, {sqs} SQs and {cqs} CQs make {wanted} dwords"


def sized(moved: Assembled) -> bool:
    """Whether this command completed what tells the size twice: the header's NVMECSS and the counts of queues."""
    size, counts = (16, 32), (HEADER, HEADER + 6)
    if not moved.state.header("NVMECSS") or moved.state.nvme("NIOCQ") is None:
        return False
    return moved.state.pieces.known(*counts) and (moved.fresh(*size) or moved.fresh(*counts))


def fault_of_order(queues: list[QueueState]) -> str | None:
    """Return what is wrong with the order of the queue lists, None if nothing is."""
    for kind in ("SQ", "CQ"):
        last = 0
        for queue in (one for one in queues if one.kind == kind):
            if queue.qid == 0:
                return f"the {kind} list holds queue 0"
            if queue.qid <= last:
                return f"{kind} {queue.qid} follows {kind} {last} in its list"
            last = queue.qid
    return None
