"""Zones: a host writes, appends to, opens, closes, finishes and resets zones, and asks for what must be refused."""

from __future__ import annotations

from lmtrace.spec.nvme import INVALID_FIELD, SUCCESS, Admin, Cns, CommandSet, Feature, Nvm, Status
from lmtrace.spec.zones import (
    CHANGED_ZONE_LIST,
    EXTENSION_UNIT,
    INVALID_ZONE_STATE_TRANSITION,
    PARTIAL_REPORT,
    RANDOM_WRITE_AREA,
    SELECT_ALL,
    TOO_MANY_ACTIVE_ZONES,
    TOO_MANY_OPEN_ZONES,
    ZONE_BOUNDARY_ERROR,
    ZONE_INVALID_WRITE,
    ZONE_IS_FULL,
    ZONE_IS_OFFLINE,
    ZONE_IS_READ_ONLY,
    ZoneReceive,
    ZoneSend,
    ZoneState,
)
from lmtrace_samples.driver import HostQueue, Ticket
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World
from lmtrace_samples.zone_commands import INVALID_PROTECTION, LARGEST_APPEND, ZONE_NOTICES
from lmtrace_samples.zoned import ACTIVE_ZONES, AREA, BLOCK, CAPACITY, OPEN_ZONES, UNITS, ZONE_SIZE, ZonedNamespace

ZONED, PROTECTED = 1, 2
EVERY_COMMAND_SET = 0b110
"""CC.CSS."""
RESERVED_ACTION = 0x42
MADE_BY_CONTROLLER = 1 << 29
"""PRACT: the controller makes the protection information."""
ALL_ZONES = 4096
"""Bytes of a buffer that takes a report of every zone."""


class Zoning:
    """A host of zoned namespaces."""

    def __init__(self, world: World, queue: HostQueue, namespace: ZonedNamespace) -> None:
        self.world, self.queue, self.namespace = world, queue, namespace
        self.driver, self.rng = queue.driver, world.rng

    def io(self, opcode: int, first: int, count: int, nsid: int | None = None, flags: int = 0) -> Steps[Ticket]:
        """Send a command that moves blocks; what is written is random."""
        buffer = self.driver.buffer(count * BLOCK)
        buffer.write(self.rng.randbytes(count * BLOCK))
        words = {10: first & 0xFFFFFFFF, 11: first >> 32, 12: flags | count - 1}
        nsid = self.namespace.nsid if nsid is None else nsid
        return (yield from self.queue.send(opcode, nsid, buffer.prps(count * BLOCK), words))

    def do(
        self, opcode: int, first: int, count: int, expect: Status | None = SUCCESS, nsid: int | None = None,
        flags: int = 0,
    ) -> Steps[Ticket]:  # fmt: skip
        """Send such a command and wait for it."""
        ticket = yield from self.io(opcode, first, count, nsid, flags)
        return (yield from self.ends(ticket, expect, f"{opcode:02X}h of {count} blocks at {first}"))

    def ends(self, ticket: Ticket, expect: Status | None, what: str) -> Steps[Ticket]:
        """Wait for a command, and note where it did not end as it should."""
        yield from ticket.wait()
        if expect is not None and ticket.status != expect:
            self.world.record.surprises.append(f"{what} ended {ticket.status}, not {expect}")
        return ticket

    def act(
        self, action: int, zone: int, expect: Status | None = SUCCESS, flags: int = 0, data: bytes = b"",
        offset: int = 0,
    ) -> Steps[Ticket]:  # fmt: skip
        """Do an action on a zone."""
        prps, first = (0, 0), zone * ZONE_SIZE + offset
        if data:
            buffer = self.driver.buffer(len(data))
            buffer.write(data)
            prps = buffer.prps(len(data))
        words = {10: first, 13: flags | action}
        ticket = yield from self.queue.send(Nvm.ZONE_MANAGEMENT_SEND, self.namespace.nsid, prps, words)
        return (yield from self.ends(ticket, expect, f"action {action} on zone {zone}"))

    def all(self, action: int) -> Steps[None]:
        """Do an action on all zones; SLBA means nothing then."""
        yield from self.act(action, 1 << 20, flags=SELECT_ALL, offset=3)

    def report(
        self, zone: int = 0, size: int = ALL_ZONES, action: int = ZoneReceive.REPORT, flags: int = 0,
        expect: Status | None = SUCCESS,
    ) -> Steps[None]:  # fmt: skip
        """Read a zone report."""
        buffer = self.driver.buffer(size)
        words = {10: zone * ZONE_SIZE, 12: size // 4 - 1, 13: flags | action}
        ticket = yield from self.queue.send(Nvm.ZONE_MANAGEMENT_RECEIVE, self.namespace.nsid, buffer.prps(size), words)
        yield from self.ends(ticket, expect, f"report {action} of zone {zone}")


@plot("zones", controllers=1, random=False)
def zones(world: World) -> Steps[None]:
    """A host fills, opens, closes, finishes, resets and reports zones, and asks for what must be refused."""
    side = world.sides[0]
    controller, driver = side.manager, side.drivers[0]
    controller.zones.offer()
    namespace = ZonedNamespace(ZONED)
    side.subsystem.attach(namespace, controller)
    side.subsystem.attach(ZonedNamespace(PROTECTED, 8, 1), controller)
    driver.command_sets = EVERY_COMMAND_SET
    yield from side.start()
    yield from driver.enable()
    yield from driver.introduce(None)
    yield from driver.identify(Cns.ACTIVE_NAMESPACES)
    yield from driver.identify(Cns.IO_CONTROLLER, 0, CommandSet.ZONED << 24)
    for nsid in (ZONED, PROTECTED):
        yield from driver.identify(Cns.NAMESPACE_DESCRIPTORS, nsid)
        yield from driver.identify(Cns.NAMESPACE, nsid)
        yield from driver.identify(Cns.IO_NAMESPACE, nsid, CommandSet.ZONED << 24)
    yield from driver.command(
        Admin.SET_FEATURES, cdw={10: Feature.ASYNC_EVENT_CONFIGURATION, 11: ZONE_NOTICES}
    )  # fmt: skip
    queue = yield from driver.create_queue(1, 16, 1)
    host = Zoning(world, queue, namespace)
    yield from _reports(host)
    yield from _writes(host)
    yield from _appends(host)
    yield from _resources(host)
    yield from _actions(host)
    yield from _everything(host)
    yield from _extensions(host)
    yield from _areas(host)
    yield from _losses(host)
    yield from host.report()
    yield 50 * US
    yield from driver.delete_queue(queue)
    yield from driver.disable()


def _reports(host: Zoning) -> Steps[None]:
    """Reports of all zones, of some, in part, and of a kind that there is not."""
    yield from host.report()
    yield from host.report(3, 64 + 4 * 64, flags=PARTIAL_REPORT)
    yield from host.report(3, 64 + 4 * 64)
    yield from host.report(12, flags=PARTIAL_REPORT)
    yield from host.report(action=ZoneReceive.EXTENDED_REPORT)
    yield from host.report(action=RESERVED_ACTION, expect=INVALID_FIELD)


def _writes(host: Zoning) -> Steps[None]:
    """Write at the write pointer and elsewhere, up to the end of a zone and beyond; read all of it."""
    yield from host.do(Nvm.WRITE, 0, 8)
    yield from host.report()
    yield from host.do(Nvm.WRITE, 8, 4)
    yield from host.do(Nvm.READ, 0, 12)
    yield from host.do(Nvm.READ, 8, 16)
    yield from host.do(Nvm.WRITE, 16, 4, ZONE_INVALID_WRITE)
    yield from host.do(Nvm.WRITE, 12, CAPACITY - 16)
    yield from host.report(0, 128, flags=PARTIAL_REPORT)
    yield from host.do(Nvm.WRITE, CAPACITY - 4, 8, ZONE_BOUNDARY_ERROR)
    yield from host.do(Nvm.WRITE, CAPACITY - 4, 4)
    yield from host.report()
    yield from host.do(Nvm.WRITE, 0, 4, ZONE_IS_FULL)
    yield from host.do(Nvm.READ, 16, CAPACITY - 16)
    yield from host.do(Nvm.READ, ZONE_SIZE - 4, 8, ZONE_BOUNDARY_ERROR)
    yield from host.do(Nvm.READ, ZONE_SIZE, 8)


def _appends(host: Zoning) -> Steps[None]:
    """Append alone and together, too much at once, and beyond the end of the zone."""
    first = ZONE_SIZE
    yield from host.do(Nvm.ZONE_APPEND, first, 4)
    yield from host.do(Nvm.ZONE_APPEND, first, 2)
    for _ in range(2):
        tickets = []
        for count in (1, 2, 3, 4):
            tickets.append((yield from host.io(Nvm.ZONE_APPEND, first, count)))
        for ticket in tickets:
            yield from host.ends(ticket, SUCCESS, "an append")
    yield from host.report()
    yield from host.do(Nvm.READ, first, 26)
    yield from host.do(Nvm.ZONE_APPEND, 12 * ZONE_SIZE, LARGEST_APPEND // BLOCK + 1, INVALID_FIELD)
    yield from host.do(Nvm.ZONE_APPEND, first, 8)
    yield from host.do(Nvm.ZONE_APPEND, first, 8)
    yield from host.do(Nvm.ZONE_APPEND, first, 7, ZONE_BOUNDARY_ERROR)
    if host.world.provokes("append-start"):
        yield from host.do(Nvm.ZONE_APPEND, first + 8, 4, INVALID_FIELD)
    yield from host.do(Nvm.ZONE_APPEND, 0, 4, INVALID_PROTECTION, PROTECTED, MADE_BY_CONTROLLER)
    yield from host.report(1, 128, flags=PARTIAL_REPORT)


def _resources(host: Zoning) -> Steps[None]:
    """Open zones until no more may be, and make them active until no more may be."""
    for zone in range(2, 2 + OPEN_ZONES):
        yield from host.act(ZoneSend.OPEN, zone)
        yield from host.do(Nvm.WRITE, zone * ZONE_SIZE, 2)
    yield from host.report()
    yield from host.act(ZoneSend.OPEN, 5, TOO_MANY_OPEN_ZONES)
    yield from host.do(Nvm.WRITE, 5 * ZONE_SIZE, 2, TOO_MANY_OPEN_ZONES)
    yield from host.act(ZoneSend.CLOSE, 2)
    yield from host.report()
    yield from host.act(ZoneSend.OPEN, 5)
    yield from host.do(Nvm.WRITE, 5 * ZONE_SIZE, 2)
    yield from host.act(ZoneSend.CLOSE, 3)
    yield from host.do(Nvm.WRITE, 6 * ZONE_SIZE, 2, TOO_MANY_ACTIVE_ZONES)
    yield from host.act(ZoneSend.OPEN, 6, TOO_MANY_ACTIVE_ZONES)
    yield from host.report()
    yield from host.act(ZoneSend.CLOSE, 4)
    yield from host.act(ZoneSend.CLOSE, 5)
    for zone in (2, 3, 4, 5):
        yield from host.do(Nvm.WRITE, zone * ZONE_SIZE + 2, 2)
    yield from host.report()
    assert ACTIVE_ZONES == 5


def _actions(host: Zoning) -> Steps[None]:
    """Every action in states in which it is done, and in which it is refused; an empty zone is read."""
    yield from host.act(ZoneSend.FINISH, 2)
    yield from host.report(2, 128, flags=PARTIAL_REPORT)
    yield from host.act(ZoneSend.OPEN, 2, INVALID_ZONE_STATE_TRANSITION)
    yield from host.act(ZoneSend.CLOSE, 2, INVALID_ZONE_STATE_TRANSITION)
    yield from host.act(ZoneSend.FINISH, 2)
    yield from host.act(ZoneSend.OFFLINE, 3, INVALID_ZONE_STATE_TRANSITION)
    yield from host.act(ZoneSend.CLOSE, 8, INVALID_ZONE_STATE_TRANSITION)
    yield from host.do(Nvm.READ, 2 * ZONE_SIZE, 2)
    yield from host.act(ZoneSend.RESET, 2)
    yield from host.report(2, 128, flags=PARTIAL_REPORT)
    yield from host.do(Nvm.READ, 2 * ZONE_SIZE, 4)
    yield from host.act(ZoneSend.FINISH, 2)
    yield from host.act(ZoneSend.RESET, 2)
    yield from host.act(ZoneSend.OPEN, 2)
    yield from host.report(2, 128, flags=PARTIAL_REPORT)
    yield from host.act(ZoneSend.CLOSE, 2)
    yield from host.report(2, 128, flags=PARTIAL_REPORT)
    yield from host.act(ZoneSend.RESET, 4, INVALID_FIELD, offset=5)
    yield from host.act(RESERVED_ACTION, 4, INVALID_FIELD)
    for number, state in enumerate(ZoneState, 1):
        if state not in (ZoneState.READ_ONLY, ZoneState.FULL, ZoneState.OFFLINE):
            yield from host.report(flags=number << 8)
    yield from host.report(flags=5 << 8 | PARTIAL_REPORT)


def _everything(host: Zoning) -> Steps[None]:
    """Actions on all zones, and a report behind each of them."""
    yield from host.act(ZoneSend.OPEN, 3)
    for action in (ZoneSend.CLOSE, ZoneSend.FINISH, ZoneSend.RESET):
        yield from host.all(action)
        yield from host.report()
    yield from host.do(Nvm.WRITE, 0, 2)
    yield from host.do(Nvm.READ, 0, 2)


def _extensions(host: Zoning) -> Steps[None]:
    """Set a descriptor extension, and find it in a report."""
    data = host.rng.randbytes(UNITS * EXTENSION_UNIT)
    yield from host.act(ZoneSend.SET_DESCRIPTOR_EXTENSION, 7, data=data)
    yield from host.report(7, 64 + 128, ZoneReceive.EXTENDED_REPORT, PARTIAL_REPORT)
    yield from host.act(ZoneSend.SET_DESCRIPTOR_EXTENSION, 7, INVALID_ZONE_STATE_TRANSITION, data=data)
    yield from host.do(Nvm.WRITE, 7 * ZONE_SIZE, 4)
    yield from host.report(action=ZoneReceive.EXTENDED_REPORT)


def _areas(host: Zoning) -> Steps[None]:
    """Write into a Zone Random Write Area in any order, behind it, and too far behind it."""
    first = 9 * ZONE_SIZE
    yield from host.act(ZoneSend.OPEN, 9, flags=RANDOM_WRITE_AREA)
    for place, count in ((8, 4), (0, 4), (8, 4), (4, 4)):
        yield from host.do(Nvm.WRITE, first + place, count)
    yield from host.do(Nvm.WRITE, first + 2 * AREA, 4, ZONE_INVALID_WRITE)
    yield from host.do(Nvm.WRITE, first + AREA, 4)
    yield from host.report(9, 128, flags=PARTIAL_REPORT)
    yield from host.do(Nvm.WRITE, first, 4, ZONE_INVALID_WRITE)
    yield from host.act(ZoneSend.FLUSH_RANDOM_WRITE_AREA, 9)
    yield from host.act(ZoneSend.FINISH, 9)
    yield from host.report(9, 128, flags=PARTIAL_REPORT)


def _losses(host: Zoning) -> Steps[None]:
    """The controller loses two zones and tells of it; one of them is taken offline."""
    commands, driver = host.world.sides[0].manager.zones, host.driver
    yield from host.do(Nvm.WRITE, 10 * ZONE_SIZE, 4)
    for zone in (10, 11):
        commands.degrade(host.namespace, host.namespace.zones[zone], ZoneState.READ_ONLY)
        yield 40 * US
        buffer = driver.buffer()
        yield from driver.command(
            Admin.GET_LOG_PAGE, nsid=ZONED, prps=buffer.prps(4096), cdw={10: 1023 << 16 | CHANGED_ZONE_LIST}
        )  # fmt: skip
        yield from host.report()
    yield from host.do(Nvm.WRITE, 10 * ZONE_SIZE + 4, 4, ZONE_IS_READ_ONLY)
    yield from host.do(Nvm.READ, 10 * ZONE_SIZE, 4)
    yield from host.act(ZoneSend.FINISH, 10, INVALID_ZONE_STATE_TRANSITION)
    yield from host.act(ZoneSend.OFFLINE, 10)
    yield from host.report(10, 128, flags=PARTIAL_REPORT)
    yield from host.do(Nvm.WRITE, 10 * ZONE_SIZE, 4, ZONE_IS_OFFLINE)
    yield from host.do(Nvm.READ, 10 * ZONE_SIZE, 4, ZONE_IS_OFFLINE)
    for number in (6, 7):
        yield from host.report(flags=number << 8)
