"""What every event has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.spec.pcie import OVER_FABRICS, bdf_text


@dataclass(slots=True, kw_only=True)
class Event:
    """Something that happened on one link. ``time`` is in ps, ``order`` the position in the capture.

    ``function`` is that of the controller; over fabrics a number that stands for it, see `lmtrace.spec.pcie.bdf_text`.
    """

    name: ClassVar[str] = "event"
    time: int = 0
    order: int = 0
    function: int = 0x0100
    inferred: bool = False
    """It rests on inference; what follows from it is never an error."""
    transaction_id: int | None = None
    tlp_id: int | None = None

    @property
    def over_fabrics(self) -> bool:
        """Whether it happened at a controller over fabrics, which is no PCIe function and knows no PRPs."""
        return self.function >= OVER_FABRICS

    @property
    def place(self) -> str:
        """The function or controller, for messages."""
        return bdf_text(self.function)
