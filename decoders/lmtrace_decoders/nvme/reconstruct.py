"""From TLPs to commands: the walk over one capture, and what each event of it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lmtrace.spec.nvme import DOORBELL_BASE
from lmtrace.store import Capture, Store
from lmtrace.tables import ROLES
from lmtrace_decoders.migration import Migration
from lmtrace_decoders.nvme import attribution as at
from lmtrace_decoders.nvme import facts, losses, spool
from lmtrace_decoders.nvme.admin import Admin
from lmtrace_decoders.nvme.attribution import Walk
from lmtrace_decoders.nvme.buffers import Buffers
from lmtrace_decoders.nvme.command import Command
from lmtrace_decoders.nvme.completions import Completions
from lmtrace_decoders.nvme.conditions import Conditions
from lmtrace_decoders.nvme.controller import Function
from lmtrace_decoders.nvme.discovery import Discovery
from lmtrace_decoders.nvme.doorbells import Doorbells
from lmtrace_decoders.nvme.inference import Inference
from lmtrace_decoders.nvme.interrupts import Interrupts
from lmtrace_decoders.nvme.lives import Lives
from lmtrace_decoders.nvme.memory_map import (
    CMB,
    DOORBELL,
    MOST_SPACES,
    MSIX,
    PENDING,
    PMR,
    READ,
    REGISTER,
    WRITE,
)  # fmt: skip
from lmtrace_decoders.nvme.namespaces import Namespaces
from lmtrace_decoders.nvme.output import Output, Region
from lmtrace_decoders.nvme.premature import Prematures
from lmtrace_decoders.nvme.queue_lives import QueueLives
from lmtrace_decoders.nvme.queue_uses import write_uses
from lmtrace_decoders.nvme.quiet import QuietPeriods
from lmtrace_decoders.nvme.remainder import Remainder
from lmtrace_decoders.nvme.reservations import Reservations
from lmtrace_decoders.nvme.scoreboard import Scoreboard
from lmtrace_decoders.nvme.submissions import Submissions

ROLE = {name: number for number, name in enumerate(ROLES)}
_NAMES = {"msix_table": "MSI-X table", "msix_pending": "MSI-X pending bits", "pmr": "PMR"}
_SQ_DOORBELL, _CQ_DOORBELL, _UNRELATED = ROLE["sq_doorbell"], ROLE["cq_doorbell"], ROLE["unrelated"]


class Reconstruction:
    """One capture on its way from TLPs to tables."""

    def __init__(self, store: Store, capture: Capture, discovery: Discovery) -> None:
        self.store, self.capture, self.discovery = store, capture, discovery
        found = discovery.facts()
        ids = sorted((link << 16 | requester, number) for (link, requester), number in discovery.requesters.items())
        ids = [one for one in ids if len(capture.links) + one[1] < MOST_SPACES]
        spaces = [len(capture.links) + number for _, number in ids]
        count = len(capture.links) + len(discovery.requesters)
        self.walk = Walk(np.array([one for one, _ in ids]), np.array(spaces), count)
        self.map = self.walk.map
        self.output = Output(store, capture, discovery.config)
        self.objects: list[Any] = []
        self.functions: list[Function] = []
        self.regions: dict[int, list[Region]] = {}
        self.commands: list[Command | None] = [None] * len(self.walk.work)
        self._free_work = list(range(len(self.walk.work) - 1, -1, -1))
        self.next_number = 0
        self.first = 0
        self.last_ps = 0
        self.rows: np.ndarray = np.zeros(0)
        self.payload: np.ndarray = np.zeros(0, np.uint8)
        self.submissions, self.completions = Submissions(self), Completions(self)
        self.interrupts = Interrupts(self)
        self.queues = QueueLives(self)
        self.lives = Lives(self)
        self.namespaces = Namespaces()
        self.scoreboard = Scoreboard(self)
        self.conditions, self.reservations = Conditions(self), Reservations(self)
        self.doorbells = Doorbells(self)
        self.buffers = Buffers(self)
        self.admin = Admin(self)
        self.inference = Inference(self)
        self.premature = Prematures(self)
        self.migration = Migration(self)
        self.remainder = Remainder(self)
        self.quiet = QuietPeriods(self)
        self.reassigned: set[int] = set()
        """TLPs of earlier chunks that were given a role since."""
        for number, one in enumerate(found):
            function = Function.of(one, number)
            function.data_text = store.owner(f"data of {function.text}")
            function.list_text = store.owner(f"PRP list of {function.text}")
            self.functions.append(function)
        for function in self.functions:
            self._place(function)

    def _place(self, function: Function) -> None:
        """Lay a function's BAR into the space of its link; what is laid later wins where two overlap."""
        facts = function.facts
        owner = self.own(function)
        learnt = spool.LEARNT.index(facts.learnt)
        bases = (*facts.elsewhere, facts.bar0)
        size = min(DOORBELL_BASE << facts.stride, 1 << 20)
        if not function.confirmed:
            self.map.add(function.link, facts.bar0 + DOORBELL_BASE, size, DOORBELL, WRITE, owner, -1)
            return
        for base in bases:
            start = base + DOORBELL_BASE
            self._host_region(function, DOORBELL, "doorbells", owner, start, size, learnt, facts.confidence)
        for base in bases:
            self._host_region(function, REGISTER, "bar0", owner, base, DOORBELL_BASE, learnt, facts.confidence)
        if facts.msix is not None:
            start, entries = facts.msix
            size = 16 * entries if entries else 4096 - start % 4096
            learnt = spool.SEEN if facts.msix_learnt == "seen" else spool.INFERRED
            confidence = 1.0 if learnt == spool.SEEN else 0.8
            self._host_region(function, MSIX, "msix_table", owner, start, size, learnt, confidence)
        if facts.pending is not None:
            self._host_region(function, PENDING, "msix_pending", owner, *facts.pending, spool.SEEN, 1.0)

    def confirm(self, function: Function) -> None:
        """A function that was taken for a controller has shown a queue."""
        if not function.confirmed:
            function.queue_seen = True
            self._place(function)

    def _host_region(
        self, function: Function, kind: int, name: str, owner: int, start: int, size: int, learnt: int,
        confidence: float,
    ) -> None:  # fmt: skip
        text = f"{_NAMES.get(name, name)} of {function.text}"
        number = self.store.owner(text)
        self.map.add(function.link, start, size, kind, READ | WRITE, owner, number)
        self.region(function, name, text, start, size, 0, learnt, confidence, function.link, number)

    def lay_pmr(self, function: Function, start: int, size: int) -> None:
        """Lay a persistent memory region where the host reaches it; its contents are the host's."""
        owner = self.own(function.persistent)
        function.persistent.base = start
        self._host_region(function, PMR, "pmr", owner, start, size, spool.SEEN, 1.0)

    def lay_cmb(self, function: Function, start: int, size: int, time: int) -> None:
        """Lay a controller memory buffer where the host reaches it."""
        text = f"CMB of {function.text}"
        number = self.store.owner(text)
        self.map.add(function.link, start, size, CMB, READ | WRITE, self.own(function), number)
        self.region(function, "cmb", text, start, size, time, spool.SEEN, 1.0, function.link, number)

    def own(self, thing: Any) -> int:
        """Return the number that stands for an owner in the memory map."""
        self.objects.append(thing)
        return len(self.objects) - 1

    def region(
        self, function: Function, kind: str, owner: str, start: int, size: int, time: int, learnt: int,
        confidence: float, space: int, text: int,
    ) -> Region:  # fmt: skip
        """Note a region for its table and for naming neighbours."""
        region = Region(function, kind, owner, start, start + size, time, learnt, confidence, space, text)
        self.output.regions.append(region)
        self.regions.setdefault(space, []).append(region)
        return region

    def whole(self, link: int) -> bool:
        """Whether the capture shows every controller of a link from its enabling on."""
        return all(
            one.controller.enabled_ps is not None or bool(one.ended) or not (one.controller.sqs or one.controller.cqs)
            for one in self.functions
            if one.link == link
        )

    def function_of_space(self, space: int) -> Function | None:
        """Return the function whose requests are in a space."""
        return next((one for one in self.functions if one.space == space), None)

    def function_of(self, link: int, bdf: int) -> Function | None:
        """Return a function by its link and routing id, or by another one that it was given."""
        bdf = self.discovery.renumbered.get((link, bdf), bdf)
        return next((one for one in self.functions if one.link == link and one.bdf == bdf), None)

    # -- the walk ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Walk the capture, give every TLP its role, and write the tables."""
        handlers: dict[int, Callable[[tuple[int, ...]], None]] = {
            at.SQE_BYTES: self.submissions.read, at.CQE_WRITE: self.completions.written,
            at.LIST_BYTES: self.buffers.list_bytes,
            at.PROPERTY_WRITE: self.lives.property_write, at.PROPERTY_READ: self.lives.property_read,
            at.PROPERTY_VALUE: self.lives.property_value, at.DOORBELL_WRITE: self.doorbells.written,
            at.MSIX_WRITE: self.interrupts.table_write, at.INTERRUPT_WRITE: self.interrupts.message,
            at.CDQ_WRITE: self.migration.entry_write, at.DATA_BYTES: self.buffers.data_bytes,
            at.SHADOW_BYTES: self.doorbells.shadow_read, at.CONFIG_WRITE: self.lives.config_write,
            at.STRANGE_READ: self.inference.strange_read, at.STRANGE_WRITE: self.inference.strange_write,
            at.STRANGE_HOST: self.inference.strange_host, at.STRANGE_DATA: self.inference.strange_data,
            at.CMB_WRITE: self.doorbells.memory_written, at.CMB_DATA: self.doorbells.memory_read,
            at.PIN: self.interrupts.pin, at.PENDING_DATA: self.interrupts.announcements.pending_read,
            at.SHADOW_WRITE: self.doorbells.shadow_written, at.DOORBELL_READ: self.doorbells.read,
            at.PMR_READ: self.doorbells.region_read, at.METADATA_BYTES: self.buffers.metadata_bytes,
        }  # fmt: skip
        table = [handlers[code] for code in range(len(handlers))]
        for first, rows in self.store.tlp_chunks(self.capture):
            self.first, self.rows = first, rows
            if len(rows):
                self.last_ps = int(rows["time_ps"][-1])
            base, self.payload = self.store.payload_span(rows)
            numbers = self.walk.begin(rows)
            offsets = np.full(len(rows), -1, np.int64)
            while (events := self.walk.step(rows, first, base, numbers, offsets, self.payload)) is not None:
                for event in events:
                    table[event[0]](event)
            numbers[numbers >= 0] += self.output.first_transaction
            self.output.bulk_links(first, rows, numbers, offsets)
            losses.cut(self)
            self.quiet.chunk()
            self.discovery.states.fill(self.store, rows)
            self.remainder.chunk()
            self.store.update_tlps(first, rows)
        self._finish()

    def bytes_of(self, event: tuple[int, ...]) -> bytes:
        """Return the bytes an event carries."""
        start = event[5]
        data: bytes = self.payload[start : start + event[3]].tobytes()
        return data

    def role(self, tlp: int, role: int, text: int) -> None:
        """Give a TLP of this chunk or an earlier one another role and owner."""
        if tlp >= self.first:
            self.rows["role"][tlp - self.first] = role
            self.rows["owner"][tlp - self.first] = text
            return
        self.reassigned.add(tlp)
        row = self.store.tlps(tlp, tlp + 1)
        row["role"], row["owner"] = role, text
        self.store.update_tlps(tlp, row)

    def nearest(self, space: int, address: int) -> Region | None:
        """Return the region that lives nearest to an address in a space, None where there is none."""
        best, distance = None, 1 << 65
        for one in self.regions.get(space, ()):
            if one.to_ps is None:
                away = max(one.start - address, address - one.end + 1, 0)
                if away < distance:
                    best, distance = one, away
        return best

    # -- counters of the kernel -------------------------------------------------------------------------------

    def take_work(self, command: Command, keep: int) -> int:
        """Return a place among the kernel's counters for a command's data."""
        if not self._free_work:
            have = len(self.commands)
            self.walk.grow_work()
            self.commands += [None] * have
            self._free_work = list(range(2 * have - 1, have - 1, -1))
        slot = self._free_work.pop()
        self.walk.work[slot] = (command.number, 0, 0, 0, -1, -1, -1, -1, -1, 0, keep, 0, 0, 0, 0, 0)
        self.commands[slot] = command
        command.work = slot
        return slot

    def drop_work(self, command: Command) -> None:
        """Give a command's counters and its memory back, and keep what they counted."""
        slot = command.work
        if slot < 0:
            return
        counted = self.walk.work[slot].item()
        _, to_device, from_device, metadata, first_ps, last_ps, first_tlp, last_tlp, *_ = counted
        places, outside, shared = counted[-3:]
        if shared:
            facts.note(command, "buffer_shared", True)
        if first_tlp >= 0:
            command.moved_beside = (metadata, outside)
            moved, against = (to_device, from_device) if command.opcode & 3 == 1 else (from_device, to_device)
            if not shared and not against:
                facts.covered(command, moved, places)
            command.touch(first_tlp)
            command.touch(last_tlp)
            if to_device or from_device or not metadata:
                command.moved = (to_device, from_device, first_ps, last_ps)
                command.children.append(
                    (spool.DATA_CHILD, first_ps, last_ps, command.data_address, to_device + from_device, first_tlp,
                     last_tlp, command.sq.confidence)
                )  # fmt: skip
            if metadata:
                command.children.append(
                    (spool.METADATA_CHILD, first_ps, last_ps, command.metadata_address, metadata, first_tlp, last_tlp,
                     1.0)
                )  # fmt: skip
        command.digests = self.walk.digested(slot)
        for transfer in (command.transfer, command.metadata_transfer):
            if transfer is not None:
                transfer.drop()
        self.map.remove(command.mapped)
        command.mapped = -1
        self.walk.work["number"][slot] = -1
        self.commands[slot] = None
        command.work = -1
        self._free_work.append(slot)

    def _finish(self) -> None:
        self.lives.unanswered()
        for function in self.functions:
            controller = function.controller
            for cq in list(controller.cqs.values()):
                self.queues.end(cq, None, None, None, spool.OUTSTANDING)
            for sq in list(controller.sqs.values()):
                self.queues.end(sq, None, None, None, spool.OUTSTANDING)
            self.interrupts.drop(function, self.capture.duration_ps)
        self.migration.finish()
        write_uses(self)
        self.quiet.write()
        self._function_resets()
        self._persistent_memory()
        self.output.finish(self.functions, self.remainder)

    def _function_resets(self) -> None:
        cntlid = {(one.link, one.bdf): one.cntlid for one in self.functions}
        for link, row in self.discovery.states.resets.rows():
            place = {"capture": self.capture.name, "link": self.output.links[link]}
            controller = cntlid.get((link, row["function"]))
            self.store.writer("function_resets").add(place | row | {"controller": controller})

    def _persistent_memory(self) -> None:
        for function in self.functions:
            place = {"capture": self.capture.name, "link": self.output.links[function.link]}
            for row in function.persistent.rows():
                self.store.writer("pmr_uses").add(
                    place | row | {"controller": function.cntlid, "learnt": function.facts.learnt}
                )
