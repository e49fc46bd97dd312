"""Everything that a managing controller refuses, asked for on the way through one migration."""

from __future__ import annotations

from lmtrace.spec.migration import CdqSelect
from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    CONTROLLER_NOT_SUSPENDED,
    CONTROLLER_SUSPENDED,
    FEATURE_NOT_SAVEABLE,
    INVALID_CONTROLLER_DATA_QUEUE,
    INVALID_CONTROLLER_IDENTIFIER,
    INVALID_FIELD,
    INVALID_OPCODE,
    NOT_ENOUGH_RESOURCES,
    PRP_OFFSET_INVALID,
    SUCCESS,
    Admin,
    Property,
    Status,
)
from lmtrace_samples.management import LIST_ENTRIES
from lmtrace_samples.manager import Manager
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import Migration
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

SOURCE, TARGET, DISABLED, MANAGER, NOBODY = 1, 2, 3, 0, 0x4D
FIRST, MIDDLE, LAST, ONLY = 1, 0, 2, 3
WRONG_ID = 0x3F
BEYOND = 0x0010_0000
BUFFER_PAGES, BUFFER = 4, 0x40_0000_0000
CDQ, TRACK, RECEIVE = Admin.CONTROLLER_DATA_QUEUE, Admin.TRACK_SEND, Admin.TRACK_RECEIVE
SEND, GET = Admin.MIGRATION_SEND, Admin.MIGRATION_RECEIVE


@plot("refusals", controllers=3)
def refusals(world: World) -> Steps[None]:
    """A migration on whose way the host asks for everything that has to be refused."""
    world.choices.delete_queue, world.choices.vendor_state = False, 24
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2, 3)), (2, ())):
        side.namespace(nsid, 128, *cntlids)
    move = Migration(world, side, side, SOURCE, TARGET)
    commands = world.commands(32)
    side.manager.offer_buffer(BUFFER_PAGES)
    yield from move.prepare()
    yield from side.drivers[DISABLED].enable()
    yield from side.drivers[DISABLED].introduce(1)
    yield from side.drivers[DISABLED].disable()
    yield from move.tenant.run(commands // 4)
    yield from move.here.read_features_log()
    yield from refused_queues(move.here)
    yield from move.log_changes()
    yield from refused_logging(move)
    yield from refused_suspensions(move)
    yield from move.copy_changes(commands // 4)
    yield from move.stop_source(5)
    yield from refused_while_suspended(move)
    yield from move.finish_log()
    yield from refused_gets(move.here)
    state = yield from move.here.get_state(SOURCE, 1, 1)
    yield from refused_sets(move.here, state)
    yield from move.start_destination()
    move.tenant.allow(commands // 4)
    yield from move.settle()
    yield from move.clean_up()


def refused_queues(manager: Manager) -> Steps[None]:
    """Ask for data queues that may not be (checklist 6.3)."""
    memory, world = manager.driver.memory, manager.world
    page = memory.allocate(4)

    def create(
        expect: Status,
        sel: int = 0,
        kind: int = 0,
        cntlid: int = SOURCE,
        dwords: int = 128,
        prp: int = page,
        pc: int = 1,
    ) -> Steps[int]:
        words = {10: kind << 16 | sel, 11: cntlid << 16 | pc, 12: dwords}
        ticket = yield from manager.send(CDQ, words, expect, (prp, 0))
        cdqid = ticket.dw0 & 0xFFFF
        if sel == 0 and ticket.status == SUCCESS != expect:
            yield from manager.delete_log(cdqid)
        return cdqid

    yield from create(INVALID_FIELD, sel=2)
    yield from create(INVALID_FIELD, kind=1)
    yield from create(INVALID_FIELD, dwords=132)
    yield from create(INVALID_FIELD, dwords=0)
    yield from create(INVALID_CONTROLLER_IDENTIFIER, cntlid=NOBODY)
    yield from _place_buffer(manager)
    yield from create(INVALID_FIELD, prp=BUFFER + PAGE)
    scattered = [memory.allocate() + PAGE * gap for gap in (0, 8, 16)]
    pointers = memory.allocate()
    memory.write(pointers, b"".join(one.to_bytes(8, "little") for one in scattered))
    yield from create(INVALID_FIELD, dwords=3 * PAGE // 4, prp=pointers, pc=0)
    if world.provokes("cdq-offset"):
        yield from create(PRP_OFFSET_INVALID, prp=page + 64)
    if world.provokes("cdq-manager"):
        yield from create(INVALID_CONTROLLER_IDENTIFIER, cntlid=MANAGER)
    if world.provokes("cdq-list-offset"):
        bad = memory.allocate()
        memory.write(bad, (scattered[0] + 64).to_bytes(8, "little"))
        yield from create(PRP_OFFSET_INVALID, prp=bad, pc=0)
    if world.provokes("cdq-list"):
        count = LIST_ENTRIES + 1
        together, pointers_too = memory.allocate(count), memory.allocate()
        entries = range(together, together + PAGE * count, PAGE)
        memory.write(pointers_too, b"".join(one.to_bytes(8, "little") for one in entries))
        yield from create(INVALID_FIELD, dwords=PAGE * count // 4, prp=pointers_too, pc=0)

    first = yield from create(SUCCESS, dwords=2 * PAGE // 4, prp=pointers, pc=0)
    yield from create(INVALID_FIELD, cntlid=SOURCE)
    yield from create(INVALID_FIELD, cntlid=TARGET, dwords=2 * PAGE // 4, prp=pointers, pc=0)
    yield from manager.delete_log(WRONG_ID, INVALID_CONTROLLER_DATA_QUEUE)
    yield from manager.delete_log(first)
    yield from manager.delete_log(first, INVALID_CONTROLLER_DATA_QUEUE)

    first = yield from create(SUCCESS)
    second = yield from create(SUCCESS, cntlid=TARGET, prp=page + PAGE)
    yield from create(NOT_ENOUGH_RESOURCES, cntlid=DISABLED, prp=page + 2 * PAGE)
    if world.provokes("cdq-elsewhere"):
        words = {10: CdqSelect.DELETE, 11: first}
        yield from manager.side.drivers[SOURCE].command(CDQ, INVALID_OPCODE, 0, (0, 0), words)
    for cdqid in (first, second):
        yield from manager.delete_log(cdqid)
    yield from manager.log(second, True, INVALID_CONTROLLER_DATA_QUEUE)
    yield from manager.move_head(second, 0, None, INVALID_CONTROLLER_DATA_QUEUE)


def _place_buffer(manager: Manager) -> Steps[None]:
    """Give the controller memory buffer its place among the addresses of the controller."""
    yield from manager.driver.read(Property.CMBLOC)
    yield from manager.driver.read(Property.CMBSZ)
    manager.driver.write(Property.CMBMSC, BUFFER | 3, 8)


def refused_logging(move: Migration) -> Steps[None]:
    """Ask for logging that may not be (checklist 6.6), and set feature 21h wrongly."""
    manager, reader = move.here, move.reader
    assert reader is not None
    yield from manager.send(TRACK, {10: 2, 11: reader.cdqid}, INVALID_FIELD)
    yield from manager.send(TRACK, {10: 2 << 16, 11: reader.cdqid}, INVALID_FIELD)
    yield from manager.send(RECEIVE, {10: 1, 11: SOURCE}, INVALID_FIELD, manager.driver.buffer().prps(4))
    yield from manager.log(WRONG_ID, True, INVALID_CONTROLLER_DATA_QUEUE)
    yield from manager.log(reader.cdqid, True, INVALID_CONTROLLER_DATA_QUEUE)
    if manager.world.provokes("track-started"):
        other = yield from manager.create_log(SOURCE)
        yield from manager.log(other.cdqid, True, INVALID_CONTROLLER_DATA_QUEUE)
        yield from manager.delete_log(other.cdqid)
    words = {10: 1 << 31 | 0x21, 11: reader.cdqid, 12: reader.head}
    yield from manager.send(Admin.SET_FEATURES, words, FEATURE_NOT_SAVEABLE)
    yield from manager.move_head(reader.cdqid, reader.head, reader.slots, INVALID_FIELD)
    yield from manager.move_head(WRONG_ID, 0, None, INVALID_CONTROLLER_DATA_QUEUE)
    yield from manager.ask_head(WRONG_ID, INVALID_CONTROLLER_DATA_QUEUE)
    if manager.world.provokes("head-slot"):
        yield from manager.move_head(reader.cdqid, reader.head + reader.slots // 2, None, INVALID_FIELD)


def refused_suspensions(move: Migration) -> Steps[None]:
    """Ask for suspensions and resumptions that may not be (checklist 6.8 and 6.11)."""
    manager, reader = move.here, move.reader
    assert reader is not None
    yield from manager.send(SEND, {10: 3, 11: TARGET}, INVALID_FIELD)
    yield from manager.send(SEND, {10: 0, 11: 1 << 31 | 2 << 16 | SOURCE}, INVALID_FIELD)
    yield from manager.notify(SOURCE)
    yield from manager.log(reader.cdqid, False)
    yield from manager.follow(reader, None, 1)
    yield from manager.log(reader.cdqid, True)
    yield from manager.suspend(NOBODY, expect=INVALID_CONTROLLER_IDENTIFIER)
    yield from manager.suspend(MANAGER, expect=INVALID_CONTROLLER_IDENTIFIER)
    yield from manager.resume(SOURCE, CONTROLLER_NOT_SUSPENDED)
    yield from manager.resume(NOBODY, INVALID_CONTROLLER_IDENTIFIER)
    yield from manager.resume(MANAGER, INVALID_CONTROLLER_IDENTIFIER)


def refused_while_suspended(move: Migration) -> Steps[None]:
    """Ask for what a suspended controller stands in the way of; suspending it once more is no error."""
    manager, reader = move.here, move.reader
    assert reader is not None
    yield from manager.log(reader.cdqid, False, CONTROLLER_SUSPENDED)
    yield from manager.log(reader.cdqid, True, CONTROLLER_SUSPENDED)
    yield from manager.send(Admin.SANITIZE, {10: 2}, CONTROLLER_SUSPENDED)
    yield from manager.suspend(SOURCE)
    yield from manager.suspend(TARGET, delete=True)


def refused_gets(manager: Manager) -> Steps[None]:
    """Read states that may not be read (checklist 6.9), and parts that may, some of them twice."""
    prps = manager.driver.buffer().prps(PAGE)
    yield from manager.get(SOURCE, 0, 256, vendor=1)
    yield from manager.get(SOURCE, 128, 128, vendor=1)
    yield from manager.send(GET, {10: 1 << 16 | 1, 11: SOURCE, 15: 15}, INVALID_FIELD, prps)
    yield from manager.get(SOURCE, 2, 64, INVALID_FIELD)
    yield from manager.get(SOURCE, BEYOND, 64, INVALID_FIELD, vendor=1)
    yield from manager.get(NOBODY, 0, 64, INVALID_CONTROLLER_IDENTIFIER)
    yield from manager.get(SOURCE, 0, 64, INVALID_FIELD, version=2)
    yield from manager.get(SOURCE, 0, 64, INVALID_FIELD, vendor=2)
    yield from manager.get(SOURCE, 0, 256, version=0, vendor=1)
    yield from manager.get(SOURCE, 0, 256, version=1, vendor=0)
    yield from manager.get(SOURCE, 0, 64, version=0, vendor=0)


def refused_sets(manager: Manager, state: bytes) -> Steps[None]:
    """Send states that may not be set (checklist 6.10), and in the end the right one."""
    world = manager.world
    wrong = INVALID_CONTROLLER_IDENTIFIER
    half = len(state) // 8 * 4
    bare = state[:16] + bytes(32)

    def refused(status: Status, data: bytes = state, version: int = 1, vendor: int = 1) -> Steps[None]:
        ticket = yield from manager.set(TARGET, ONLY, 0, data, status, version=version, vendor=vendor)
        if ticket.status == SUCCESS:
            yield from _start_over(manager)

    yield from manager.set(DISABLED, FIRST, 0, state[:half], wrong, vendor=1)
    yield from manager.set(NOBODY, ONLY, 0, state, wrong, vendor=1)
    yield from manager.set(MANAGER, ONLY, 0, state, wrong, vendor=1)
    yield from manager.set(TARGET, MIDDLE, half, state[half:], COMMAND_SEQUENCE_ERROR, vendor=1)
    yield from manager.set(TARGET, LAST, half, state[half:], COMMAND_SEQUENCE_ERROR, vendor=1)
    yield from refused(INVALID_FIELD, version=2)
    yield from refused(INVALID_FIELD, vendor=2)
    yield from refused(INVALID_FIELD, version=0)
    yield from refused(INVALID_FIELD, vendor=0)
    yield from refused(INVALID_FIELD, bare, version=0, vendor=0)
    yield from manager.set(TARGET, FIRST, 2, state[:half], INVALID_FIELD, vendor=1)
    yield from manager.set(TARGET, FIRST, 0, state[:half], vendor=1)
    yield from manager.set(TARGET, FIRST, 0, state[:half], vendor=1)
    if world.provokes("set-empty"):
        yield from manager.set(TARGET, MIDDLE, half, b"", INVALID_FIELD, vendor=1)
    if world.provokes("resume-open"):
        yield from manager.resume(TARGET, COMMAND_SEQUENCE_ERROR)
    yield from manager.set(TARGET, MIDDLE, BEYOND, state[half:], INVALID_FIELD, vendor=1)
    if world.provokes("resume-broken-off"):
        yield from manager.resume(TARGET, COMMAND_SEQUENCE_ERROR)
    yield from manager.set(TARGET, FIRST, 0, state[:half], vendor=1)
    yield from manager.set(TARGET, LAST, half, state[half:], vendor=1)
    if world.provokes("set-queues"):
        yield from manager.set(TARGET, ONLY, 0, state, INVALID_FIELD, vendor=1)
    yield from manager.get(TARGET, 0, len(state), vendor=1)
    yield 5 * US


def _start_over(manager: Manager) -> Steps[None]:
    """Reset the target, which took what it should have refused, and suspend it again."""
    driver = manager.side.drivers[TARGET]
    yield from driver.disable()
    yield from driver.enable()
    yield from manager.suspend(TARGET)
