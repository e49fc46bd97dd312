"""Faults of memory inside the controller: its buffer, and its persistent memory region (G27)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import CQE_SIZE, Nvm, Property
from lmtrace_samples.data_transfer import BUFFER_LISTS, BUFFER_READS, BUFFER_WRITES
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.function import Function
from lmtrace_samples.management import ManagementController
from lmtrace_samples.queues import Command, CompletionQueue, SubmissionQueue
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

SCENARIO = "controller-memory"
BUFFER, PLACE, DATA, REGION = 0xFD00_0000, 0x5_0000_0000, 8 * PAGE, 0xFC00_0000
INSIDE = 2
MS = 1000 * US


def _manager(world: World) -> ManagementController:
    return world.sides[0].manager


def _at(world: World, moment: str, happens: Callable[[], Steps[None]]) -> None:
    world.moments.setdefault(moment, []).append(happens)


def _lacks(name: str, rule: str, text: str, uses: int, reason: str) -> None:
    """Register the fault of a controller that takes what its buffer does not take by CMBSZ."""

    def change(world: World) -> None:
        manager = _manager(world)
        manager.pointers.forgotten.add(reason)

        def offer(original: Callable[..., None], pages: int, taken: int, mixtures: int) -> None:
            original(pages, taken & ~uses, mixtures)

        instead(manager, "offer_buffer", offer)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=True)(change)


_lacks("read-into-buffer-without-rds", "NVM21-8.2.1-n5", "Data are read into a buffer without RDS.", BUFFER_READS,
       "buffer")  # fmt: skip
_lacks("write-from-buffer-without-wds", "NVM21-8.2.1-n5", "Data are written from a buffer without WDS.", BUFFER_WRITES,
       "buffer")  # fmt: skip
_lacks("list-in-buffer-without-lists", "NVM21-8.2.1-n6", "A PRP list is in a buffer without LISTS.", BUFFER_LISTS,
       "buffer list")  # fmt: skip


@fault("lists-not-independent", "NVM21-8.2.1-n8", SCENARIO, party="host")
def lists_not_independent(world: World) -> None:
    """A list is in the buffer and its command is not, though CMBLOC has no CDPCILS."""
    instead(_manager(world), "offer_buffer", lambda original, pages, uses, mixtures: original(pages, uses, 0))


def _sends(world: World, prps: Callable[[], tuple[int, int]], length: int) -> Steps[None]:
    driver = world.sides[0].drivers[0]
    blocks = max(length // driver.choices.block_size, 1)
    ticket = yield from driver.queues[1].send(Nvm.WRITE, 1, prps(), {12: blocks - 1})
    yield from ticket.wait()


@fault("data-half-in-buffer", "NVM21-8.2.1-n8", SCENARIO, party="host")
def data_half_in_buffer(world: World) -> None:
    """The first page of some data is in the buffer, the second is not."""
    driver = world.sides[0].drivers[0]
    _at(world, "data", lambda: _sends(world, lambda: (PLACE + DATA, driver.memory.allocate()), 2 * PAGE))


def _listed(world: World, place: Callable[[list[int]], int]) -> Steps[None]:
    """Write four pages, three of which are in a list that ``place`` puts somewhere."""
    memory = world.sides[0].drivers[0].memory
    pages = [memory.allocate() for _ in range(4)]
    yield from _sends(world, lambda: (pages[0], place(pages[1:])), 4 * PAGE)


def _entries(addresses: list[int]) -> bytes:
    return b"".join(one.to_bytes(8, "little") for one in addresses)


@fault("listed-data-half-in-buffer", "NVM21-8.2.1-n8", SCENARIO, party="host")
def listed_data_half_in_buffer(world: World) -> None:
    """A list in host memory names a page in the buffer besides those in host memory."""
    memory = world.sides[0].drivers[0].memory

    def place(pages: list[int]) -> int:
        address = memory.allocate()
        memory.write(address, _entries([pages[0], PLACE + DATA, pages[2]]))
        return address

    _at(world, "data", lambda: _listed(world, place))


@fault("list-half-in-buffer", "NVM21-8.2.1-n8", SCENARIO, party="host")
def list_half_in_buffer(world: World) -> None:
    """A list begins in the buffer and goes on in host memory, though CMBLOC has no CDPMLS."""
    driver = world.sides[0].drivers[0]

    def place(pages: list[int]) -> int:
        rest, start = driver.memory.allocate(), 15 * PAGE - 16
        driver.memory.write(rest, _entries(pages[1:]))
        driver.root.write(BUFFER + start, _entries([pages[0], rest]))
        return PLACE + start

    _at(world, "data", lambda: _listed(world, place))


@fault("queue-in-buffer-without-cqs", "NVM21-8.2.1-n3", SCENARIO, party="host", shared=True)
def queue_in_buffer_without_cqs(world: World) -> None:
    """A completion queue is in a buffer without CQS, and the controller takes it."""

    def offer(original: Callable[..., None], pages: int, uses: int, mixtures: int) -> None:
        original(pages, uses & ~2, mixtures)

    instead(_manager(world), "offer_buffer", offer)


@fault("admin-queue-in-disabled-buffer", "NVM21-8.2.1-n4", SCENARIO, party="host")
def admin_queue_in_disabled_buffer(world: World) -> None:
    """ACQ is in the buffer while CMSE is 0."""
    driver = world.sides[0].drivers[0]

    def write(original: Callable[..., None], offset: int, value: int, *size: int) -> None:
        original(offset, PLACE if offset == Property.ACQ else value, *size)

    def happens() -> Steps[None]:
        driver.write(Property.CMBMSC, PLACE | 1, 8)
        instead(driver, "write", write)
        yield 2 * US

    _at(world, "disabled", happens)


@fault("buffer-used-while-disabled", "NVM21-8.2.1-n4", SCENARIO, party="host")
def buffer_used_while_disabled(world: World) -> None:
    """A command names data in the buffer while CMSE is 0."""

    def happens() -> Steps[None]:
        world.sides[0].drivers[0].write(Property.CMBMSC, PLACE | 1, 8)
        yield 2 * US
        yield from _sends(world, lambda: (PLACE + DATA, 0), 0)

    _at(world, "data", happens)


def _across(function: Function, act: Callable[[], Any]) -> Any:
    """Do something as if the function had no buffer."""
    buffer, function.buffer = function.buffer, None
    made = act()
    function.buffer = buffer
    return made


@fault("own-entry-posted-across-link", "NVM21-8.2.1-n7", SCENARIO)
def own_entry_posted_across_link(world: World) -> None:
    """Entries of a completion queue in the buffer are written across the link too."""
    manager = _manager(world)
    function = manager.function

    def post(original: Callable[..., None], queue: CompletionQueue, command: Command, *rest: Any) -> None:
        address = queue.base + CQE_SIZE * queue.tail
        original(queue, command, *rest)
        if queue.qid == INSIDE:
            entry = bytes(CQE_SIZE)
            _across(function, lambda: function.write_tlp(address, entry))

    instead(manager, "post", post)


@fault("own-entry-fetched-across-link", "NVM21-8.2.1-n1", SCENARIO)
def own_entry_fetched_across_link(world: World) -> None:
    """Entries of a submission queue in the buffer are read across the link too."""
    manager = _manager(world)
    function = manager.function

    def fetch(original: Callable[..., Steps[None]], queue: SubmissionQueue, count: int) -> Steps[None]:
        if queue.qid == INSIDE:
            steps = function.read([(queue.base + 64 * queue.head, 64)])
            first = _across(function, lambda: next(steps))
            yield first
            yield from steps
        yield from original(queue, count)

    instead(manager, "_fetch", fetch)


@fault("own-buffer-read-across-link", "NVM21-8.2.1-n9", SCENARIO)
def own_buffer_read_across_link(world: World) -> None:
    """The controller reads data in its own buffer across the link."""
    function = _manager(world).function

    def happens() -> Steps[None]:
        steps = function.read([(PLACE + DATA, 64)])
        yield _across(function, lambda: next(steps))
        yield from steps

    _at(world, "data", happens)


@fault("region-used-while-disabled", "NVM21-8.2.4-n1", SCENARIO, party="host")
def region_used_while_disabled(world: World) -> None:
    """The host writes to the persistent memory region before it enables it."""

    def happens() -> Steps[None]:
        world.sides[0].root.write(REGION, bytes(64))
        yield 1 * US

    _at(world, "region disabled", happens)


@fault("region-not-persistent", "NVM21-8.2.4-n2", SCENARIO)
def region_not_persistent(world: World) -> None:
    """The persistent memory region loses a byte when the controller is reset."""
    manager = _manager(world)

    def reset(original: Callable[[], None]) -> None:
        original()
        if manager.region is not None:
            manager.region.window.data[70] ^= 0xFF

    instead(manager, "reset", reset)


@fault("region-not-ready-in-time", "NVM21-8.2.4-n3", SCENARIO)
def region_not_ready_in_time(world: World) -> None:
    """The persistent memory region takes longer to be ready than PMRTO says."""

    def happens() -> Steps[None]:
        region = _manager(world).region
        if region is not None:
            region.ready_after = 750 * MS
        yield 1 * US

    _at(world, "region disabled", happens)


@fault("buffer-place-forgotten", "NVM21-3.7.2-n5", SCENARIO)
def buffer_place_forgotten(world: World) -> None:
    """A Controller Reset clears CMBMSC."""
    manager = _manager(world)

    def reset(original: Callable[[], None]) -> None:
        original()
        manager._put(Property.CMBMSC, 0)
        manager._put(Property.CMBMSC + 4, 0)

    instead(manager, "reset", reset)
