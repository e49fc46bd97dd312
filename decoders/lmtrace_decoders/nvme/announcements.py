"""What messages announce: entries that are new or left for a vector, what had to hold a message back, who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.msix import SETTLING_PS, Announced, Vectors

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.queues import CompletionQueue
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

RIGHT_BEHIND_PS = 1_000_000
"""How soon after a message the entry follows that it seems to announce."""
MECHANISMS = ("MSI-X", "MSI")
_MSIX, _MSI = range(2)
NOTHING = (-1, 4, -1, *((-1,) * 18))
"""Facts of a message of which nothing is known but that it was one."""


def _since(time: int, start: int) -> int:
    return time - start if start >= 0 else -1


class Announcements:
    """Follows for each vector what its messages have to tell."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    # -- entries ----------------------------------------------------------------------------------------------

    def queue_added(self, cq: CompletionQueue) -> None:
        """A completion queue began to exist."""
        controller = cq.controller
        if cq.vector is None or cq.learnt != spool.SEEN or cq.origin not in ("admin", "create", "state data"):
            controller.vectors_sure = False
            return
        controller.vectors_restored |= cq.origin == "state data"
        count = controller.function.vectors.count
        if cq.interrupts and count is not None and cq.vector >= count:
            controller.vectors_sure = False  # by which message such a queue tells is not said
        uses = controller.vector_uses.setdefault(cq.vector, [0, 0])
        uses[0 if cq.interrupts else 1] += 1

    def entry(self, cq: CompletionQueue) -> None:
        """An entry was posted, whether a command is known to it or not."""
        if cq.interrupts and cq.vector is not None:
            self.of(cq.controller.function.vectors, cq.vector).posted += 1

    def posted(self, cq: CompletionQueue, command: Command, vector: int, time: int) -> None:
        """An entry was posted whose message nothing holds back."""
        controller = cq.controller
        vectors, one = controller.function.vectors, self.of(controller.function.vectors, vector)
        mode = vectors.mode(vector) if self.sure(controller) else None
        if mode is not None:
            command.interrupt_mode, command.interrupt_due_ps = MECHANISMS.index(mode), time
        if 0 <= time - one.empty_ps <= RIGHT_BEHIND_PS and one.empty_ps >= 0 and mode is not None:
            command.early_ps, one.early = one.empty_ps, command
        one.empty_ps = -1

    def changed(self, vectors: Vectors, vector: int, time: int) -> None:
        """The host wrote to a vector: it may be masked or open now."""
        masked = vectors.masked(vector)
        for command in vectors.waiting.get(vector, ()):
            if masked:
                command.interrupt_due_ps = -1
            elif command.interrupt_due_ps < 0 and command.unmask_ps >= 0 and command.cq_doorbell_ps < 0:
                mode = vectors.mode(vector) if self.sure(command.controller) else None
                if mode is not None:
                    command.interrupt_mode, command.interrupt_due_ps = MECHANISMS.index(mode), time
        if masked:
            vectors.set_bits.pop(vector, None)
        elif vectors.set_bits.get(vector, 0) < 0:
            vectors.set_bits[vector] = time

    def arrived(self, command: Command, time: int) -> None:
        """The message of a command came. What the host had taken before did not wait any more."""
        if command.interrupt_due_ps >= 0:
            end = time if command.cq_doorbell_ps < 0 else min(time, command.cq_doorbell_ps)
            command.interrupt_wait_ps = max(end - command.interrupt_due_ps, 0)

    def gave_up(self, command: Command, time: int) -> None:
        """The message of a command did not come: its queue, its controller's life or the capture ended."""
        if command.waiting & 1 and command.interrupt_due_ps >= 0 and command.interrupt_wait_ps < 0:
            end = time if command.cq_doorbell_ps < 0 else command.cq_doorbell_ps
            command.interrupt_wait_ps = max(end - command.interrupt_due_ps, 0)

    # -- messages ---------------------------------------------------------------------------------------------

    @staticmethod
    def of(vectors: Vectors, vector: int) -> Announced:
        """Return what a vector has announced."""
        found = vectors.announced.get(vector)
        if found is None:
            found = vectors.announced[vector] = Announced()
        return found

    def sure(self, controller: Controller) -> bool:
        """Whether every completion queue of a life and what was posted to it is known."""
        return controller.enabled_ps is not None and controller.vectors_sure

    def left(self, controller: Controller, vector: int | None, time: int) -> tuple[int, int]:
        """Return (entries for a vector that were not consumed, for how long there were none), -1 where not known.

        A vector of None stands for all.
        """
        if not self.sure(controller) or controller.shadow:
            return -1, -1
        count, last = 0, controller.enabled_ps or 0
        for cq in controller.cqs.values():
            if not cq.interrupts or (vector is not None and cq.vector != vector):
                continue
            if cq.head is None or not cq.slots or cq.strangers or cq.in_cmb or cq.unconsumed < 0:
                return -1, -1
            count += cq.unconsumed
            last = max(last, cq.consumed_ps)
        return count, -1 if count else time - last

    def facts(
        self, function: Function, named: int | None, found: list[int], address: int, data: int, time: int, size: int,
        sure: bool,
    ) -> tuple[int, ...]:  # fmt: skip
        """Return what is to be said of a message, in the order of its table, and take it in."""
        vectors, controller = function.vectors, function.controller
        if not sure or any(vector < 0 for vector in found):
            return NOTHING
        sure = self.sure(controller)
        mechanism = _MSI if vectors.is_msi(address) and (address, data) not in vectors.by_message else -1
        if mechanism < 0 and (found or address in vectors.addresses):
            mechanism = _MSIX
        matched = 1 if found else self._strange(function, address, data, time) if size == 4 else 0
        vectors.signalled |= bool(found)
        masks = self._masks(vectors, named, mechanism, time)
        counts = self._counts(function, named, time) if sure else (-1, -1, -1, -1)
        # What vectors restored queues may use is judged with their Resume.
        judged = sure and not controller.vectors_restored
        uses = controller.vector_uses.get(named, (0, 0)) if named is not None and judged else (-1, -1)
        starving = self._starving(function, named) if judged else -1
        quiet = controller.enabled is False and function.not_ready_ps > vectors.opened_ps
        not_ready = _since(time, function.not_ready_ps) if quiet else -1
        other = self._named(function, address, data) if not found and size == 4 else -1
        return (
            mechanism, size, matched, *masks, *counts, *uses, starving, not_ready, *self._delays(function, named, time),
            other,
        )  # fmt: skip

    def _strange(self, function: Function, address: int, data: int, time: int) -> int:
        """Return 0 for a message that no vector in use has, -1 where vectors in use are not known."""
        vectors, controller = function.vectors, function.controller
        if not self.sure(controller) or not controller.vector_uses:
            return -1
        if time - vectors.former.get((address, data), -SETTLING_PS) < SETTLING_PS:
            return -1
        if vectors.is_msi(address):
            return 0 if vectors._msi_data() is not None and 0 in vectors.msi else -1
        return 0 if all(vectors.message(one) is not None for one in controller.vector_uses) else -1

    def _masks(self, vectors: Vectors, named: int | None, mechanism: int, time: int) -> tuple[int, int, int, int, int]:
        """Return for how long MSI-X and MSI had been off, and for how long the three kinds of masks had been set."""
        msix_off = _since(time, vectors.enabled_ps) if mechanism == _MSIX and vectors.enabled is False else -1
        msi_off = _since(time, vectors.msi_ps) if mechanism == _MSI and not vectors.msi_enabled else -1
        entry = function = intms = -1
        if named is not None and mechanism == _MSIX and vectors.enabled is not False:
            entry = _since(time, vectors.masked_ps.get(named, -1))
            function = _since(time, vectors.function_masked_ps) if vectors.function_mask else -1
        if named is not None and mechanism == _MSI:
            intms = _since(time, vectors.intms_ps.get(named, -1))
        return msix_off, msi_off, entry, function, intms

    def _counts(self, function: Function, named: int | None, time: int) -> tuple[int, int, int, int]:
        """Return what a message announced, what was left, for how long nothing had been, and how often in a row."""
        if named is None:
            return -1, -1, -1, -1
        one = self.of(function.vectors, named)
        posted, (left, idle) = one.posted, self.left(function.controller, named, time)
        empty = posted == 0 and left == 0 and idle >= RIGHT_BEHIND_PS
        one.idle_run = one.idle_run + 1 if empty else 0
        one.posted, one.empty_ps = 0, time if empty else -1
        if one.early is not None and time - one.early.cqe_ps < SETTLING_PS:
            one.early.early_ps = -1
        one.early = None
        function.vectors.set_bits.pop(named, None)
        return posted, left, idle, one.idle_run

    def _starving(self, function: Function, named: int | None) -> int:
        """Return another vector whose entries wait for a message that nothing holds back, -1 without one."""
        vectors = function.vectors
        for vector, waiting in sorted(vectors.waiting.items()):
            if vector >= 0 and vector != named and any(
                one.waiting & 1 and one.interrupt_due_ps >= 0 and one.cq_doorbell_ps < 0 for one in waiting
            ):  # fmt: skip
                return vector
        return -1

    def _delays(self, function: Function, named: int | None, time: int) -> tuple[int, int, int, int]:
        """Return how long the oldest I/O and admin entry waited, the aggregation time, whether it does not count."""
        vectors, delays = function.vectors, [-1, -1]
        if named is None:
            return -1, -1, -1, -1
        for one in vectors.waiting.get(named, ()):
            if one.interrupt_due_ps >= 0 and one.waiting & 1 and one.cq_doorbell_ps < 0 and one.cq is not None:
                kind = 1 if one.cq.qid == 0 else 0
                delays[kind] = max(delays[kind], time - one.interrupt_due_ps)
        coalescing = -1 if vectors.coalescing_ps is None else vectors.coalescing_ps
        return *delays, coalescing, int(vectors.not_coalesced.get(named, False))  # type: ignore[return-value]

    def _named(self, function: Function, address: int, data: int) -> int:
        """Return the only other function whose vector has a message, and whose entries wait for it; -1 without one."""
        others = []
        for other in self._run.functions:
            if other is function or other.link != function.link:
                continue
            for vector in other.vectors.by_message.get((address, data), ()):
                if any(one.waiting & 1 and one.cq_doorbell_ps < 0 for one in other.vectors.waiting.get(vector, ())):
                    others.append(other.bdf)
        return others[0] if len(others) == 1 else -1

    # -- pending bits -----------------------------------------------------------------------------------------

    def pending_read(self, event: tuple[int, ...]) -> None:
        """The host read pending bits of an MSI-X table."""
        run = self._run
        _, _, owner, _, offset, _, request, _, since, _ = event
        function: Function = run.objects[owner]
        vectors, controller, data = function.vectors, function.controller, run.bytes_of(event)
        if not self.sure(controller):
            return
        for vector in sorted(controller.vector_uses):
            if not 0 <= vector // 8 - offset < len(data) or not controller.vector_uses[vector][0]:
                continue
            pending = bool(data[vector // 8 - offset] >> vector % 8 & 1)
            waits = [
                one.cqe_ps for one in vectors.waiting.get(vector, ()) if one.masked_ps >= 0 and one.cq_doorbell_ps < 0
            ]
            masked = [one for one in (vectors.masked_ps.get(vector, -1),) if one >= 0]
            if vectors.function_mask and vectors.function_masked_ps >= 0:
                masked.append(vectors.function_masked_ps)
            opened = vectors.set_bits.get(vector, -1)
            run.store.writer("pending_bits").add({
                "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
                "controller": function.cntlid, "vector": vector, "pending": pending,
                "masked_ps": since - min(masked) if masked else None, "unconsumed": len(waits),
                "waited_ps": since - max(waits) if waits else None,
                "opened_ps": since - opened if opened >= 0 and waits else None, "time_ps": since, "tlp_id": request,
                "learnt": "seen",
            })  # fmt: skip
            if pending and vectors.masked(vector):
                vectors.set_bits[vector] = -1
