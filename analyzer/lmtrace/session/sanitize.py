"""Sanitize operations, as far as the commands around them show them (8.1.24)."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import Command, Sanitize
from lmtrace.spec.migration import HMLM_OPCODES
from lmtrace.spec.nvme import SANITIZE_IN_PROGRESS, Admin

STATUS_LOG, RUNNING = 0x81, 2
"""LID of the sanitize status log, and the state in SSTAT of an operation in progress."""
MOST_SERVED = 64


@dataclass(slots=True)
class SanitizeWatch:
    """The latest sanitize operation. Only a later command tells whether it was still in progress at some point."""

    began: int | None = None
    """Order of the Sanitize that began it; None when it is known to be over."""
    served: list[Command] = field(default_factory=list)
    """Live-migration commands that succeeded since it began and were not accounted for."""

    def note(self, command: Command) -> None:
        """Take note of a completed command, after the rules were asked about it."""
        if command.sqid:
            return
        if command.status == SANITIZE_IN_PROGRESS:
            self.served.clear()
        if not command.succeeded:
            return
        if isinstance(command, Sanitize):
            if command.starts:
                self.began = command.order
                self.served.clear()
        elif command.opcode == Admin.GET_LOG_PAGE and command.sqe[40] == STATUS_LOG:
            state = command.data.bytes(2, 3) if command.data is not None else None
            if state is None or state[0] & 7 != RUNNING:
                self.began = None
                self.served.clear()
        elif self._may_run_beside(command) and len(self.served) < MOST_SERVED:
            self.served.append(command)

    def _may_run_beside(self, command: Command) -> bool:
        """Whether it is a live-migration command that was fetched after the operation began."""
        return command.opcode in HMLM_OPCODES and self.began is not None and command.fetched > self.began
