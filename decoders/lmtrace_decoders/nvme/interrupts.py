"""Interrupts given to the commands they announce, and masks that hold them back (PCIe transport 1.2, 3.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.pcie import bdf_text
from lmtrace.tables import ROLES
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.memory_map import INTERRUPT, WRITE
from lmtrace_decoders.nvme.msix import MOST_WAITING

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Function
    from lmtrace_decoders.nvme.queues import Command, CompletionQueue
    from lmtrace_decoders.nvme.reconstruct import Reconstruction


_INTERRUPT = ROLES.index("interrupt")


class Interrupts:
    """Follows vector tables and messages of every function."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    def table_write(self, event: tuple[int, ...]) -> None:
        """The host writes to an MSI-X table."""
        run = self._run
        _, _, owner, _, offset, _, tlp, time, _, _ = event
        function: Function = run.objects[owner]
        vectors = function.vectors
        masked = {vector for vector in vectors.waiting if vectors.masked(vector)}
        touched = vectors.write(offset, run.bytes_of(event))
        self._lay(function)
        self.opened(function, [one for one in touched if one in masked], time, tlp)

    def msi_write(self, function: Function, offset: int, value: int) -> None:
        """The host writes to the MSI capability."""
        function.vectors.msi[offset] = value
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
            if vectors.masked(vector):
                continue
            for command in vectors.waiting.get(vector, ()):
                if command.masked_ps >= 0 and command.unmask_ps < 0:
                    command.unmask_ps = time
                    self._child(command, spool.UNMASKED, time, vector, tlp)

    def posted(self, cq: CompletionQueue, command: Command, time: int, tlp: int) -> None:
        """A completion queue entry was posted; its interrupt is due where interrupts are on."""
        vectors = cq.controller.function.vectors
        if not cq.interrupts or not vectors.known:
            return
        waiting = vectors.waiting.setdefault(cq.vector, [])
        waiting.append(command)
        command.waiting |= 1
        if vectors.masked(cq.vector):
            command.masked_ps = time
            self._child(command, spool.MASKED, time, cq.vector, tlp)
        if len(waiting) > MOST_WAITING:
            self._run.released(waiting.pop(0), 1)

    def message(self, event: tuple[int, ...]) -> None:
        """An interrupt message."""
        run = self._run
        _, row, owner, length, offset, _, _, time, _, address = event
        function = run.objects[owner] if owner >= 0 else run.function_of_space(offset)
        if function is None or length < 2:
            return
        data = int.from_bytes(run.bytes_of(event)[:4], "little")
        self.announce(function, address & (1 << 64) - 1, data, time, run.first + row, 1.0)

    def announce(self, function: Function, address: int, data: int, time: int, tlp: int, confidence: float) -> None:
        """Give a message to the commands that wait for it."""
        vectors = function.vectors
        vectors.seen = True
        found = vectors.of_message(address, data)
        if not found and not vectors.by_message and len(vectors.waiting) == 1:
            found, confidence = list(vectors.waiting), min(confidence, 0.7)
        for vector in found:
            for command in vectors.waiting.pop(vector, ()):
                if command.waiting & 1:
                    command.interrupt_ps = time
                    self._child(command, spool.INTERRUPT_CHILD, time, address, tlp, confidence)
                    self._run.released(command, 1)
        run = self._run
        names = ", ".join(str(one) for one in found) or "?"
        run.role(tlp, _INTERRUPT, run.store.owner(f"vector {names} of {bdf_text(function.bdf)}"))

    def _child(self, command: Command, kind: int, time: int, address: int, tlp: int, confidence: float = 1.0) -> None:
        command.children.append((kind, time, time, address, 4, tlp, tlp, confidence))
        self._run.output.link((tlp, self._run.output.first_transaction + command.number, kind))
        command.touch(tlp)

    def drop(self, function: Function) -> None:
        """Nothing waits for an interrupt of this function any more."""
        for waiting in function.vectors.waiting.values():
            for command in waiting:
                self._run.released(command, 3)
        function.vectors.waiting.clear()
