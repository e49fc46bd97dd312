"""Properties and what they do to controllers: enabling, resets by CC, NSSR, FLR, or only by behaviour (3.7.2)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lmtrace.spec.nvme import CAP, CC, CSTS, NSSR_MAGIC, Property
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.config_space import MSI, MSIX, PCI_EXPRESS, WRITABLE
from lmtrace_decoders.nvme.controller import BEHAVED, CC_CLEARED, FLR, NSSR, Controller, Function
from lmtrace_decoders.nvme.controller_memory import unit_bytes
from lmtrace_decoders.nvme.queues import CompletionQueue, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

CONSTANTS = {int(Property.CAP): 8, int(Property.CAP) + 4: 4, int(Property.VS): 4}
"""Properties that never change, with the bytes of a read that shows all of them."""
_SETUP = range(Property.AQA, Property.ACQ + 8)
MOST_READS = 1 << 16
STRIDE_ASSUMED = 0.8
"""How sure it is whose a doorbell is where CAP was not read: most controllers have no space between doorbells."""
SHUTDOWN_COMPLETE = 2
"""CSTS.SHST."""


def _largest_page(function: Function) -> int:
    """Return the bytes of the largest memory page that CAP offers; of any that there is while CAP is not known."""
    low, high = function.constants.get(Property.CAP), function.constants.get(Property.CAP + 4)
    value = low[0] if low is not None else high[0] << 32 if high is not None else 0xF << 52
    return 1 << 12 + CAP["MPSMAX"].of(value.to_bytes(8, "little"))


BAR0, SIZING = 0x10, 0xFFFFFFFF
"""The register, and what a host writes to it to learn its size."""


class Lives:
    """Follows property accesses and configuration writes."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._reads: dict[int, tuple[Function, int, int, int]] = {}
        self._nssr: int | None = None
        self._virtuals: dict[tuple[int, int], dict[str, int]] = {}
        """Of each physical function what the host wrote to SR-IOV Control and NumVFs."""
        self._resets: deque[tuple[int, Function, str, int]] = deque(maxlen=64)
        """The latest resets that were asked for: TLP, function, how, time."""

    # -- properties -------------------------------------------------------------------------------------------

    def property_write(self, event: tuple[int, ...]) -> None:
        """A write of the host to a controller property."""
        run = self._run
        _, _, owner, length, offset, _, tlp, time, _, _ = event
        function: Function = run.objects[owner]
        data = run.bytes_of(event)
        controller = function.controller
        run.output.property(controller, True, offset, data, length, time, tlp)
        if offset in function.constants:
            function.constants[offset][1] = 1
        if offset % 4 or len(data) % 4:
            return
        for at in range(0, len(data), 4):
            place, value = offset + at, int.from_bytes(data[at : at + 4], "little")
            if place == Property.CC:
                self._cc(function, value, time, tlp)
            elif place == Property.NSSR and value == NSSR_MAGIC:
                for key in [key for key in self._virtuals if key[0] == function.link]:
                    del self._virtuals[key]  # VF Enable is 0 again
                for one in run.functions:
                    if one.link == function.link:
                        self.reset(one, NSSR, time, tlp)
            elif place in _SETUP and controller.enabled and controller.rewritten is None:
                controller.rewritten = (time, tlp)
            if place == Property.BPRSEL:
                controller.undecoded = True
                run.quiet.excuse(function)
            if place in (Property.INTMS, Property.INTMC):
                function.vectors.set_intms(value, place == Property.INTMC, time)
            if place not in (Property.CAP, Property.VS, Property.CSTS, Property.NSSR):
                function.registers[place] = value
            if place == Property.PMRCTL:
                function.persistent.controlled()

    def property_read(self, event: tuple[int, ...]) -> None:
        """A read of a property was requested."""
        _, _, owner, length, offset, _, tlp, time, _, _ = event
        if len(self._reads) < MOST_READS:
            self._reads[tlp] = (self._run.objects[owner], offset, length, time)

    def property_value(self, event: tuple[int, ...]) -> None:
        """A read of a property was answered."""
        run = self._run
        _, row, _, length, _, _, request, time, _, status = event
        read = self._reads.pop(request, None)
        if read is None:
            return
        function, offset, size, since = read
        data = run.bytes_of(event) if length > 0 and status == 0 else None
        life = function.controller
        rung = -1
        if offset == Property.CSTS and life.enabled_ps is not None and not life.ready:
            rung = int(life.rung is not None and life.rung < request)
        facts = self._facts(function, offset, data, request)
        completer = int(run.rows["completer_id"][row]) or -1
        completer = run.discovery.renumbered.get((int(run.rows["link"][row]), completer), completer)
        run.output.property(
            life, False, offset, data, size, since, request, time, status, run.first + row, rung, completer, facts
        )
        if data is None or offset % 4:
            return
        for at in range(0, len(data) - 3, 4):
            self._value(function, offset + at, int.from_bytes(data[at : at + 4], "little"), time, run.first + row)

    def _facts(self, function: Function, offset: int, data: bytes | None, request: int) -> tuple[int, int, int]:
        """Return (what was read before the host wrote there, is that known, VF whose reset took readiness away)."""
        before, known, reset_of = 0, 0, -1
        if data is None:
            return before, known, reset_of
        value = int.from_bytes(data[:8], "little")
        if offset in CONSTANTS and len(data) == CONSTANTS[offset] and value != (1 << 8 * len(data)) - 1:
            held = function.constants.setdefault(offset, [value, 0])
            before, known = held[0], held[1]
        if offset == Property.CSTS and len(data) >= 4:
            if value & 1:
                function.ready_tlp = request
            elif not value & 2 and function.controller.enabled and function.ready_tlp >= 0 and self._resets:
                since = [one for one in self._resets if one[0] > function.ready_tlp]
                virtual = len(since) == 1 and since[0][2] == FLR and since[0][1].facts.is_virtual
                if virtual and since[0][1] is not function and since[0][1].link == function.link:
                    reset_of = since[0][1].bdf
        return before, known, reset_of

    def _value(self, function: Function, place: int, value: int, time: int, tlp: int) -> None:
        controller = function.controller
        if value == 0xFFFFFFFF and place in (Property.CSTS, Property.CC):
            return
        if place == Property.CSTS:
            ready = bool(CSTS["RDY"].of(value.to_bytes(4, "little")))
            if controller.ready and not ready and controller.enabled:
                self.reset(function, BEHAVED, time, tlp)
            function.controller.ready = ready
            if not ready and function.controller.enabled is False and function.not_ready_ps < 0:
                function.not_ready_ps = time
            cc = function.dword(Property.CC)
            if not ready and function.controller.enabled is False and cc is not None and not cc & 1:
                self._run.quiet.begin(function, time, tlp)
            if ready:
                function.alive = (time, tlp)
            life = function.controller
            # while a reset is under way CSTS may still tell of the shutdown before it
            if value >> 2 & 3 == SHUTDOWN_COMPLETE and life.shut_down is None and life.enabled is not False:
                life.shut_down = tlp
        elif place == Property.CC and not value & 1 and controller.enabled:
            function.registers[place] = value
            self.reset(function, BEHAVED, time, tlp)
        function.registers[place] = value
        if place in (Property.CMBSZ, Property.CMBLOC):
            self._memory_buffer(function, time)
        if place == Property.PMRCAP:
            self._persistent_memory(function, value)
        if place == Property.PMRSTS:
            function.persistent.told(value)
        if place == Property.CAP + 4:
            function.learn_capabilities()
        if controller.enabled is None and place in (Property.CC, *_SETUP):
            cc = function.dword(Property.CC)
            if cc is not None and cc & 1:
                controller.configure(cc)
                if not controller.sqs and not controller.cqs:
                    self._admin_queues(controller, time, tlp, late=True)

    def _memory_buffer(self, function: Function, time: int) -> None:
        """Lay the controller memory buffer into the space of the link, once its place is known (3.1.4.11, 3.1.4.12)."""
        size, where = function.dword(Property.CMBSZ), function.dword(Property.CMBLOC)
        space = self._run.discovery.config.spaces.get((function.link, function.bdf))
        if function.memory.bar is not None or not size or where is None or space is None or where & 7 > 5:
            return
        base, memory = space.bars[where & 7].base, function.memory
        if base is not None and memory.size:
            memory.bar = base + (where >> 12) * unit_bytes(size)
            self._run.lay_cmb(function, memory.bar, memory.size, time)

    def _persistent_memory(self, function: Function, capabilities: int) -> None:
        """Lay the persistent memory region, which is a whole BAR (3.1.4.21)."""
        space = self._run.discovery.config.spaces.get((function.link, function.bdf))
        number = capabilities >> 5 & 7
        if function.pmr_laid or space is None or number > 5:
            return
        bar = space.bars[number]
        if bar.base is not None and bar.size:
            function.pmr_laid = True
            self._run.lay_pmr(function, bar.base, bar.size)

    def unanswered(self) -> None:
        """Write the reads that were never answered."""
        for tlp, (function, offset, size, since) in sorted(self._reads.items()):
            self._run.output.property(function.controller, False, offset, None, size, since, tlp)
        self._reads.clear()

    def _cc(self, function: Function, value: int, time: int, tlp: int) -> None:
        controller = function.controller
        enabling = bool(CC["EN"].of(value.to_bytes(4, "little")))
        if not enabling:
            if controller.enabled or controller.sqs or controller.cqs:
                self.reset(function, CC_CLEARED, time, tlp)
            function.controller.enabled = False
            return
        if controller.enabled and controller.rewritten is not None:
            when, by = controller.rewritten
            self.reset(function, BEHAVED, when, by)
            controller = function.controller
        if controller.enabled:
            page = controller.page
            controller.configure(value)
            if controller.enabled_ps is not None:
                controller.page = page  # that was settled when it was enabled
            return
        if controller.enabled is None and (controller.sqs or controller.cqs):
            self.reset(function, BEHAVED, time, tlp)  # it ran before the capture, and starts from scratch here
            controller = function.controller
        self._run.quiet.end(function, time, tlp)
        controller.enabled, controller.enabled_ps, controller.enabled_tlp = True, time, tlp
        function.not_ready_ps = -1
        controller.first_tlp = tlp
        controller.configure(value)
        if controller.page > _largest_page(function):
            controller.undecoded = True  # which size it took instead is its secret
        controller.shutting_down = False  # SHN of the write that enables is what an earlier shutdown left there
        controller.acre = False
        self._run.walk.watch[function.space] = 0
        self._admin_queues(controller, time, tlp)

    def _admin_queues(self, controller: Controller, time: int, tlp: int, late: bool = False) -> None:
        function = controller.function
        found = function.admin_queues()
        if found is None:
            self._run.walk.watch[function.space] = 1
            return
        asq, sq_slots, acq, cq_slots = found
        holds, withholds = function.memory.holds, function.memory.withholds
        controller.misplaced = bool(function.memory.size) and (withholds(asq) or withholds(acq))
        sure = (spool.SEEN, 1.0) if function.facts.stride_known else (spool.INFERRED, STRIDE_ASSUMED)
        cq = CompletionQueue(controller, 0, acq, cq_slots, 16, "admin", *sure, in_cmb=holds(acq))
        sq = SubmissionQueue(controller, 0, asq, sq_slots, 64, "admin", *sure, in_cmb=holds(asq))
        if late:
            sq.tail, cq.head = None, None
        controller.whole = not late and function.facts.stride_known
        self._run.queues.add(cq, time, tlp)
        self._run.queues.add(sq, time, tlp)

    # -- resets -----------------------------------------------------------------------------------------------

    def reset(self, function: Function, why: str, time: int, tlp: int) -> None:
        """End a life: its queues and the commands in them are gone.

        One that only shows in behaviour came at some time after the last sign of life, and is dated to that; or to the
        reset of another function since, which may be its primary controller and take it offline (8.2.6.3).
        """
        run, controller = self._run, function.controller
        if why != BEHAVED:
            self._resets.append((tlp, function, why, time))
        run.quiet.end(function, time, tlp)
        function.persistent.reset(why in (FLR, NSSR))
        ended = self._behaved(function, function.alive) if why == BEHAVED and function.alive else (time, tlp)
        function.alive = None
        lived = bool(controller.enabled or controller.sqs or controller.cqs)
        for cq in list(controller.cqs.values()):
            run.queues.end(cq, time, tlp, "reset", spool.RESET)
        for sq in list(controller.sqs.values()):
            run.queues.end(sq, time, tlp, "reset", spool.RESET)
        for handle in controller.laid:
            run.map.remove(handle)
        controller.laid.clear()
        for region in controller.borrowed:
            region.to_ps = time if region.to_ps is None else region.to_ps
        run.map.remove(controller.host_memory)
        controller.host_memory = -1
        run.interrupts.drop(function, time, "reset")
        if lived:
            function.ended.append((controller, ended[0], why, ended[1]))
            run.migration.reset(controller, time, tlp)
            # what took readiness away may have left CC.EN as it was
            kept = why == BEHAVED and bool((function.dword(Property.CC) or 0) & 1)
            function.controller = Controller(function, controller.epoch + 1, enabled=None if kept else False)
            if kept:
                function.registers.pop(Property.CC, None)
        if why in (FLR, NSSR):
            function.vectors.reset()
            memory = (Property.CMBMSC, Property.CMBMSC + 4) if why == NSSR else ()
            queues = range(Property.AQA, Property.ACQ + 8, 4)
            for offset in (Property.CC, *queues, *range(Property.PMRCTL, Property.PMRMSCU + 4, 4), *memory):
                function.registers.pop(offset, None)

    def _behaved(self, function: Function, alive: tuple[int, int]) -> tuple[int, int]:
        """Return (when, TLP) of a reset that nothing showed, of a function that was last alive at ``alive``."""
        for tlp, other, _, time in self._resets:
            primary = other.link == function.link and other is not function and not other.facts.is_virtual
            if tlp > alive[1] and primary and function.facts.is_virtual is not False:
                return time, tlp
        return alive

    # -- configuration ----------------------------------------------------------------------------------------

    def config_write(self, event: tuple[int, ...]) -> None:
        """A configuration write that may reset a function or change its interrupts."""
        run = self._run
        row, target, offset, enables = event[1], event[2], event[4], event[9]
        tlp, time = run.first + row, event[7]
        link = int(run.rows["link"][row])
        space = run.discovery.config.spaces.get((link, target))
        if space is None:
            return
        data = run.bytes_of(event)[:4].ljust(4, b"\0")
        value = int.from_bytes(data, "little")
        sriov = space.sriov
        if sriov is not None and offset in (sriov.place + 8, sriov.place + 0x10):
            self._virtual(link, target, offset - sriov.place == 8, value, enables, time, tlp)
        if sriov is not None and offset == sriov.place + 8 and enables & 1 and not value & 1:
            for one in run.functions:
                if one.link == link and one.facts.primary == target:
                    self.reset(one, FLR, time, tlp)
        function = run.function_of(link, target)
        if function is None:
            return
        vectors = function.vectors
        if offset == BAR0 and value == SIZING and (vectors.enabled or vectors.msi_enabled):
            # A host that looks for BARs anew found the device reset with its link, which no packet shows.
            vectors.enabled, vectors.enabled_ps, vectors.function_mask = None, time, False
            vectors.msi.clear()
        express = space.find(PCI_EXPRESS)
        if express is not None and offset == express + 8 and enables & 2 and value >> 15 & 1:
            self.reset(function, FLR, time, tlp)
            self._virtuals.pop((link, target), None)
        msix = space.find(MSIX)
        if msix is not None and offset == msix and enables & 8:
            self._msix_control(function, value, time, tlp)
        msi = space.find(MSI)
        if msi is not None and 0 <= offset - msi < 0x18:
            mask = sum(0xFF << 8 * byte for byte in range(4) if enables >> byte & 1)
            fixed = space.value(msi, 4) if offset == msi else None
            if fixed is not None:
                mask &= WRITABLE[MSI]
                value, mask = value & mask | fixed & ~WRITABLE[MSI], mask | 0xFFFFFFFF & ~WRITABLE[MSI]
            run.interrupts.msi_write(function, offset - msi, value, mask, time)
        if offset in (msi, msix) and enables & (4 if offset == msi else 8):
            self._mode(function, time, tlp)

    def _virtual(self, link: int, target: int, control: bool, value: int, enables: int, time: int, tlp: int) -> None:
        """The host wrote SR-IOV Control, or NumVFs (9.3.3.3, 9.3.3.7)."""
        if enables & 3 == 0:
            return
        run = self._run
        state = self._virtuals.setdefault((link, target), {})
        before = state.get("enabled")
        if control and enables & 1:
            state["enabled"], state["memory"] = value & 1, value >> 3 & 1
            for one in run.functions:
                if one.link == link and one.facts.primary == target:
                    one.memory_space = bool(value >> 3 & 1)
        elif not control:
            state["vfs"] = value & 0xFFFF
        sriov = run.discovery.config.spaces[link, target]
        place = sriov.sriov.place if sriov.sriov is not None else 0
        known = {name: None if name not in state else bool(state[name]) for name in ("enabled", "memory")}
        run.store.writer("sriov_writes").add({
            "capture": run.capture.name, "link": run.output.links[link], "function": target,
            "field": "control" if control else "NumVFs", "enabled_before": None if before is None else bool(before),
            **known, "vfs": state.get("vfs"), "vfs_written": "vfs" in state,
            "total_vfs": sriov.value(place + 0x0E, 2), "time_ps": time, "tlp_id": tlp,
        })  # fmt: skip

    def _msix_control(self, function: Function, value: int, time: int, tlp: int) -> None:
        """The host wrote Message Control of MSI-X (7.7.2.2)."""
        vectors, interrupts = function.vectors, self._run.interrupts
        enabled, masked = bool(value >> 31 & 1), bool(value >> 30 & 1)
        if enabled != vectors.enabled:
            vectors.enabled, vectors.enabled_ps = enabled, time
            interrupts.pins.mode(function, time)
        opened = vectors.function_mask and not masked
        if masked and not vectors.function_mask:
            vectors.function_masked_ps = time
        vectors.function_mask = masked
        if opened or enabled:
            vectors.opened_ps = time
        if opened:
            interrupts.opened(function, list(vectors.waiting), time, tlp)
        for vector in list(vectors.waiting):
            interrupts.announcements.changed(vectors, vector, time)

    def _mode(self, function: Function, time: int, tlp: int) -> None:
        """Note by what a function sends its interrupts behind a write."""
        run, vectors = self._run, function.vectors
        run.store.writer("interrupt_modes").add({
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "msi": vectors.msi_enabled if 0 in vectors.msi else None,
            "msix": vectors.enabled, "time_ps": time, "tlp_id": tlp,
        })  # fmt: skip
