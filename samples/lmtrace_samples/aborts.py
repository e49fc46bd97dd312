"""Abort, Cancel and Keep Alive of a controller (NVMe Base 2.1, 5.1.1, 5.1.14 and 7.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lmtrace.spec.nvme import ABORT_REQUESTED, INVALID_FIELD, Admin, Feature, Nvm, Status
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import US, Steps

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Handler, Result

SLOW_BLOCK, SLOW = 256, 100 * US
"""The first block that takes long, and how long."""
INVALID_COMMAND_ID = Status(1, 0x84)
NOT_ABORTED = (1, 0)


class Aborts:
    """What one controller does about commands on their way; reasons to refuse have names, as elsewhere."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()
        self.timeout = 0
        """The Keep Alive Timeout in ms."""

    def offer(self) -> None:
        """Let the controller do all this, and have blocks that take long."""
        admin, nvm = self.controller.admin, self.controller.nvm
        self.controller.administration.fields["KAS"] = 1
        self.controller.tells_doorbells = True
        others = admin[Admin.SET_FEATURES]

        def set_features(command: Command) -> Result | Steps[Result]:
            if command.bits(10, 7, 0) != Feature.KEEP_ALIVE_TIMER:
                return others(command)
            self.timeout = command.cdw[11]
            return None

        admin |= {Admin.SET_FEATURES: set_features, Admin.ABORT: self.abort, Admin.KEEP_ALIVE: self.keep_alive}
        for opcode in (Nvm.READ, Nvm.WRITE_ZEROES):
            nvm[opcode] = self._slowly(nvm[opcode])
        nvm[Nvm.CANCEL] = self.cancel

    def check(self, reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def _slowly(self, handler: Handler) -> Callable[[Command], Steps[Result]]:
        def run(command: Command) -> Steps[Result]:
            if command.cdw[10] >= SLOW_BLOCK:
                yield SLOW
            made = handler(command)
            return made if made is None or isinstance(made, tuple) else (yield from made)

        return run

    def abort(self, command: Command) -> Steps[Result]:
        """Abort a command that is on its way, at once or not at all."""
        yield from self.begin()
        sqid, cid = command.bits(10, 15, 0), command.bits(10, 31, 16)
        if sqid == 0:
            request = next((one for one in self.controller.requests if one.cid == cid), None)
            if request is not None:
                self.controller.requests.remove(request)
                self.controller.spawn(self._end(request))
                return (0, 0)
        return (0, 0) if self._stop(sqid, cid) else self.unknown()

    def begin(self) -> Steps[None]:
        """Hook: an Abort takes its time and is taken."""
        yield 5 * US

    def unknown(self) -> tuple[int, int]:
        """Hook: an Abort of a command that is not here aborts nothing."""
        return NOT_ABORTED

    def cancel(self, command: Command) -> Steps[Result]:
        """Cancel one command of the queue that this one is in."""
        sqid, cid = command.bits(10, 15, 0), command.bits(10, 31, 16)
        self.check("other-queue", sqid != command.queue.qid)
        self.check("itself", cid == command.cid, INVALID_COMMAND_ID)
        yield 1 * US
        return (int(cid != command.cid and self._stop(sqid, cid)), 0)

    def _stop(self, sqid: int, cid: int) -> bool:
        """Stop an I/O command that waits for slow blocks; whether there was one."""
        queue = self.controller.sqs.get(sqid)
        target = next((one for one in queue.running if one.cid == cid), None) if queue and sqid else None
        if target is None or target.cdw[10] < SLOW_BLOCK:
            return False
        self.controller.stop(target)
        self.controller.spawn(self._end(target))
        return True

    def _end(self, target: Command) -> Steps[None]:
        yield 1 * US
        yield from self.afterwards(target)
        yield from self.controller.complete(target, self.status(target), (0, 0))

    def afterwards(self, target: Command) -> Steps[None]:
        """Hook: a command that was aborted does nothing more."""
        yield 1 * US

    def status(self, target: Command) -> Status:
        """Hook: a command that was aborted says so."""
        return ABORT_REQUESTED

    def keep_alive(self, command: Command) -> Result:
        """Hook: a Keep Alive starts the timer anew."""
        return None
