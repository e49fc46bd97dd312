"""Key Value: a host stores, retrieves, deletes and lists keys, and asks for what must be refused."""

from __future__ import annotations

from lmtrace.spec.nvme import (
    CAPACITY_EXCEEDED,
    INVALID_KEY_SIZE,
    INVALID_OPCODE,
    INVALID_VALUE_SIZE,
    KEY_DOES_NOT_EXIST,
    KEY_EXISTS,
    SUCCESS,
    Admin,
    Cns,
    CommandSet,
    Feature,
    KeyValue,
    Nvm,
    Status,
)
from lmtrace_samples.driver import HostQueue, Ticket
from lmtrace_samples.key_value import (
    LONGEST_KEY,
    LONGEST_VALUE,
    MUST_EXIST,
    MUST_NOT_EXIST,
    KeyValueNamespace,
    key_words,
)
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

NSID = 1
EVERY_COMMAND_SET = 0b110
"""CC.CSS."""
SIZES = (0, 1, 100, 512, 4096, 5000, LONGEST_VALUE)
ALONE, GONE, NEVER, BIG = b"alone", b"gone", b"never", b"big"


class Keys:
    """A host of one Key Value namespace."""

    def __init__(self, world: World, queue: HostQueue, nsid: int = NSID) -> None:
        self.world, self.queue, self.nsid = world, queue, nsid
        self.driver, self.rng = queue.driver, world.rng

    def send(self, opcode: int, key: bytes, size: int = 0, options: int = 0, data: bytes = b"") -> Steps[Ticket]:
        """Send a command about a key, with a buffer of ``size`` bytes."""
        prps = (0, 0)
        if size:
            buffer = self.driver.buffer(size)
            buffer.write(data)
            prps = buffer.prps(size)
        return (yield from self.queue.send(opcode, self.nsid, prps, {10: size, **key_words(key, options)}))

    def do(
        self, opcode: int, key: bytes = b"", size: int = 0, expect: Status | None = SUCCESS, options: int = 0
    ) -> Steps[Ticket]:  # fmt: skip
        """Send a command and wait for it; what is stored is random."""
        data = self.rng.randbytes(size) if opcode == KeyValue.STORE else b""
        ticket = yield from self.send(opcode, key, size, options, data)
        yield from ticket.wait()
        if expect is not None and ticket.status != expect:
            self.world.record.surprises.append(f"{opcode:02X}h of key {key!r} ended {ticket.status}, not {expect}")
        return ticket


@plot("key-value", controllers=1, random=False)
def key_value(world: World) -> Steps[None]:
    """A host stores, retrieves, deletes and lists keys of a Key Value namespace, and asks for what is refused."""
    side = world.sides[0]
    controller, driver = side.manager, side.drivers[0]
    controller.key_value.offer()
    side.subsystem.attach(KeyValueNamespace(NSID), controller)
    driver.command_sets = EVERY_COMMAND_SET
    yield from side.start()
    yield from driver.enable()
    yield from driver.introduce(None)
    yield from driver.identify(Cns.ACTIVE_NAMESPACES)
    yield from driver.identify(Cns.NAMESPACE_DESCRIPTORS, NSID)
    for cns, nsid in ((Cns.IO_CONTROLLER, 0), (Cns.IO_NAMESPACE, NSID)):
        yield from driver.identify(cns, nsid, CommandSet.KEY_VALUE << 24)
    queue = yield from driver.create_queue(1, 16, 1)
    host = Keys(world, queue)
    yield from host.do(KeyValue.STORE, ALONE, 300)
    yield from driver.command(Admin.FORMAT_NVM, nsid=NSID)
    yield from driver.identify(Cns.IO_NAMESPACE, NSID, CommandSet.KEY_VALUE << 24)
    yield from host.do(KeyValue.RETRIEVE, ALONE, PAGE, KEY_DOES_NOT_EXIST)
    yield from host.do(KeyValue.EXIST, NEVER, expect=KEY_DOES_NOT_EXIST)
    yield from _values(host)
    yield from _deletes(host)
    yield from _options(host)
    yield from _sizes(host)
    yield from _together(host)
    yield from _full(host)
    yield from _lists(host)
    yield from host.queue.send(Nvm.FLUSH, NSID)
    yield 50 * US
    yield from driver.delete_queue(queue)
    yield from driver.disable()


def _values(host: Keys) -> Steps[None]:
    """Values of all sizes, read whole and in part, and replaced."""
    for number, size in enumerate(SIZES):
        key = b"k%d" % number
        yield from host.do(KeyValue.STORE, key, size)
        yield from host.do(KeyValue.EXIST, key)
        yield from host.do(KeyValue.RETRIEVE, key, LONGEST_VALUE)
        if size > 64:
            yield from host.do(KeyValue.RETRIEVE, key, 64)
    yield from host.do(KeyValue.STORE, b"k2", 200)
    yield from host.do(KeyValue.RETRIEVE, b"k2", PAGE)


def _deletes(host: Keys) -> Steps[None]:
    """Delete keys, those that do not exist too: with and without EDNEK."""
    yield from host.do(KeyValue.DELETE, NEVER)
    yield from host.driver.command(
        Admin.SET_FEATURES, nsid=NSID, cdw={10: Feature.KEY_VALUE_CONFIGURATION, 11: 1}
    )  # fmt: skip
    yield from host.do(KeyValue.STORE, GONE, 700)
    yield from host.do(KeyValue.DELETE, GONE)
    yield from host.do(KeyValue.RETRIEVE, GONE, PAGE, KEY_DOES_NOT_EXIST)
    yield from host.do(KeyValue.EXIST, GONE, expect=KEY_DOES_NOT_EXIST)
    yield from host.do(KeyValue.DELETE, NEVER, expect=KEY_DOES_NOT_EXIST)


def _options(host: Keys) -> Steps[None]:
    """Store only what exists, and only what does not."""
    yield from host.do(KeyValue.STORE, b"new", 64, KEY_DOES_NOT_EXIST, MUST_EXIST)
    yield from host.do(KeyValue.STORE, b"new", 64, options=MUST_NOT_EXIST)
    yield from host.do(KeyValue.STORE, b"new", 128, KEY_EXISTS, MUST_NOT_EXIST)
    yield from host.do(KeyValue.STORE, b"new", 96, options=MUST_EXIST)
    yield from host.do(KeyValue.RETRIEVE, b"new", PAGE)


def _sizes(host: Keys) -> Steps[None]:
    """Keys and values that are too long, and a command for blocks."""
    for key in (b"", b"x" * (LONGEST_KEY + 1), b"y" * 17):
        yield from host.do(KeyValue.STORE, key, 64, INVALID_KEY_SIZE)
    yield from host.do(KeyValue.STORE, BIG, LONGEST_VALUE + 4, INVALID_VALUE_SIZE)
    yield from host.do(KeyValue.STORE, b"z" * LONGEST_KEY, 32)
    ticket = yield from host.queue.send(Nvm.WRITE_ZEROES, NSID, cdw={10: 0, 12: 7})
    yield from ticket.wait()
    if ticket.status != INVALID_OPCODE:
        host.world.record.surprises.append(f"Write Zeroes ended {ticket.status}")


def _together(host: Keys) -> Steps[None]:
    """Commands on one key in flight at once: what they leave is open."""
    key = b"race"
    for _ in range(4):
        tickets = []
        for opcode, size in (
            (KeyValue.STORE, 900),
            (KeyValue.DELETE, 0),
            (KeyValue.EXIST, 0),
            (KeyValue.RETRIEVE, PAGE),
        ):
            tickets.append((yield from host.send(opcode, key, size, data=host.rng.randbytes(size))))
        for ticket in tickets:
            yield from ticket.wait()
        yield from host.do(KeyValue.EXIST, key, expect=None)
    yield from host.do(KeyValue.STORE, key, 900)
    yield from host.do(KeyValue.RETRIEVE, key, PAGE)


def _full(host: Keys) -> Steps[None]:
    """Store until there is no room, and find the old value."""
    for number in range(3):
        yield from host.do(KeyValue.STORE, b"fill%d" % number, LONGEST_VALUE - 4096, expect=None)
    yield from host.do(KeyValue.STORE, b"k3", LONGEST_VALUE, CAPACITY_EXCEEDED)
    yield from host.do(KeyValue.EXIST, b"k3")
    yield from host.do(KeyValue.RETRIEVE, b"k3", PAGE)


def _lists(host: Keys) -> Steps[None]:
    """List all keys, some from one on, and as many as a small buffer takes."""
    yield from host.do(KeyValue.LIST, b"", PAGE)
    yield from host.do(KeyValue.LIST, b"k2", PAGE)
    yield from host.do(KeyValue.LIST, b"", 64)
