"""The interrupt pin, as its messages assert and deassert it (PCIe transport 1.2, 3.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Function
    from lmtrace_decoders.nvme.reconstruct import Reconstruction


class Pins:
    """Follows each time that a function asserts its pin."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    def told(self, function: Function, asserted: bool, time: int, tlp: int) -> None:
        """The function asserted its pin, or deasserted it."""
        vectors = function.vectors
        if vectors.pin is not None:
            self.end(function, time, "asserted again" if asserted else "deasserted")
        if asserted:
            msix = time - vectors.enabled_ps if vectors.enabled and vectors.enabled_ps >= 0 else -1
            msi = time - vectors.msi_ps if vectors.msi_enabled and vectors.msi_ps >= 0 else -1
            vectors.pin = (time, tlp, msix, msi)

    def mode(self, function: Function, time: int) -> None:
        """The host enabled or disabled messages; while they are enabled, the pin tells nothing."""
        if function.vectors.enabled or function.vectors.msi_enabled:
            self.end(function, time, "enabled messages")

    def end(self, function: Function, time: int, why: str | None) -> None:
        """An assertion, if one is in force, ends here: by ``why``, or with the capture."""
        run, pin = self._run, function.vectors.pin
        if pin is None:
            return
        function.vectors.pin = None
        start, tlp, msix, msi = pin
        # functions of one device may share a pin, whose messages then name any of them
        device = [one for one in run.functions if one.link == function.link and one.bdf >> 3 == function.bdf >> 3]
        idle = -1
        if len(device) == 1 and why in ("deasserted", None):
            idle = run.interrupts.announcements.left(function.controller, None, time)[1]
        run.store.writer("pins").add({
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "time_ps": start, "tlp_id": tlp, "end_ps": time, "ended_by": why,
            "is_virtual": function.facts.is_virtual, "msix_on_ps": msix if msix >= 0 else None,
            "msi_on_ps": msi if msi >= 0 else None, "idle_ps": min(idle, time - start) if idle >= 0 else None,
            "learnt": function.facts.learnt,
        })  # fmt: skip
