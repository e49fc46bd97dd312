"""Administration: the host reads what a controller tells of itself, and sets and gets its features."""

from __future__ import annotations

from lmtrace.spec.admin_data import (
    BROADCAST,
    HOST_BEHAVIOR_DATA,
    HOST_MEMORY_DESCRIPTOR,
    SAVE,
    TIMESTAMP_DATA,
    Lid,
    Select,
)
from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    FEATURE_NOT_CHANGEABLE,
    FEATURE_NOT_NAMESPACE_SPECIFIC,
    FEATURE_NOT_SAVEABLE,
    INVALID_FIELD,
    INVALID_LOG_PAGE,
    INVALID_NAMESPACE,
    SUCCESS,
    Admin,
    Cns,
    Feature,
    Nvm,
    Status,
)
from lmtrace_samples.administration import ABSENT
from lmtrace_samples.driver import Driver, HostQueue, Ticket
from lmtrace_samples.enumeration import enumerate_functions
from lmtrace_samples.features import EVENTS, NEEDED_PAGES
from lmtrace_samples.log_pages import PAGES
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import Side, World

RESERVED_CNS, RESERVED_LID, RESERVED_FID = 0x77, 0x50, 0x42
INVALID = 9
"""An NSID beyond NN."""
LBA_OUT_OF_RANGE = Status(0, 0x80)
ERASE = 2
NOW = 1_700_000_000_000
"""A timestamp, in ms."""
SMART_SIZE = 512
LONGEST_WAIT = 1300 * US
"""Longer than an event that is due may take."""


@plot("administration", controllers=2, random=False)
def administration(world: World) -> Steps[None]:
    """A host reads every Identify structure and log page, and sets and gets features, refused ones too."""
    side = world.sides[0]
    side.namespace(1, 512, 1)
    side.namespace(2, 256)
    for controller in side.subsystem.controllers.values():
        controller.administration.offer()
    yield from enumerate_functions(side.root, [driver.function for driver in side.drivers])
    driver = side.drivers[0]
    yield from driver.enable()
    if world.provokes("vector-early"):
        yield from set_feature(driver, Feature.INTERRUPT_VECTOR_CONFIGURATION, 1 << 16 | 1, INVALID_FIELD)
    yield from driver.introduce(None)
    yield from structures(side)
    queue = yield from driver.create_queue(1, 8, 1)
    yield from features(world, driver)
    yield from refused_features(world, driver)
    yield from log_pages(world, driver, queue)
    yield from host_memory(world, driver)
    yield from sanitizes(driver)
    yield from driver.identify(Cns.CONTROLLER)
    yield LONGEST_WAIT
    yield from driver.delete_queue(queue)
    yield from driver.disable()


# -- commands ---------------------------------------------------------------------------------------------------


def get_log(
    driver: Driver, lid: int, length: int, offset: int = 0, expect: Status | None = SUCCESS, rae: bool = False
) -> Steps[bytes]:
    """Read a log page, or a part of it."""
    buffer, dwords = driver.buffer(length), length // 4 - 1
    words = {10: (dwords & 0xFFFF) << 16 | rae << 15 | lid, 11: dwords >> 16, 12: offset & 0xFFFFFFFF, 13: offset >> 32}
    yield from driver.command(Admin.GET_LOG_PAGE, expect, BROADCAST, buffer.prps(length), words)
    return buffer.read(length)


def set_feature(
    driver: Driver, fid: int, value: int = 0, expect: Status | None = SUCCESS, nsid: int = 0, data: bytes = b"",
    save: bool = False,
) -> Steps[Ticket]:  # fmt: skip
    """Set a feature."""
    buffer = driver.buffer()
    buffer.write(data)
    prps = buffer.prps(len(data)) if data else (0, 0)
    words = {10: SAVE * save | fid, 11: value}
    return (yield from driver.command(Admin.SET_FEATURES, expect, nsid, prps, words))


def get_feature(
    driver: Driver, fid: int, select: int = Select.CURRENT, expect: Status | None = SUCCESS, nsid: int = 0,
    value: int = 0, size: int = 0,
) -> Steps[Ticket]:  # fmt: skip
    """Get a feature."""
    prps = driver.buffer().prps(size) if size else (0, 0)
    words = {10: select << 8 | fid, 11: value}
    return (yield from driver.command(Admin.GET_FEATURES, expect, nsid, prps, words))


# -- Identify ---------------------------------------------------------------------------------------------------


def structures(side: Side) -> Steps[None]:
    """Read every Identify structure, of what is there and of what is not."""
    world, driver = side.world, side.drivers[0]
    for other in side.drivers[1:]:
        yield from other.enable()
        yield from other.identify(Cns.CONTROLLER)
    for cns in (
        Cns.CONTROLLER, Cns.ACTIVE_NAMESPACES, Cns.IO_CONTROLLER, Cns.IO_ACTIVE_NAMESPACES, Cns.ALLOCATED_NAMESPACES,
        Cns.CONTROLLER_LIST, Cns.PRIMARY_CONTROLLER, Cns.SECONDARY_CONTROLLERS, Cns.IO_COMMAND_SETS,
    ):  # fmt: skip
        yield from driver.identify(cns)
    for nsid in (1, 2):
        for cns in (
            Cns.NAMESPACE, Cns.NAMESPACE_DESCRIPTORS, Cns.IO_NAMESPACE, Cns.INDEPENDENT_NAMESPACE,
            Cns.ALLOCATED_NAMESPACE, Cns.ATTACHED_CONTROLLERS,
        ):  # fmt: skip
            yield from driver.identify(cns, nsid)
    yield from driver.identify(Cns.NAMESPACE, ABSENT)
    yield from driver.identify(Cns.NAMESPACE, INVALID, expect=INVALID_NAMESPACE)
    yield from driver.identify(Cns.ACTIVE_NAMESPACES, 1)
    yield from driver.identify(Cns.ACTIVE_NAMESPACES, BROADCAST, expect=INVALID_NAMESPACE)
    if world.provokes("structure-unknown"):
        yield from driver.identify(RESERVED_CNS, expect=INVALID_FIELD)
    for other in side.drivers[1:]:
        yield from other.identify(Cns.CONTROLLER)
        yield from other.disable()


# -- features ---------------------------------------------------------------------------------------------------


def features(world: World, driver: Driver) -> Steps[None]:
    """Set features and get them back, as they are, as they are by default, and as they can be."""
    values = {
        Feature.POWER_MANAGEMENT: 1, Feature.TEMPERATURE_THRESHOLD: 350, Feature.VOLATILE_WRITE_CACHE: 1,
        Feature.INTERRUPT_COALESCING: 0x0204, Feature.WRITE_ATOMICITY: 1, Feature.ASYNC_EVENT_CONFIGURATION: EVENTS | 3,
        Feature.SOFTWARE_PROGRESS_MARKER: 2,
    }  # fmt: skip
    for fid, value in values.items():
        yield from set_feature(driver, fid, value)
        yield from get_feature(driver, fid)
    yield from set_feature(driver, Feature.INTERRUPT_VECTOR_CONFIGURATION, 1 << 16 | 1)
    yield from get_feature(driver, Feature.INTERRUPT_VECTOR_CONFIGURATION, value=1)
    yield from set_feature(driver, Feature.ERROR_RECOVERY, 100, nsid=1)
    yield from get_feature(driver, Feature.ERROR_RECOVERY, nsid=1)
    yield from set_feature(driver, Feature.AUTONOMOUS_POWER_STATES, 0, data=bytes(range(256)))
    yield from get_feature(driver, Feature.AUTONOMOUS_POWER_STATES, size=256)
    yield from get_feature(driver, Feature.NUMBER_OF_QUEUES)
    for select in (Select.DEFAULT, Select.SUPPORTED_CAPABILITIES):
        yield from get_feature(driver, Feature.VOLATILE_WRITE_CACHE, select)
    yield from set_feature(driver, Feature.SOFTWARE_PROGRESS_MARKER, 3, save=True)
    yield from get_feature(driver, Feature.SOFTWARE_PROGRESS_MARKER, Select.SUPPORTED_CAPABILITIES)
    yield from set_feature(driver, Feature.TIMESTAMP, data=TIMESTAMP_DATA.encode(TSTMP=NOW))
    yield 40 * US
    yield from get_feature(driver, Feature.TIMESTAMP, size=8)
    behavior = bytearray(HOST_BEHAVIOR_DATA.encode(ACRE=1))
    behavior[100] = 1
    yield from set_feature(driver, Feature.HOST_BEHAVIOR_SUPPORT, data=bytes(behavior))
    yield from set_feature(driver, Feature.HOST_IDENTIFIER, data=bytes([7] * 8))
    if world.provokes("feature-identifier"):
        yield from set_feature(driver, Feature.HOST_IDENTIFIER, expect=COMMAND_SEQUENCE_ERROR, data=bytes([8] * 8))
    yield from get_feature(driver, Feature.HOST_IDENTIFIER, size=8)
    yield from set_feature(driver, Feature.RESERVATION_NOTIFICATION_MASK, 0b10, nsid=1)


def refused_features(world: World, driver: Driver) -> Steps[None]:
    """Ask for what features can't do."""
    yield from get_feature(driver, RESERVED_FID, expect=INVALID_FIELD)
    yield from set_feature(driver, Feature.VOLATILE_WRITE_CACHE, 1, FEATURE_NOT_SAVEABLE, save=True)
    yield from get_feature(driver, Feature.ARBITRATION, Select.SUPPORTED_CAPABILITIES)
    yield from set_feature(driver, Feature.ARBITRATION, 3, FEATURE_NOT_CHANGEABLE)
    yield from set_feature(driver, Feature.VOLATILE_WRITE_CACHE, 1, FEATURE_NOT_NAMESPACE_SPECIFIC, nsid=1)
    yield from set_feature(driver, Feature.ASYNC_EVENT_CONFIGURATION, 1 << 9, INVALID_FIELD)
    yield from get_feature(driver, Feature.LBA_RANGE_TYPE, nsid=BROADCAST, size=PAGE, expect=INVALID_FIELD)
    if world.provokes("feature-vector"):
        yield from set_feature(driver, Feature.INTERRUPT_VECTOR_CONFIGURATION, 1 << 16 | 3, INVALID_FIELD)
    if world.provokes("queues-all"):
        yield from set_feature(driver, Feature.NUMBER_OF_QUEUES, 0xFFFF << 16 | 1, INVALID_FIELD)
    if world.provokes("queues-late"):
        yield from set_feature(driver, Feature.NUMBER_OF_QUEUES, 1 << 16 | 1, COMMAND_SEQUENCE_ERROR)


# -- log pages --------------------------------------------------------------------------------------------------


def log_pages(world: World, driver: Driver, queue: HostQueue) -> Steps[None]:
    """Read every log page, whole and in pieces, with commands that fail in between."""
    yield from get_log(driver, Lid.ERROR_INFORMATION, 256)
    for first in (1 << 20, 1 << 21):
        ticket = yield from queue.send(Nvm.READ, 1, driver.buffer().prps(PAGE), {10: first, 12: 0})
        yield from ticket.wait()
        assert ticket.status == LBA_OUT_OF_RANGE or world.options.fault is not None
    for lid in PAGES:
        yield from get_log(driver, lid, 1024 if lid != Lid.COMMANDS_SUPPORTED else PAGE)
    for offset in range(0, SMART_SIZE, 256):
        yield from get_log(driver, Lid.SMART, 256, offset)
    yield from get_log(driver, Lid.SMART, 64, SMART_SIZE + 64, INVALID_FIELD)
    yield from get_log(driver, Lid.RESERVATION_NOTIFICATION, 64)
    if world.provokes("log-unknown"):
        yield from get_log(driver, RESERVED_LID, 64, expect=INVALID_LOG_PAGE)
    if world.provokes("log-dword"):
        yield from get_log(driver, Lid.SMART, 64, 254, INVALID_FIELD)


# -- Host Memory Buffer and sanitize ----------------------------------------------------------------------------


def host_memory(world: World, driver: Driver) -> Steps[None]:
    """Lend the controller memory, twice at once, and take it back, twice too."""
    yield from _lend(world, driver, 0)
    memory, half = driver.memory, NEEDED_PAGES // 2
    # A page behind each range stays unused, so that nothing else is next to the buffer.
    starts = [memory.allocate(half + 2) + PAGE for _ in range(2)]
    entries = b"".join(HOST_MEMORY_DESCRIPTOR.encode(BADD=start, BSIZE=half) for start in starts)
    if world.provokes("memory-pages"):
        entries = HOST_MEMORY_DESCRIPTOR.encode(BADD=starts[0] + 512, BSIZE=2 * half)
    listed = memory.allocate()
    memory.write(listed, entries)
    count = len(entries) // HOST_MEMORY_DESCRIPTOR.size
    words = {12: 2 * half, 13: listed & 0xFFFFFFFF, 14: listed >> 32, 15: count}
    yield from _lend(world, driver, 1, words)
    yield 10 * US
    yield from _lend(world, driver, 1, words, COMMAND_SEQUENCE_ERROR)
    yield 10 * US
    yield from _lend(world, driver, 0)
    yield 30 * US


def _lend(
    world: World, driver: Driver, enable: int, words: dict[int, int] | None = None, expect: Status = SUCCESS
) -> Steps[None]:  # fmt: skip
    yield from driver.command(
        Admin.SET_FEATURES, expect, cdw={10: Feature.HOST_MEMORY_BUFFER, 11: enable, **(words or {})}
    )


def sanitizes(driver: Driver) -> Steps[None]:
    """Erase everything twice, and each time read how far that is, and that it is over."""
    for _ in range(2):
        yield from driver.command(Admin.SANITIZE, cdw={10: ERASE})
        yield from get_log(driver, Lid.SANITIZE_STATUS, 512, rae=True)
        yield 200 * US
        yield from get_log(driver, Lid.SANITIZE_STATUS, 512)
