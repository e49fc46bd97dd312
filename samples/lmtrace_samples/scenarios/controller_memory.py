"""Memory of the controller: queues, data and lists in its buffer, and a persistent memory region."""

from __future__ import annotations

from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, Admin, Nvm, Property
from lmtrace_samples.controller_memory import NOT_READY, PersistentRegion, Window
from lmtrace_samples.data_pointers import DATA_BLOCK, LAST_SEGMENT, SGLS_OFFERED, descriptor
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.enumeration import enumerate_functions, place
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import Side, World

BUFFER, REGION = 0xFD00_0000, 0xFC00_0000
"""Where the host reaches the two memories."""
BUFFER_REGISTER, REGION_REGISTER = 0x18, 0x20
SIZE, PAGES = 1 << 16, 16
PLACE = 0x5_0000_0000
"""Where the controller finds its buffer: CMBMSC.CBA."""
ENABLED = 3
"""CMBMSC.CRE and CMSE."""
EVERYTHING = 0b11111
"""CMBSZ: queues, lists and data of both directions."""
INDEPENDENT_LISTS = 1 << 6
"""CMBLOC.CDPCILS."""
INSIDE, ENTRIES = 2, 8
SQ, CQ, WRITTEN, READ, LARGE, LIST, SEGMENTS = 0, PAGE, 8 * PAGE, 9 * PAGE, 10 * PAGE, 13 * PAGE, 14 * PAGE
"""What lies where in the buffer."""
USES_SGL = 1 << 6
"""PSDT: SGLs, and MPTR to metadata."""
STEP = 128
MOST_LOOKS = 100
MS = 1000 * US
BLOCKS = 4
"""Blocks of 64 bytes that are written to the region."""


class InsideQueue(HostQueue):
    """A queue pair in the controller memory buffer: the host writes and reads its entries across the link."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver, INSIDE, PLACE + SQ, ENTRIES, PLACE + CQ, ENTRIES, None)
        self._seen: dict[int, bytes] = {}

    def put(self, slot: int, sqe: bytes) -> None:
        """Put an entry into the submission queue."""
        self.driver.root.write(BUFFER + SQ + SQE_SIZE * slot, sqe)

    def posted(self, slot: int) -> bytes:
        """Return an entry of the completion queue as it was read last."""
        return self._seen.pop(slot, bytes(CQE_SIZE))

    def look(self) -> Steps[None]:
        """Read the next entry of the completion queue until it is there."""
        for _ in range(MOST_LOOKS):
            if not self.tickets:
                break
            value = yield from self.driver.root.read(BUFFER + CQ + CQE_SIZE * self.cq_head, CQE_SIZE)
            self._seen[self.cq_head] = (value or 0).to_bytes(CQE_SIZE, "little")
            self.reap()
            yield 2 * US


@plot("controller-memory", controllers=1, random=False)
def controller_memory(world: World) -> Steps[None]:
    """Queues, data and lists lie in the controller memory buffer, and a persistent memory region outlives a reset."""
    side, choices = world.sides[0], world.choices
    choices.unmask, choices.small_queues = False, False
    driver = side.drivers[0]
    side.namespace(1, 1 << 12, 1)
    _offer(side, driver)
    for offset, base in ((BUFFER_REGISTER, BUFFER), (REGION_REGISTER, REGION)):
        yield from place(side.root, driver.function.number, offset, base)
    yield from enumerate_functions(side.root, [one.function for one in side.drivers])
    yield from driver.enable()
    driver.write(Property.CMBMSC, PLACE | ENABLED, 8)
    for offset, size in ((Property.CMBLOC, 4), (Property.CMBSZ, 4), (Property.CMBMSC, 8)):
        yield from driver.read(offset, size)
    yield from driver.introduce(1)
    yield from _use_queue(driver)
    queue = yield from driver.create_queue(1, 8, 1)
    yield from _use_data(driver, queue)
    yield from world.moment("data")
    yield from _use_region(world, driver)
    driver.abandon()
    yield from driver.disable()
    for offset, size in ((Property.CMBMSC, 8), (Property.PMRCTL, 4), (Property.PMRSTS, 4)):
        yield from driver.read(offset, size)
    for block in range(BLOCKS):
        yield from side.root.read(REGION + 64 * block, 64)
    yield from world.moment("disabled")
    yield from driver.enable()
    yield from driver.introduce(1)
    yield from _use_queue(driver)


def _offer(side: Side, driver: Driver) -> None:
    """Give the physical function two BARs with the memories behind them."""
    function, manager = driver.function, side.manager
    buffer, memory = (Window(function.number, base, SIZE) for base in (BUFFER, REGION))
    manager.sgls = SGLS_OFFERED
    manager.offer_buffer(PAGES, EVERYTHING, INDEPENDENT_LISTS)
    manager.fill_buffer(buffer)
    manager.offer_persistent_region(PersistentRegion(side.world.clock, memory))
    side.root.windows = [buffer, memory]
    space = side.root.config[function.number]
    space.bars = (*space.bars, BUFFER_REGISTER, REGION_REGISTER)
    space.sizes = {BUFFER_REGISTER: SIZE, REGION_REGISTER: SIZE}


def _use_queue(driver: Driver) -> Steps[None]:
    """Create a queue pair in the buffer, and go round it."""
    sizes = ENTRIES - 1 << 16 | INSIDE
    write_inside(driver, CQ, bytes(ENTRIES * CQE_SIZE))
    yield from driver.command(Admin.CREATE_IO_CQ, prps=(PLACE + CQ, 0), cdw={10: sizes, 11: 1})
    yield from driver.command(Admin.CREATE_IO_SQ, prps=(PLACE + SQ, 0), cdw={10: sizes, 11: INSIDE << 16 | 1})
    queue = InsideQueue(driver)
    driver.queues[INSIDE] = queue
    for _ in range(12):
        yield from queue.send(Nvm.FLUSH, 1)
        yield from queue.look()


def write_inside(driver: Driver, place: int, data: bytes) -> None:
    """Write bytes into the buffer."""
    for at in range(0, len(data), STEP):
        driver.root.write(BUFFER + place + at, data[at : at + STEP])


def _use_data(driver: Driver, queue: HostQueue) -> Steps[None]:
    """Write a block from the buffer and read it into the buffer; then several pages that a list there names."""
    size = driver.choices.block_size
    write_inside(driver, WRITTEN, driver.rng.randbytes(size))
    for opcode, start in ((Nvm.WRITE, WRITTEN), (Nvm.READ, READ)):
        yield from transfer(driver, queue, opcode, (PLACE + start, 0), 1)
    yield from driver.root.read(BUFFER + READ, 256)
    pages = [PLACE + LARGE + PAGE * index for index in range(3)]
    write_inside(driver, LIST, b"".join(page.to_bytes(8, "little") for page in pages[1:]))
    yield from transfer(driver, queue, Nvm.READ, (pages[0], PLACE + LIST), 3 * PAGE // size)
    blocks = [driver.memory.allocate() for _ in range(4)]
    for page in blocks:
        driver.memory.write(page, driver.rng.randbytes(PAGE))
    write_inside(driver, LIST, b"".join(page.to_bytes(8, "little") for page in blocks[1:]))
    for opcode in (Nvm.WRITE, Nvm.READ):
        yield from transfer(driver, queue, opcode, (blocks[0], PLACE + LIST), 4 * PAGE // size)
    listed = b"".join(descriptor(DATA_BLOCK, page, PAGE) for page in reversed(blocks))
    write_inside(driver, SEGMENTS, listed)
    pointer = descriptor(LAST_SEGMENT, PLACE + SEGMENTS, len(listed))
    sgl = int.from_bytes(pointer[:8], "little"), int.from_bytes(pointer[8:], "little")
    for opcode in (Nvm.WRITE, Nvm.READ):
        yield from transfer(driver, queue, opcode, sgl, 4 * PAGE // size, USES_SGL)


def transfer(
    driver: Driver, queue: HostQueue, opcode: int, prps: tuple[int, int], blocks: int, flags: int = 0
) -> Steps[None]:  # fmt: skip
    """Move blocks and wait for it."""
    ticket = yield from queue.send(opcode, 1, prps, {12: blocks - 1}, flags)
    yield from ticket.wait()
    yield 2 * US


def _use_region(world: World, driver: Driver) -> Steps[None]:
    """Enable the persistent memory region, write to it, and make sure of that."""
    yield from driver.read(Property.PMRCAP)
    yield from driver.read(Property.PMRCTL)
    yield from world.moment("region disabled")
    driver.write(Property.PMRCTL, 1)
    for attempt in range(20):
        status = yield from driver.read(Property.PMRSTS)
        if status is None or not status & NOT_READY:
            break
        yield 20 * US if attempt < 8 else 100 * MS
    for block in range(BLOCKS):
        driver.root.write(REGION + 64 * block, driver.rng.randbytes(64))
    yield from driver.read(Property.PMRSTS)
