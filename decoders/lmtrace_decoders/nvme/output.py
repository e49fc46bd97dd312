"""What the reconstruction leaves behind: rows of every NVMe table, as things end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from lmtrace.spec.nvme import Property
from lmtrace.spec.pcie import COMPLETIONS, Direction
from lmtrace.stage import Flag
from lmtrace.store import Capture, Store
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.announcements import MECHANISMS
from lmtrace_decoders.nvme.command import OVERLAPS, Command
from lmtrace_decoders.nvme.config_space import ConfigSpaces
from lmtrace_decoders.nvme.controller import Controller, Function
from lmtrace_decoders.nvme.controller_memory import LACKS
from lmtrace_decoders.nvme.fact_names import IN_FIRST
from lmtrace_decoders.nvme.facts import note
from lmtrace_decoders.nvme.queues import CompletionQueue, Queue, SubmissionQueue
from lmtrace_decoders.nvme.sgl import SglTransfer
from lmtrace_decoders.nvme.spool import Spill, write_batches

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.remainder import Remainder

_TOP = (1 << 64) - 1
FIRST_FACTS = (1 << 2 * IN_FIRST) - 1
_FIRST_TLP = itemgetter(5)
PROPERTY_NAMES = (*(one.name for one in Property), "reserved")
_PROPERTY_NUMBER = {int(one): number for number, one in enumerate(Property)}
_RESERVED = len(PROPERTY_NAMES) - 1
for _one in (Property.CAP, Property.ASQ, Property.ACQ, Property.BPMBL, Property.CMBMSC):
    _PROPERTY_NUMBER[int(_one) + 4] = _PROPERTY_NUMBER[int(_one)]


@dataclass(slots=True, eq=False)
class Region:
    """One region for the table ``regions`` and for naming what is nearest to a TLP that belongs to nothing."""

    function: Function
    kind: str
    owner: str
    start: int
    end: int
    from_ps: int
    learnt: int
    confidence: float
    space: int
    text: int
    to_ps: int | None = None


def _completed_before(cq: CompletionQueue, cqe: bytes) -> bool:
    """Whether a command that an entry names is among the last ones of its submission queue, completed."""
    sq, cid = cq.controller.sqs.get(int.from_bytes(cqe[10:12], "little")), int.from_bytes(cqe[12:14], "little")
    return sq is not None and any(one.cid == cid and one.cqe is not None for one in sq.by_slot.values())


def _pointers(command: Command) -> tuple[int, ...]:
    """Return (flaws, metadata expected and seen, bytes described, discarded, outside), -1 for what is not known."""
    data, metadata = command.transfer, command.metadata_transfer
    flaws = -1
    if data is not None and command.certain and command.controller.css is not None:
        flaws = data.flaws | (0 if metadata is None else metadata.flaws)
    described, discarded = -1, 0
    if isinstance(data, SglTransfer):
        described = -1 if data.described is None else data.described
        discarded = data.discarded
    seen, outside = command.moved_beside
    due = command.metadata if command.certain and command.metadata_made is not None else -1
    return flaws, due, seen, described, discarded, outside


class Output:
    """The rows of one capture."""

    def __init__(self, store: Store, capture: Capture, config: ConfigSpaces) -> None:
        self.store, self.capture, self.config = store, capture, config
        self.links = [link.name for link in capture.links]
        self.first_transaction = store.writer("transactions").count
        self.spills = {
            name: Spill(store.folder / f"{name}.spill", dtype)
            for name, dtype in (
                ("transactions", spool.TRANSACTION), ("children", spool.CHILD), ("tlp_transactions", spool.TLP_LINK),
                ("doorbells", spool.DOORBELL_ROW), ("properties", spool.PROPERTY_ROW),
                ("interrupts", spool.INTERRUPT_ROW), ("shadow_accesses", spool.SHADOW_ROW),
            )
        }  # fmt: skip
        self.add_child = self.spills["children"].append
        self._links: list[int] = []
        self.failed_reads: dict[str, set[int]] = {"reads_refused": set(), "reads_poisoned": set()}
        """Transactions of whose data a read failed."""
        self.queues: list[dict[str, Any]] = []
        self.regions: list[Region] = []

    def link(self, row: tuple[int, int, int]) -> None:
        """Link a TLP to a transaction: (TLP, transaction, kind of child)."""
        self._links += row

    def bulk_links(self, first: int, rows: np.ndarray, numbers: np.ndarray, offsets: np.ndarray) -> None:
        """Link the data TLPs of a chunk to their commands; ``offsets`` are those of their first bytes."""
        self._flush_links()
        at = np.flatnonzero(numbers >= 0)
        answer = np.isin(rows["kind"][at], list(COMPLETIONS)) & (rows["direction"][at] == Direction.DOWNSTREAM)
        refused, poisoned = rows["status"][at] != 0, rows["flags"][at] & Flag.POISONED != 0
        for name, wrong in (("reads_refused", answer & refused), ("reads_poisoned", answer & poisoned)):
            self.failed_reads[name].update(numbers[at[wrong]].tolist())
        records = np.zeros(len(at), spool.TLP_LINK)
        records["tlp_id"] = first + at
        records["transaction_id"] = numbers[at]
        metadata = rows["role"][at] == 8
        records["offset"] = offsets[at]
        records["kind"] = np.where(metadata, spool.METADATA_CHILD, spool.DATA_CHILD)
        self.spills["tlp_transactions"].extend(records)

    def _flush_links(self) -> None:
        values = np.array(self._links, np.int64).reshape(-1, 3)
        records = np.zeros(len(values), spool.TLP_LINK)
        records["offset"] = -1
        for column, name in enumerate(("tlp_id", "transaction_id", "kind")):
            records[name] = values[:, column]
        self.spills["tlp_transactions"].extend(records)
        self._links.clear()

    def doorbell(
        self, controller: Controller, is_cq: bool, qid: int, word: int, time: int, tlp: int,
        move: tuple[int, int, int, int], size: int = 4, missing: int = -1, after_report: int = 0, read: bool = False,
        apart: int = 0,
    ) -> int:  # fmt: skip
        """Add one access to a doorbell and return the number of its row.

        ``move`` is (exists, entries, moved, room). ``word`` and what else is not known is -1. ``apart`` is 1 for one
        that begins at no doorbell.
        """
        function, enabled = controller.function, controller.enabled
        value, reserved = (word & 0xFFFF, word >> 16) if word >= 0 else (-1, -1)
        spill = self.spills["doorbells"]
        spill.append(
            (function.link, function.bdf, -1, controller.epoch, int(is_cq), qid, value, time, tlp, reserved,
             -1 if enabled is None or read else int(enabled), *move, min(size, 1 << 16), missing, after_report,
             int(read), -1, -1 if controller.shutting_down is None else int(controller.shutting_down), apart)
        )  # fmt: skip
        return spill.following - 1

    def shadow_access(
        self, controller: Controller, write: bool, number: int, exists: bool | None, in_force: bool, time: int, tlp: int
    ) -> None:
        """Add one access of a controller to shadow doorbells or event indices."""
        function = controller.function
        self.spills["shadow_accesses"].append(
            (function.link, function.bdf, -1, controller.epoch, int(write), number & 1, number >> 1,
             -1 if exists is None else int(exists), int(in_force), time, tlp)
        )  # fmt: skip

    def unmatched_completion(self, cq: CompletionQueue, slot: int, cqe: bytes, time: int, tlp: int) -> dict[str, Any]:
        """Return the row of one entry of a completion queue that completes no command known."""
        function = cq.controller.function
        status = cqe[14] >> 1 | cqe[15] << 7
        return {
            "capture": self.capture.name, "link": self.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "epoch": cq.controller.epoch, "cqid": cq.qid, "cq_slot": slot,
            "sqid": int.from_bytes(cqe[10:12], "little"), "cid": int.from_bytes(cqe[12:14], "little"),
            "completed_before": _completed_before(cq, cqe),
            "sqhd": int.from_bytes(cqe[8:10], "little"), "phase": bool(cqe[14] & 1), "sct": status >> 8 & 7,
            "sc": status & 0xFF, "time_ps": time, "tlp_id": tlp, "learnt": spool.LEARNT[cq.learnt],
        }  # fmt: skip

    def add_unmatched(self, row: dict[str, Any]) -> None:
        """Add one entry of a completion queue that completes no command known."""
        self.store.writer("unmatched_completions").add(row)

    def interrupt(
        self, function: Function, vector: int | None, address: int, data: int, masked: bool | None, time: int,
        tlp: int, learnt: int, facts: tuple[int, ...],
    ) -> None:  # fmt: skip
        """Add one interrupt message; ``vector`` and ``masked`` are None where the table does not tell.

        ``facts`` are the columns behind ``learnt``, -1 for what is not known.
        """
        self.spills["interrupts"].append(
            (function.link, function.bdf, -1, -1 if vector is None else vector, address, data, bool(masked),
             masked is not None, time, tlp, learnt, *facts)
        )  # fmt: skip

    def property(
        self, controller: Controller, write: bool, offset: int, data: bytes | None, size: int, time: int, tlp: int,
        end: int = -1, status: int = -1, completion: int = -1, rung: int = -1, completer: int = -1,
        facts: tuple[int, int, int] = (0, 0, -1),
    ) -> None:  # fmt: skip
        """Add one property access; ``facts`` are its columns ``before``, whether it is known, ``reset_of``."""
        function = controller.function
        value = 0 if data is None else int.from_bytes(data[:8], "little")
        name = _PROPERTY_NUMBER.get(offset & ~3, _RESERVED)
        self.spills["properties"].append(
            (function.link, function.bdf, -1, controller.epoch, time, end, int(write), offset, name, size, value,
             int(data is not None), status, tlp, completion, rung, completer,
             -1 if function.facts.is_virtual is None else int(function.facts.is_virtual),
             -1 if function.memory_space is None else int(function.memory_space), *facts,
             -1 if function.vectors.enabled is None else int(function.vectors.enabled))
        )  # fmt: skip

    def transaction(self, command: Command) -> None:
        """Add a command whose life is over."""
        sq, cqe = command.sq, command.cqe
        function = command.controller.function
        dw = command.dwords
        if cqe is None:
            result = (-1, -1, -1, -1, -1, -1, -1, -1, -1)
            retry = -1
        else:
            status = cqe[14] | cqe[15] << 8
            retry = status >> 12 & 3
            result = (
                status >> 9 & 7, status >> 1 & 0xFF, status >> 15, status >> 14 & 1,
                int.from_bytes(cqe[:4], "little"), int.from_bytes(cqe[4:8], "little"),
                cqe[8] | cqe[9] << 8, status & 1, cqe[10] | cqe[11] << 8,
            )  # fmt: skip
        if command.partner is not None and command.partner.cqe is not None:
            note(command, "fuse_partner_failed", not command.partner.succeeded)
        to_device, from_device, first_ps, last_ps = command.moved
        learnt = spool.INFERRED if sq.in_cmb and sq.learnt == spool.SEEN else sq.learnt  # its fetch is not seen
        self.spills["transactions"].put(
            command.number,
            (
                function.link, -1, function.bdf, command.controller.epoch, sq.qid,
                sq.cqid if command.cq is None else command.cq.qid, command.cid, command.opcode,
                dw[1], command.csi, command.sqe[1] >> 6, command.sqe[1] & 3, dw[6] | dw[7] << 32, dw[8] | dw[9] << 32,
                dw[4] | dw[5] << 32, dw[0], dw[2], dw[3],
                *dw[10:], command.sq_slot, command.cq_slot, command.sq_doorbell_ps, command.fetch_ps,
                command.list_ps, first_ps, last_ps, command.cqe_ps, command.interrupt_ps, command.masked_ps,
                command.cq_doorbell_ps, command.unmask_ps, *result,
                -1 if command.expected is None else command.expected, to_device, from_device, command.outcome,
                int(command.data_decoded), learnt, command.fetch_tlp, command.cqe_tlp, command.first_tlp,
                command.last_tlp, *command.due, int(command.cid_in_use), command.interrupt_mode,
                command.interrupt_wait_ps, command.early_ps,
                command.facts & FIRST_FACTS, command.facts >> 2 * IN_FIRST, retry,
                -1 if command.controller.css is None else command.controller.css, command.rounds_missed,
                command.abort_ps, command.waited_ps, 0 if command.expected else -1,
                function.asymmetric, function.reservations, command.overlaps, *_pointers(command),
                function.sgls, function.namespaces, function.oncs, function.oacs, command.cmb_lacks,
            ),
        )  # fmt: skip
        number = self.first_transaction + command.number
        for child in sorted(command.children, key=_FIRST_TLP):
            self.add_child((number, *child) if sq.confidence == 1 else (number, *child[:-1], sq.confidence * child[-1]))
        if command.buffer is not None and (command.buffer.ranges or command.expected):
            pieces = command.buffer
            self.store.writer("command_data").add(
                {
                    "transaction_id": number, "to_device": command.opcode & 3 == 1,
                    "size": max(command.expected or 0, len(pieces.data)), "data": bytes(pieces.data),
                    "seen": [at for pair in pieces.ranges for at in pair], "learnt": spool.LEARNT[learnt],
                }
            )  # fmt: skip

    def queue_ended(self, queue: Queue, time: int | None, tlp: int | None, why: str | None) -> None:
        """Add a queue whose life is over, or that lives at the end of the capture."""
        function = queue.controller.function
        row: dict[str, Any] = {
            "capture": self.capture.name, "link": self.links[function.link], "function": function.bdf,
            "epoch": queue.controller.epoch, "kind": "SQ", "qid": queue.qid, "base": queue.base,
            "size": queue.slots or None, "entry_size": queue.entry_size, "contiguous": queue.contiguous,
            "pages": queue.pages, "overlaps": queue.overlaps, "origin": queue.origin, "first_head": queue.first_head,
            "first_tail": queue.first_tail, "created_ps": queue.created_ps,
            "created_tlp_id": queue.created_tlp if queue.created_tlp >= 0 else None, "deleted_ps": time,
            "deleted_tlp_id": tlp, "ended_by": why, "learnt": spool.LEARNT[queue.learnt],
            "confidence": queue.confidence,
        }  # fmt: skip
        if isinstance(queue, SubmissionQueue):
            row |= {"cqid": queue.cqid, "priority": queue.priority}
        elif isinstance(queue, CompletionQueue):
            row |= {
                "kind": "CQ", "vector": queue.vector, "interrupts": queue.interrupts, "first_phase": queue.first_phase,
                "vectors_enabled": queue.vectors_enabled,
            }  # fmt: skip
        row["_key"] = (function.link, function.bdf)
        self.queues.append(row)

    def _bar(self, function: Function, life: Controller) -> dict[str, Any]:
        """Return what the configuration space tells of a function's class and of what is in BAR0."""
        facts = function.facts
        space = self.config.spaces.get((function.link, function.bdf))
        if space is None or facts.vf_number is not None:
            return {}
        bar, class_code = space.bars[0], space.value(9, 3)
        return {
            "class_code": class_code, "bar0_size": bar.size,
            "bar0_prefetchable": None if bar.flags is None else bool(bar.flags & 8),
            "msix_place": space.msix_place(life.highest_doorbell),
        }  # fmt: skip

    def controllers(self, function: Function) -> None:
        """Add every life of a function's controller that was enabled or active."""
        now = function.controller
        lives = [*function.ended]
        if now.enabled or now.first_tlp is not None or now.sqs:
            lives.append((now, -1, "", -1))
        facts, writer = function.facts, self.store.writer("controllers")
        space = self.config.spaces.get((function.link, function.bdf))
        for life, end, why, tlp in lives:
            writer.add({
                "capture": self.capture.name, "link": self.links[function.link], "function": function.bdf,
                "epoch": life.epoch, "controller": function.cntlid, "bar0": facts.bar0,
                "doorbell_stride": facts.stride, "page_size": life.page, "io_sqe_size": life.io_sqe,
                "io_cqe_size": life.io_cqe, "msix_table": facts.msix[0] if facts.msix else None,
                "is_virtual": facts.is_virtual, **({} if space is None else space.identity()),
                "enabled_ps": life.enabled_ps,
                "enabled_tlp_id": life.enabled_tlp, "ended_ps": end if why else None,
                "ended_by": why or None, "ended_tlp_id": tlp if tlp >= 0 else None, "first_tlp_id": life.first_tlp,
                "highest_doorbell": life.highest_doorbell or None, **self._bar(function, life),
                "learnt": facts.learnt, "confidence": facts.confidence,
            })  # fmt: skip

    def finish(self, functions: list[Function], remainder: Remainder) -> None:
        """Write every table of this capture."""
        self._flush_links()
        cntlid = {(one.link, one.bdf): one.cntlid for one in functions if one.cntlid is not None}
        words: dict[str, dict[str, Sequence[str]]] = {
            "transactions": {
                "outcome": spool.OUTCOMES, "learnt": spool.LEARNT, "interrupt_due": MECHANISMS,
                "buffer_overlaps": OVERLAPS, "cmb_lacks": LACKS,
            },
            "children": {"kind": spool.CHILD_KINDS}, "tlp_transactions": {"kind": spool.CHILD_KINDS},
            "doorbells": {"kind": spool.QUEUE_KINDS, "missing": spool.MISSING}, "properties": {"name": PROPERTY_NAMES},
            "interrupts": {"learnt": spool.LEARNT, "mechanism": MECHANISMS},
            "shadow_accesses": {"kind": spool.QUEUE_KINDS},
        }  # fmt: skip
        learnt = {(one.link, one.bdf): spool.LEARNT.index(one.facts.learnt) for one in functions}
        remainder.finish(cntlid, learnt)
        for name, spill in self.spills.items():
            marks = self.failed_reads if name == "transactions" else {}
            write_batches(
                self.store, name, spill, self.capture.name, self.links, words[name], cntlid, marks=marks, learnt=learnt
            )
        for function in functions:
            self.controllers(function)
        writer = self.store.writer("queues")
        for row in sorted(self.queues, key=lambda one: (one["created_tlp_id"] or 0, one["kind"], one["qid"])):
            writer.add(row | {"controller": cntlid.get(row["_key"])})
        writer = self.store.writer("regions")
        for one in self.regions:
            writer.add({
                "capture": self.capture.name, "link": self.links[one.function.link], "function": one.function.bdf,
                "kind": one.kind, "owner": one.owner, "start": min(one.start, _TOP),
                "end": min(one.end, _TOP),
                "from_ps": one.from_ps, "to_ps": one.to_ps, "learnt": spool.LEARNT[one.learnt],
                "confidence": one.confidence,
            })  # fmt: skip
