"""A reservation of a namespace, and the hosts that are registered (NVMe Base 2.1, 8.1.22)."""

from __future__ import annotations

from lmtrace.spec.nvme import INVALID_FIELD, Status
from lmtrace_samples.queues import Refused

RESERVATION_CONFLICT = Status(0, 0x83)
REGISTER, UNREGISTER, REPLACE = range(3)
ACQUIRE, PREEMPT = 0, 1
RELEASE, CLEAR = 0, 1
ONLY_WRITES = (1, 3, 5)
"""Types that keep others from writing only."""
REGISTRANTS, ALL_REGISTRANTS = (3, 4, 5, 6), (5, 6)
"""Types that let every registrant in, and those that every registrant holds."""


class Reservation:
    """The registrants of one namespace, and the reservation."""

    def __init__(self) -> None:
        self.keys: dict[bytes, tuple[int, int]] = {}
        """Key and CNTLID by host."""
        self.holder: bytes | None = None
        self.type = 0
        self.changes = 0

    def excludes(self, host: bytes, writes: bool) -> bool:
        """Whether the reservation stands in the way of a host."""
        if not self.type or host == self.holder or (self.type in ONLY_WRITES and not writes):
            return False
        return self.type not in REGISTRANTS or host not in self.keys

    def _check_key(self, host: bytes, data: bytes) -> None:
        if self.keys.get(host, (None, 0))[0] != int.from_bytes(data[:8], "little"):
            raise Refused(RESERVATION_CONFLICT)

    def register(self, host: bytes, cntlid: int, action: int, data: bytes) -> None:
        """Register a host, take it out, or give it another key."""
        if action > REPLACE:
            raise Refused(INVALID_FIELD)
        if action != REGISTER:
            self._check_key(host, data)
        self.changes += 1
        if action == UNREGISTER:
            del self.keys[host]
            if self.holder == host or (self.type in ALL_REGISTRANTS and not self.keys):
                self.holder, self.type = None, 0
        else:
            self.keys[host] = (int.from_bytes(data[8:], "little"), cntlid)

    def acquire(self, host: bytes, action: int, type: int, data: bytes) -> None:
        """Take the reservation, from another host where the action says so."""
        self._check_key(host, data)
        if action == ACQUIRE and self.type and self.holder != host:
            raise Refused(RESERVATION_CONFLICT)
        if action == PREEMPT:
            gone = int.from_bytes(data[8:], "little")
            self.keys = {one: pair for one, pair in self.keys.items() if pair[0] != gone or one == host}
            self.changes += 1
        self.holder, self.type = host, type

    def release(self, host: bytes, action: int, data: bytes) -> None:
        """Give the reservation back, or clear everything."""
        self._check_key(host, data)
        if action == CLEAR:
            self.keys.clear()
            self.changes += 1
        if action == CLEAR or self.holder == host or self.type in ALL_REGISTRANTS:
            self.holder, self.type = None, 0

    def report(self) -> bytes:
        """Return the Reservation Status data structure."""
        data = self.changes.to_bytes(4, "little") + bytes([self.type]) + len(self.keys).to_bytes(2, "little")
        data = data.ljust(24, b"\0")
        for host, (key, cntlid) in self.keys.items():
            holds = host == self.holder or self.type in ALL_REGISTRANTS
            data += cntlid.to_bytes(2, "little") + bytes([holds]) + bytes(5) + host[:8] + key.to_bytes(8, "little")
        return data


class BlockState:
    """What the controllers of a subsystem have in common that decides how block commands end."""

    def __init__(self) -> None:
        self.forgotten: set[str] = set()
        """Reasons to refuse that a fault made them forget."""
        self.invented: set[str] = set()
        """Reasons for which they refuse what they must not."""
        self.protected: set[int] = set()
        """Namespaces that are write protected."""
        self.protection: dict[int, int] = {}
        """Type of protection information by namespace."""
        self.read_only = False
        self.reservations: dict[int, Reservation] = {}
        self.reserved: type[Reservation] = Reservation
        """What the reservation of a namespace is."""
