"""A host sees to firmware, self-tests, lockdown, security and directives, and sends every other admin command once."""

from __future__ import annotations

from lmtrace.spec.admin_data import BROADCAST
from lmtrace.spec.nvme import (
    COMMAND_PROHIBITED,
    INVALID_FIELD,
    INVALID_FIRMWARE_SLOT,
    INVALID_OPCODE,
    OVERLAPPING_RANGE,
    SELF_TEST_IN_PROGRESS,
    SUCCESS,
    Admin,
    Feature,
    Status,
)
from lmtrace_samples.driver import Driver, Ticket
from lmtrace_samples.firmware import (
    ABORT_TEST,
    ACTIVATE,
    BOOT,
    BOOT_PARTITION_PROHIBITED,
    ENABLE,
    LOCKED,
    NEEDS_RESET,
    REPLACE,
    RETURN_PARAMETERS,
    SLOTS,
)
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.administration import get_feature, set_feature
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

NSID = 1
PIECE = 1024
"""Bytes of a piece of firmware."""
PROHIBIT = 1 << 4
STREAMS = 1
ALLOCATED_BLOCKS = 2
OFFLINE, ONLINE = 7, 9
"""ACT of Virtualization Management."""


@plot("firmware-and-security", controllers=1, random=False)
def firmware_and_security(world: World) -> Steps[None]:
    """Firmware, self-tests, lockdown, security protocols and directives, with what of them is refused."""
    side = world.sides[0]
    driver = side.drivers[0]
    side.namespace(NSID, 512)
    side.manager.administration.offer()
    side.manager.firmware.offer()
    yield from side.start()
    yield from driver.enable()
    yield from driver.introduce(NSID)
    queue = yield from driver.create_queue(1, 8, 1)
    yield from _firmware(driver)
    yield from _self_tests(driver)
    yield from _security(driver)
    yield from _lockdown(driver)
    yield from _directives(driver)
    yield from _others(driver)
    yield 20 * US
    yield from driver.delete_queue(queue)
    yield from driver.disable()


def _send(
    driver: Driver, opcode: int, size: int, words: dict[int, int], expect: Status = SUCCESS, nsid: int = 0
) -> Steps[Ticket]:  # fmt: skip
    """Send a command with a buffer, filled."""
    buffer = driver.buffer(size)
    buffer.write(driver.rng.randbytes(size))
    return (yield from driver.command(opcode, expect, nsid, buffer.prps(size), words))


def _firmware(driver: Driver) -> Steps[None]:
    dwords = PIECE // 4
    for piece in range(3):
        words = {10: dwords - 1, 11: piece * dwords}
        yield from _send(driver, Admin.FIRMWARE_IMAGE_DOWNLOAD, PIECE, words)
    words = {10: dwords - 1, 11: dwords // 2}
    yield from _send(driver, Admin.FIRMWARE_IMAGE_DOWNLOAD, PIECE, words, OVERLAPPING_RANGE)
    for action, slot, expect in (
        (REPLACE, 2, SUCCESS), (ACTIVATE, 2, NEEDS_RESET), (REPLACE, SLOTS + 1, INVALID_FIRMWARE_SLOT),
        (REPLACE, 1, INVALID_FIRMWARE_SLOT),
    ):  # fmt: skip
        yield from driver.command(Admin.FIRMWARE_COMMIT, expect, cdw={10: action << 3 | slot})
    yield from set_feature(driver, Feature.BOOT_PARTITION_PROTECTION, LOCKED)
    yield from driver.command(Admin.FIRMWARE_COMMIT, BOOT_PARTITION_PROHIBITED, cdw={10: BOOT << 3})


def _self_tests(driver: Driver) -> Steps[None]:
    for code, expect in (
        (1, SUCCESS),
        (1, SELF_TEST_IN_PROGRESS),
        (ABORT_TEST, SUCCESS),
        (2, SUCCESS),
        (ABORT_TEST, SUCCESS),
    ):
        yield from driver.command(Admin.DEVICE_SELF_TEST, expect, BROADCAST, cdw={10: code})


def _security(driver: Driver) -> Steps[None]:
    yield from _send(driver, Admin.SECURITY_RECEIVE, 512, {10: 0, 11: 512})
    yield from _send(driver, Admin.SECURITY_SEND, 2048, {10: 1 << 24, 11: 2048})


def _lockdown(driver: Driver) -> Steps[None]:
    yield from driver.command(Admin.LOCKDOWN, cdw={10: Admin.SECURITY_SEND << 8 | PROHIBIT})
    yield from _send(driver, Admin.SECURITY_SEND, 2048, {10: 1 << 24, 11: 2048}, COMMAND_PROHIBITED)
    yield from driver.command(Admin.LOCKDOWN, cdw={10: Admin.SECURITY_SEND << 8})
    yield from _send(driver, Admin.SECURITY_SEND, 2048, {10: 1 << 24, 11: 2048})


def _directives(driver: Driver) -> Steps[None]:
    words = {10: PAGE // 4 - 1, 11: RETURN_PARAMETERS}
    yield from _send(driver, Admin.DIRECTIVE_RECEIVE, PAGE, words, nsid=NSID)
    words = {11: ENABLE, 12: STREAMS << 8 | 1}
    yield from driver.command(Admin.DIRECTIVE_SEND, INVALID_FIELD, NSID, cdw=words)


def _others(driver: Driver) -> Steps[None]:
    """Send what else there is, most of which this controller does not have."""
    yield from get_feature(driver, Feature.VOLATILE_WRITE_CACHE)
    words = {12: 1023, 13: ALLOCATED_BLOCKS << 24 | 16}
    yield from _send(driver, Admin.GET_LBA_STATUS, PAGE, words, nsid=NSID)
    for action in (OFFLINE, ONLINE):
        yield from driver.command(Admin.VIRTUALIZATION_MANAGEMENT, cdw={10: 1 << 16 | action})
    for opcode in (Admin.NVME_MI_RECEIVE, Admin.CAPACITY_MANAGEMENT, Admin.DOORBELL_BUFFER_CONFIG):
        pages = driver.memory.allocate(), driver.memory.allocate()
        yield from driver.command(opcode, INVALID_OPCODE, prps=pages)
