"""The Controller State structure: what leaves the source and what a destination makes of it (5.1.17.1.3)."""

from __future__ import annotations

from lmtrace.spec.migration import (
    CONTROLLER_STATE_HEADER,
    IO_CQ_STATE,
    IO_SQ_STATE,
    NVME_CONTROLLER_STATE,
    state_size,
)
from lmtrace.spec.nvme import INVALID_FIELD, NOT_ENOUGH_RESOURCES
from lmtrace_samples.commands import QUEUES, Controller
from lmtrace_samples.engine import Engine
from lmtrace_samples.function import VECTORS
from lmtrace_samples.queues import CompletionQueue, Refused, SubmissionQueue
from lmtrace_samples.tlp import PAGE

VENDOR_UUID = bytes.fromhex("6c6d74726163652073746174652031ff")
HEADER = CONTROLLER_STATE_HEADER.size
LARGEST = state_size(2 + 12 * 0x100, 0x1000)


class Transfer:
    """A state on its way in, of the formats that its first command named."""

    def __init__(self, version: int, vendor: int) -> None:
        self.version = version
        self.vendor = vendor
        self.data = bytearray()

    def take(self, offset: int, data: bytes) -> None:
        """Put a piece at its place."""
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    @property
    def parts(self) -> tuple[int, int]:
        """The dwords of the NVMe part and of the vendor part, 0 while the header has not come."""
        if len(self.data) < HEADER:
            return 0, 0
        header = CONTROLLER_STATE_HEADER.decode(bytes(self.data[:HEADER]))
        return header["NVMECSS"], header["VSS"]

    @property
    def limit(self) -> int:
        """How far the structure reaches, as far as that is known."""
        return LARGEST if len(self.data) < HEADER else min(state_size(*self.parts), LARGEST)

    @property
    def complete(self) -> bool:
        """Whether every byte that the header announces is there."""
        return len(self.data) >= HEADER and len(self.data) >= state_size(*self.parts)


def encode(target: Controller, version: int, vendor: int, suspended: bool, vendor_dwords: int) -> bytes:
    """Return the state of a controller in the formats asked for."""
    queues = queue_part(target) if version else b""
    extra = bytes((7 * index + target.cntlid) & 0xFF for index in range(4 * vendor_dwords)) if vendor else b""
    header = CONTROLLER_STATE_HEADER.encode(CP=suspended, NVMECSS=len(queues) // 4, VSS=len(extra) // 4)
    return header + queues + extra


def queue_part(target: Engine) -> bytes:
    """Return the NVMe Controller State: the I/O queues with their pointers, in order of their identifiers."""
    sqs = [target.sqs[qid] for qid in sorted(target.sqs) if qid]
    cqs = [target.cqs[qid] for qid in sorted(target.cqs) if qid]
    return b"".join([
        NVME_CONTROLLER_STATE.encode(NIOSQ=len(sqs), NIOCQ=len(cqs)),
        *(
            IO_SQ_STATE.encode(
                IOSQPRP1=one.base, IOSQQSIZE=one.size - 1, IOSQQID=one.qid, IOSQCQID=one.cqid, PC=1,
                QPRIO=one.priority, IOSQHP=one.head, IOSQTP=one.tail,
            )
            for one in sqs
        ),
        *(
            IO_CQ_STATE.encode(
                IOCQPRP1=one.base, IOCQQSIZE=one.size - 1, IOCQQID=one.qid, IOCQHP=one.head, IOCQTP=one.tail,
                PC=1, IEN=one.enabled, S0PT=first_phase(one), IV=one.vector,
            )
            for one in cqs
        ),
    ])  # fmt: skip


def first_phase(queue: CompletionQueue) -> int:
    """Return the phase tag that slot 0 holds: this pass's, or the last pass's while the tail is at slot 0."""
    return queue.phase if queue.tail else queue.phase ^ 1


def load(target: Engine, state: bytes, manager: Engine) -> None:
    """Create a target's I/O queues as a state describes them.

    Raises Refused with Invalid Field when the state contradicts itself, and with Not Enough Resources when the
    target has no such queues.
    """
    if not CONTROLLER_STATE_HEADER["NVMECSS"].of(state[:HEADER]):
        return
    head = NVME_CONTROLLER_STATE.decode(state, HEADER)
    sqs, cqs = head["NIOSQ"], head["NIOCQ"]
    at = HEADER + NVME_CONTROLLER_STATE.size
    if CONTROLLER_STATE_HEADER["NVMECSS"].of(state[:HEADER]) != 2 + 6 * (sqs + cqs):
        raise Refused(INVALID_FIELD)
    if max(sqs, cqs) > QUEUES:
        raise Refused(NOT_ENOUGH_RESOURCES)
    submissions = [IO_SQ_STATE.decode(state, at + 24 * index) for index in range(sqs)]
    completions = [IO_CQ_STATE.decode(state, at + 24 * (sqs + index)) for index in range(cqs)]
    if not sound(submissions, completions):
        raise Refused(INVALID_FIELD)
    for cq in completions:
        queue = target.completion_queue(cq["IOCQQID"], cq["IOCQPRP1"], cq["IOCQQSIZE"] + 1, bool(cq["IEN"]), cq["IV"])
        queue.head, queue.tail = cq["IOCQHP"], cq["IOCQTP"]
        queue.phase = cq["S0PT"] if cq["IOCQTP"] else cq["S0PT"] ^ 1
        target.cqs[queue.qid] = queue
    for sq in submissions:
        restored = SubmissionQueue(sq["IOSQQID"], sq["IOSQPRP1"], sq["IOSQQSIZE"] + 1, sq["IOSQCQID"], sq["QPRIO"])
        restored.head, restored.tail = sq["IOSQHP"], sq["IOSQTP"]
        target.sqs[restored.qid] = restored


def sound(submissions: list[dict[str, int]], completions: list[dict[str, int]]) -> bool:
    """Whether there can be such queues: numbered, on pages, with pointers inside, each bound to one that is there."""
    sqids = [one["IOSQQID"] for one in submissions]
    cqids = [one["IOCQQID"] for one in completions]
    return (
        all(0 < qid <= QUEUES for qid in [*sqids, *cqids])
        and len({*sqids}) == len(sqids)
        and len({*cqids}) == len(cqids)
        and all(one["IOSQCQID"] in cqids for one in submissions)
        and not any(one["IOSQPRP1"] % PAGE for one in submissions)
        and not any(one["IOCQPRP1"] % PAGE for one in completions)
        and all(one["IV"] < VECTORS for one in completions)
        and all(0 < one["IOSQQSIZE"] >= max(one["IOSQHP"], one["IOSQTP"]) for one in submissions)
        and all(0 < one["IOCQQSIZE"] >= max(one["IOCQHP"], one["IOCQTP"]) for one in completions)
    )
