"""The properties of one controller as the host wrote and read them, dword by dword, and what reset them since.

Which of them outlive a Controller Level Reset depends on how it came (NVMe Base 2.1, 3.7.2). A read that returned all
ones found no controller, and one that a write of the host may have overtaken shows the state before or behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lmtrace.events import Command, Event, PropertyAccess, Reset
from lmtrace.spec.nvme import CAP, CC, CSTS, WIDE_PROPERTIES, Admin, Property

_ADMIN_QUEUES = frozenset((
    Property.AQA, Property.ASQ, Property.ASQ + 4, Property.ACQ, Property.ACQ + 4,
))  # fmt: skip
_CONTROLLER_MEMORY = frozenset((Property.CMBMSC, Property.CMBMSC + 4))
_PERSISTENT_MEMORY = frozenset(range(Property.PMRCAP, Property.PMRMSCU + 4, 4))
_CONSTANT = frozenset((Property.CAP, Property.CAP + 4, Property.VS))
MASKS = frozenset((Property.INTMS, Property.INTMC))
"""Properties that may well be all ones."""
LATEST_MAJOR, LATEST_MINOR = 3, 10
"""No version is higher than these."""
MOST_STATUSES = 64


def known_as(event: PropertyAccess) -> tuple[int, int] | None:
    """Return (offset, bytes) of an access of whole dwords; None for any other."""
    offset, size = event.offset, event.size
    if event.property in Property.__members__:
        one = Property[event.property]
        offset = int(one) if offset is None else offset
        size = (8 if one in WIDE_PROPERTIES else 4) if size is None else size
    return None if offset is None or size is None or offset % 4 or size % 4 else (offset, size)


def turned(value: int) -> int:
    """Return a dword with its bytes in the other order."""
    return int.from_bytes(value.to_bytes(4, "little"), "big")


@dataclass(slots=True)
class Seen:
    """A value of one dword that the host wrote or read, and the reset that undid it."""

    value: int
    access: PropertyAccess
    reset: Reset | None = None
    """The first reset behind it that gave the register another value, or may have."""

    @property
    def order(self) -> int:
        """When, as a position in the capture."""
        return self.access.order


@dataclass(slots=True)
class Registers:
    """What is known of the properties of one controller."""

    written: dict[int, Seen] = field(default_factory=dict)
    """The latest write of each dword, by offset."""
    read: dict[int, Seen] = field(default_factory=dict)
    """The latest read of each dword that a controller answered."""
    gone: PropertyAccess | None = None
    """The latest read that returned all ones, until one that does not."""
    enable: PropertyAccess | None = None
    """The write of CC that set EN after it was 0, while it is in force."""
    disable: PropertyAccess | None = None
    """The write of CC that cleared EN after it was 1, until EN is set."""
    shutdown: PropertyAccess | None = None
    """The write of CC that asked for a shutdown, until EN changes or a reset."""
    shut_down_before: bool = False
    """A shutdown was asked for since EN was set, which may go on though nobody asks for it any more."""
    statuses: list[Seen] = field(default_factory=list)
    """Values of CSTS that were read since EN changed or a reset, each where it differs from the one before."""
    unclear: bool = False
    """What a read of CSTS since then returned is not known, or a write may have overtaken it."""
    setup: list[PropertyAccess] = field(default_factory=list)
    """Writes of AQA, ASQ and ACQ since EN was set, unless a reset that shows later came before them."""
    mask: int | None = None
    """Interrupt mask by INTMS and INTMC; None where the capture does not show a reset before it."""
    last_reset: Reset | None = None
    reset_at_work: bool = False
    """CSTS.RDY had been read as 1 when that came."""

    # -- values -----------------------------------------------------------------------------------------------

    def latest(self, place: int) -> Seen | None:
        """Return the value that a dword has: the latest that was written or read and that no reset undid."""
        found = [one for one in (self.written.get(place), self.read.get(place)) if one is not None and not one.reset]
        return max(found, key=lambda one: one.order, default=None)

    def value(self, place: Property) -> int | None:
        """Return the value that a property has, None where not all of it is known."""
        parts = [self.latest(place + step) for step in range(0, 8 if place in WIDE_PROPERTIES else 4, 4)]
        if None in parts:
            return None
        return sum(part.value << 32 * number for number, part in enumerate(parts) if part is not None)

    def constant(self, place: Property) -> int | None:
        """Return what CAP, VS or another property that the host cannot change read as; None where it did not."""
        parts = [self.read.get(place + step) for step in range(0, 8 if place in WIDE_PROPERTIES else 4, 4)]
        if None in parts:
            return None
        return sum(part.value << 32 * number for number, part in enumerate(parts) if part is not None)

    @property
    def enabled(self) -> bool | None:
        """Return CC.EN as it is now, None where the capture does not show it."""
        found = self.latest(Property.CC)
        return None if found is None else bool(found.value & 1)

    # -- what happens -----------------------------------------------------------------------------------------

    def note(self, event: PropertyAccess) -> None:
        """Take note of an access."""
        place = known_as(event)
        if place is None:
            self._part(event)
            return
        offset, size = place
        answered = event.write or event.completion == 0
        if event.value is None or not answered:
            self.unclear |= offset <= Property.CSTS < offset + size and not event.write
            return
        if not event.write and offset not in MASKS:
            if event.value == (1 << 8 * size) - 1:
                self.gone = event
                return
            self.gone = None
        for step in range(0, size, 4):
            seen = Seen(event.value >> 8 * step & 0xFFFF_FFFF, event)
            if event.write:
                self._write(offset + step, seen)
            elif not event.overtaken or offset + step in _CONSTANT:
                self._read(offset + step, seen)
            else:
                self.unclear |= offset + step == Property.CSTS

    def _part(self, event: PropertyAccess) -> None:
        """A write of less than a dword leaves something there that is not known."""
        if not event.write or event.offset is None or event.size is None:
            return
        for place in range(event.offset & ~3, event.offset + event.size, 4):
            self.written.pop(place, None)
            self.read.pop(place, None)
            if place in MASKS:
                self.mask = None
            if place == Property.CC:
                self.enable = self.disable = None
                self._forget()

    def _write(self, place: int, seen: Seen) -> None:
        if place == Property.CC:
            before, now = self.enabled, bool(seen.value & 1)
            if before is not now:
                self.enable = seen.access if now and before is False else None
                self.disable = seen.access if before and not now else None
                self._forget()
            asks = CC["SHN"].of(seen.value.to_bytes(4, "little"))
            self.shut_down_before |= bool(asks)
            if not asks:
                self.shutdown = None
            elif self.shutdown is None and now and before is not False:
                self.shutdown = seen.access  # what the write that enables has in SHN an earlier shutdown left there
        elif place in _ADMIN_QUEUES and self.enabled and len(self.setup) < MOST_STATUSES:
            self.setup.append(seen.access)
        elif place in MASKS and self.mask is not None:
            self.mask = self.mask & ~seen.value if place == Property.INTMC else self.mask | seen.value
        self.written[place] = seen

    def _read(self, place: int, seen: Seen) -> None:
        self.read[place] = seen
        new = not self.statuses or self.statuses[-1].value != seen.value
        if place == Property.CSTS and new and len(self.statuses) < MOST_STATUSES:
            self.statuses.append(seen)

    def _forget(self) -> None:
        self.statuses.clear()
        self.setup.clear()
        self.shutdown, self.unclear, self.shut_down_before = None, False, False

    def reset(self, event: Reset) -> None:
        """Mark what a Controller Level Reset gave another value, or may have."""
        self.last_reset, self.reset_at_work = event, any(status(one, "RDY") for one in self.statuses)
        self.mask = None if event.inferred or event.how == "behaved as reset" else 0
        kept: set[int] = set()
        by_host = event.how == "CC.EN cleared" and not event.inferred
        if by_host:
            kept |= {*_CONSTANT, Property.CC, *_ADMIN_QUEUES, *_CONTROLLER_MEMORY, *_PERSISTENT_MEMORY}
        elif event.how == "FLR" and not event.inferred:
            kept |= {*_CONSTANT, *_CONTROLLER_MEMORY}
        for seen in (self.written, self.read):
            for place, one in seen.items():
                if place not in kept and one.reset is None:
                    one.reset = event
        if not by_host:
            self.enable = self.disable = None
            self._forget()

    def forget_constants(self, event: Event) -> None:
        """Other firmware may be in force after the next reset, so that constants may be others."""
        for place in _CONSTANT & self.read.keys():
            self.read[place].reset = self.read[place].reset or Reset(order=event.order, how="firmware")


@dataclass(slots=True)
class RegisterHistory:
    """The properties of every controller of a link."""

    functions: dict[int, Registers] = field(default_factory=dict)
    bytes_turned: bool = False
    """Reads show the bytes of a dword in the other order, as some recorders have them."""
    bytes_straight: bool = False
    """A read showed that they do not."""

    def of(self, function: int) -> Registers:
        """Return the properties of a function."""
        return self.functions.setdefault(function, Registers())

    def note(self, event: PropertyAccess) -> None:
        """Take note of an access."""
        order = looks_turned(event)
        if order is None and not self.bytes_straight:
            self.bytes_turned |= _capabilities_turned(event)
        self.bytes_turned |= order is True
        self.bytes_straight |= order is False
        self.of(event.function).note(event)

    def committed(self, event: Command) -> None:
        """A command completed: one may have changed the firmware."""
        if event.opcode == Admin.FIRMWARE_COMMIT and event.sqid == 0:
            for one in self.functions.values():
                one.forget_constants(event)

    def doubt(self, functions: Iterable[int | None], order: int, how: str) -> None:
        """Something may have reset or set the properties of some functions."""
        for function in functions:
            if function is not None:
                self.of(function).reset(Reset(order=order, function=function, how=how, inferred=True))

    def reset(self, event: Reset) -> None:
        """A Controller Level Reset; one of the NVM subsystem is one of every controller."""
        for function in list(self.functions) if event.how == "NSSR" else [event.function]:
            self.of(function).reset(event)


def looks_turned(event: PropertyAccess) -> bool | None:
    """Whether a read of a version or a status makes sense only with its bytes in the other order, or only as it is."""
    if event.write or event.value is None or known_as(event) not in ((Property.VS, 4), (Property.CSTS, 4)):
        return None
    value, other = event.value & 0xFFFF_FFFF, turned(event.value & 0xFFFF_FFFF)
    fits = _version if event.property == "VS" else _status
    return None if fits(value) == fits(other) else fits(other)


def _capabilities_turned(event: PropertyAccess) -> bool:
    """Whether a read of the upper half of CAP names a command set only with its bytes in the other order."""
    if event.write or event.value is None or (event.property, event.offset, event.size) != ("CAP", 4, 4):
        return False
    return not _offers(event.value) and _offers(turned(event.value))


def _offers(upper: int) -> bool:
    cap = (upper << 32).to_bytes(8, "little")
    return bool(CAP["CSS"].of(cap)) and CAP["MPSMAX"].of(cap) >= CAP["MPSMIN"].of(cap)


def _version(value: int) -> bool:
    return 1 <= value >> 16 <= LATEST_MAJOR and value >> 8 & 0xFF < LATEST_MINOR


def _status(value: int) -> bool:
    return not value >> 7


def status(seen: Seen, name: str) -> int:
    """Return a field of a value of CSTS."""
    return CSTS[name].of(seen.value.to_bytes(4, "little"))
