"""Interrupts given to the commands they announce, and masks that hold them back (PCIe transport 1.2, 3.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.pcie import bdf_text
from lmtrace.tables import ROLES
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.announcements import Announcements
from lmtrace_decoders.nvme.memory_map import INTERRUPT, WRITE
from lmtrace_decoders.nvme.msix import MOST_WAITING
from lmtrace_decoders.nvme.pins import Pins

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Function
    from lmtrace_decoders.nvme.queues import CompletionQueue
    from lmtrace_decoders.nvme.reconstruct import Reconstruction


_INTERRUPT = ROLES.index("interrupt")
LOCAL_APIC = 0xFEE
"""Address bits 31:20 of message interrupts on x86."""
GUESSED = 0.5
PIN = -(1 << 20)
"""Stands for the interrupt pin among the vectors that commands wait for."""
DEASSERT = 0x24
"""Message code of Deassert_INTA; those of Assert_INTx lie below."""
_FIELDS = ("address", "upper address", "data", "control")


def _unnamed(qid: int) -> int:
    """Return the key of the vector of a completion queue whose vector is not known."""
    return -1 - qid


class Interrupts:
    """Follows vector tables and messages of every function."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._texts: dict[tuple[int, ...], int] = {}
        self.announcements = Announcements(run)
        self.pins = Pins(run)

    def table_write(self, event: tuple[int, ...]) -> None:
        """The host writes to an MSI-X table."""
        run = self._run
        _, _, owner, _, offset, _, tlp, time, _, _ = event
        function: Function = run.objects[owner]
        vectors, data = function.vectors, run.bytes_of(event)
        masked = {vector for vector in vectors.waiting if vectors.masked(vector)}
        self._note(function, offset, data, time, tlp)
        touched = vectors.write(offset, data, time)
        self._lay(function)
        self.opened(function, [one for one in touched if one in masked], time, tlp)
        for vector in touched:
            self.announcements.changed(vectors, vector, time)

    def _note(self, function: Function, offset: int, data: bytes, time: int, tlp: int) -> None:
        """Write down a write to the table, dword by dword, against what the table held."""
        run, vectors, facts = self._run, function.vectors, function.facts
        whole = offset % 4 == 0 and len(data) % 4 == 0
        for at in range(-(offset % 4), len(data), 4):
            vector, word = divmod((offset + at) // 4, 4)
            entry = vectors.entries.get(vector, [None] * 4)
            before, control = entry[word], entry[3]
            part = data[at : at + 4] if at >= 0 else b""
            value = int.from_bytes(part, "little") if len(part) == 4 else None
            if vectors.enabled is False or vectors.function_mask:
                live: bool | None = False
            else:
                live = None if control is None else False if control & 1 else vectors.enabled
            run.store.writer("vector_writes").add({
                "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
                "controller": function.cntlid, "vector": min(vector, 0xFFFF), "field": _FIELDS[word],
                "offset": offset + max(at, 0), "size": len(data), "whole": whole, "value": value,
                "changes": None if before is None or value is None else before != value, "live": live,
                "time_ps": time, "tlp_id": tlp, "learnt": facts.msix_learnt,
            })  # fmt: skip

    def msi_write(self, function: Function, offset: int, value: int, mask: int, time: int) -> None:
        """The host writes the bits ``mask`` of a dword of the MSI capability."""
        vectors = function.vectors
        before = vectors.msi_enabled
        vectors.msi[offset] = vectors.msi.get(offset, 0) & ~mask | value & mask
        if vectors.msi_enabled != before:
            vectors.msi_ps = time
            self.pins.mode(function, time)
        vectors.opened_ps = time
        self._lay(function)

    def _lay(self, function: Function) -> None:
        run, vectors = self._run, function.vectors
        for address in vectors.message_addresses():
            if address not in vectors.addresses:
                text = run.store.owner(f"interrupts of {function.text}")
                vectors.addresses[address] = run.map.add(
                    function.space, address, 4, INTERRUPT, WRITE, run.own(function), text
                )

    def opened(self, function: Function, touched: list[int], time: int, tlp: int) -> None:
        """Vectors were written that may now be unmasked."""
        vectors = function.vectors
        for vector in touched:
            if vector < 0 or vectors.masked(vector):
                continue
            for command in vectors.waiting.get(vector, ()):
                if command.masked_ps >= 0 and command.unmask_ps < 0:
                    command.unmask_ps = time
                    self._child(command, spool.UNMASKED, time, vector, tlp)

    def posted(self, cq: CompletionQueue, command: Command, time: int, tlp: int) -> None:
        """A completion queue entry was posted; its interrupt is due where interrupts are on."""
        vectors = cq.controller.function.vectors
        if not cq.interrupts or (vectors.asserted and not vectors.enabled):
            return
        key = PIN if vectors.off else _unnamed(cq.qid) if cq.vector is None else cq.vector
        waiting = vectors.waiting.setdefault(key, [])
        waiting.append(command)
        command.waiting |= 1
        if key >= 0 and vectors.masked(key):
            command.masked_ps = time
            self._child(command, spool.MASKED, time, key, tlp)
        elif key >= 0:
            self.announcements.posted(cq, command, key, time)
        if len(waiting) > MOST_WAITING:
            self._run.completions.released(waiting.pop(0), 1)

    def pin(self, event: tuple[int, ...]) -> None:
        """An INTx message: every queue of the function shares the pin, which stays asserted until all is consumed."""
        _, row, _, _, space, _, _, time, _, code = event
        function = self._run.function_of_space(space)
        if function is None:
            return
        vectors, tlp = function.vectors, self._run.first + row
        vectors.asserted = code < DEASSERT
        self.pins.told(function, vectors.asserted, time, tlp)
        waiting: list[Command] = []
        for key in [key for key in vectors.waiting if key == PIN or not vectors.enabled] if vectors.asserted else ():
            waiting += vectors.waiting.pop(key)
        for command in waiting:
            if command.waiting & 1:
                command.interrupt_ps = time
                command.children.append((spool.INTERRUPT_CHILD, time, time, 0, 0, tlp, tlp, 1.0))
                self._run.output.link((tlp, self._run.output.first_transaction + command.number, spool.INTERRUPT_CHILD))
                command.touch(tlp)
                self._run.completions.released(command, 1)

    def message(self, event: tuple[int, ...]) -> None:
        """An interrupt message, or something else that was written where messages go."""
        run = self._run
        _, row, owner, length, offset, _, _, time, _, address = event
        function = run.objects[owner] if owner >= 0 else run.function_of_space(offset)
        if function is None or length < 2:
            return
        data = int.from_bytes(run.bytes_of(event)[:4], "little")
        self.announce(function, address & (1 << 64) - 1, data, time, run.first + row, 1.0, length)

    def announce(
        self, function: Function, address: int, data: int, time: int, tlp: int, confidence: float, size: int = 4
    ) -> None:
        """Give a message to the commands that wait for it."""
        vectors = function.vectors
        found = vectors.of_message(address, data) if size == 4 else []
        if not found and (address, data) in vectors.learnt:
            found = [vectors.learnt[address, data]]
        self._give(function, found, address, data, time, tlp, confidence, size)

    def guess(self, function: Function, address: int, data: int, time: int, tlp: int) -> bool:
        """Take a write of 4 bytes to nowhere for an interrupt if no table is known; return whether it was.

        It must follow a completion that waits for one, and go where processors take interrupts or have come before.
        Where a table is known, what goes to where processors take interrupts is one of no vector.
        """
        vectors = function.vectors
        if vectors.off:
            return False
        if vectors.known:
            there = any(one >> 20 == LOCAL_APIC for one in vectors.addresses)
            if address >> 20 != LOCAL_APIC or not there or vectors.learnt:
                return False
            self._give(function, [], address, data, time, tlp, 1.0, 4)
            return True
        message = (address, data)
        key = vectors.learnt.get(message)
        if key is None:
            newest = max(
                ((waiting[-1].cqe_tlp, key) for key, waiting in vectors.waiting.items() if waiting), default=None
            )
            if newest is None:
                return False
            if address >> 20 != LOCAL_APIC and message not in vectors.candidates:
                if len(vectors.candidates) < 256:
                    vectors.candidates.add(message)
                return False
            key = vectors.learnt[message] = newest[1]
        self._give(function, [key], address, data, time, tlp, GUESSED, 4)
        return True

    def _give(
        self, function: Function, found: list[int], address: int, data: int, time: int, tlp: int, confidence: float,
        size: int,
    ) -> None:  # fmt: skip
        vectors = function.vectors
        named = found[0] if len(found) == 1 and found[0] >= 0 else None
        self._run.output.interrupt(
            function, named, address, data, None if named is None or confidence < 1 else vectors.masked(named), time,
            tlp, spool.SEEN if confidence == 1 else spool.INFERRED,
            self.announcements.facts(function, named, found, address, data, time, size, confidence == 1),
        )  # fmt: skip
        for vector in found:
            for command in vectors.waiting.pop(vector, ()):
                if command.waiting & 1:
                    command.interrupt_ps = time
                    self.announcements.arrived(command, time)
                    self._child(command, spool.INTERRUPT_CHILD, time, address, tlp, confidence)
                    self._run.completions.released(command, 1)
        run = self._run
        key = (function.number, *found)
        text = self._texts.get(key)
        if text is None:
            names = ", ".join(str(one) if one >= 0 else "?" for one in found) or "?"
            text = self._texts[key] = run.store.owner(f"vector {names} of {bdf_text(function.bdf)}")
        run.role(tlp, _INTERRUPT, text)

    def _child(self, command: Command, kind: int, time: int, address: int, tlp: int, confidence: float = 1.0) -> None:
        command.children.append((kind, time, time, address, 4, tlp, tlp, confidence))
        self._run.output.link((tlp, self._run.output.first_transaction + command.number, kind))
        command.touch(tlp)

    def drop(self, function: Function, time: int, why: str | None = None) -> None:
        """Nothing waits for an interrupt of this function any more: after a reset, or at the end of the capture."""
        for waiting in function.vectors.waiting.values():
            for command in waiting:
                self.announcements.gave_up(command, time)
                self._run.completions.released(command, 3)
        function.vectors.waiting.clear()
        self.pins.end(function, time, why)
        function.vectors.controller_reset()
