"""What Identify data tell about the controllers of a subsystem: which exist, which are secondary, and their limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import Identify
from lmtrace.spec.nvme import INVALID_FIELD, Cns

LIST_SIZE, SECONDARY_SIZE = 4096, 32
MOST_SECONDARIES = 127


@dataclass(slots=True)
class ControllerLists:
    """The controller lists read so far, and what they say together.

    A controller that is not in the Controller List of the subsystem may still be a secondary one that was not there
    yet, so that both lists are needed to say that a CNTLID names none (5.1.13.2.14, 5.1.13.2.16).
    """

    listed: set[int] = field(default_factory=set)
    secondaries: set[int] = field(default_factory=set)
    whole: bool = False
    """A Controller List was seen from CNTLID 0 to its end."""
    secondaries_whole: bool = False
    """A Secondary Controller List was seen whole, or a primary controller has none to tell."""

    def note(self, command: Identify, primary: bool) -> None:
        """Take note of an Identify command that completed; ``primary`` says that no secondary controller took it."""
        if command.cns == Cns.SECONDARY_CONTROLLERS and command.status == INVALID_FIELD:
            self.secondaries_whole |= primary
        if not command.succeeded or command.data is None:
            return
        first = int.from_bytes(command.sqe[42:44], "little")
        if command.cns == Cns.CONTROLLER_LIST:
            self._controllers(command, first)
        elif command.cns == Cns.SECONDARY_CONTROLLERS:
            self._secondaries(command, first)

    def everyone(self) -> frozenset[int] | None:
        """Return the CNTLIDs of the subsystem, or None while a controller may exist that no list showed."""
        return frozenset(self.listed | self.secondaries) if self.whole and self.secondaries_whole else None

    def _controllers(self, command: Identify, first: int) -> None:
        ids = _numbers(command, 2, 0, 1)
        if ids is None or ids[0] > LIST_SIZE // 2 - 1:
            return
        found = _numbers(command, 2, 1, ids[0])
        if found is None:
            return
        self.listed.update(found)
        self.whole |= first == 0 and ids[0] < LIST_SIZE // 2 - 1

    def _secondaries(self, command: Identify, first: int) -> None:
        assert command.data is not None
        count = command.data.bytes(0, 1)
        if count is None or count[0] > MOST_SECONDARIES:
            return
        for entry in range(1, count[0] + 1):
            cntlid = command.data.bytes(SECONDARY_SIZE * entry, SECONDARY_SIZE * entry + 2)
            if cntlid is None:
                return
            self.secondaries.add(int.from_bytes(cntlid, "little"))
        self.secondaries_whole |= first == 0 and count[0] < MOST_SECONDARIES


def entry_format(command: Identify) -> int | None:
    """Return LBAMQF of I/O command set specific data of the NVM Command Set (NVM Command Set 1.2, Figure 120)."""
    if command.cns != Cns.IO_CONTROLLER or command.sqe[47] or not command.succeeded or command.data is None:
        return None
    raw = command.data.bytes(24, 25)
    return None if raw is None else raw[0]


def _numbers(command: Identify, size: int, first: int, count: int) -> list[int] | None:
    """Return ``count`` little-endian numbers of ``size`` bytes from the ``first``-th on; None if one was not seen."""
    assert command.data is not None
    raw = command.data.bytes(size * first, size * (first + count))
    if raw is None:
        return None
    return [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]
