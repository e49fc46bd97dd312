"""Faults of queues: what is created and deleted in spite of itself, doorbells, fetches and completions gone wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import CQE_SIZE, DOORBELL_BASE, SQE_SIZE, SUCCESS, Admin, Status
from lmtrace_samples.engine import Engine
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.world import World

SCENARIO = "queue-lives"
USED = 1


def _controller(world: World) -> Engine:
    return world.sides[0].subsystem.controllers[USED]


def _accepts(name: str, rule: str, text: str, opcode: int, when: Callable[[Command], bool]) -> None:
    """Register the fault of a controller that says yes where it has to refuse; the host asked for it."""

    def change(world: World) -> None:
        controller = _controller(world)
        original = controller.admin[opcode]
        controller.admin[opcode] = lambda command: None if when(command) else original(command)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=True)(change)


for _name, _rule, _text, _opcode, _when in (
    ("completion-queue-beyond-allocated", "NVM21-5.2.1-n2", "A completion queue beyond those allocated is created.",
     Admin.CREATE_IO_CQ, lambda one: one.bits(10, 15, 0) == 99),
    ("completion-queue-of-one-entry", "NVM21-5.2.1-n3", "A completion queue with one entry is created.",
     Admin.CREATE_IO_CQ, lambda one: one.bits(10, 31, 16) == 0),
    ("scattered-queue-accepted", "NVM21-5.2.1-n5", "A queue that is not contiguous is created in spite of CQR.",
     Admin.CREATE_IO_CQ, lambda one: not one.bits(11, 0, 0)),
    ("submission-queue-beyond-allocated", "NVM21-5.2.2-n1", "A submission queue beyond those allocated is created.",
     Admin.CREATE_IO_SQ, lambda one: one.bits(10, 15, 0) == 99),
    ("submission-queue-of-one-entry", "NVM21-5.2.2-n2", "A submission queue with one entry is created.",
     Admin.CREATE_IO_SQ, lambda one: one.bits(10, 31, 16) == 0),
    ("submission-queue-without-completions", "NVM21-5.2.2-n3", "A submission queue lacks its completion queue.",
     Admin.CREATE_IO_SQ, lambda one: one.bits(11, 31, 16) == 3),
    ("submission-queue-of-admin-completions", "NVM21-5.2.2-n4", "A submission queue for completion queue 0 is created.",
     Admin.CREATE_IO_SQ, lambda one: one.bits(11, 31, 16) == 0),
    ("used-completion-queue-deleted", "NVM21-5.2.3-n1", "A completion queue that is used is deleted.",
     Admin.DELETE_IO_CQ, lambda one: one.bits(10, 15, 0) == USED and _used(one)),
    ("unknown-completion-queue-deleted", "NVM21-5.2.3-n2", "A completion queue that does not exist is deleted.",
     Admin.DELETE_IO_CQ, lambda one: one.bits(10, 15, 0) == 4),
):  # fmt: skip
    _accepts(_name, _rule, _text, _opcode, _when)


def _used(command: Command) -> bool:
    """Whether the host asks for a deletion only to have it refused: it names a place, which a deletion does not."""
    return bool(command.prp1)


# -- completions --------------------------------------------------------------------------------------------------


def _posts(name: str, rule: str, text: str, status: Status, result: tuple[int, int] = (0, 0)) -> None:
    """Register the fault of a controller that completes I/O commands with another status or result."""

    def change(world: World) -> None:
        def post(original: Callable[..., None], queue: Any, command: Command, *rest: Any) -> None:
            if queue.qid:
                original(queue, command, status, result)
            else:
                original(queue, command, *rest)

        instead(_controller(world), "post", post)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_posts("interrupted-without-retry", "NVM21-4.2.3-n5", "Commands are interrupted though nobody enabled retries.",
       Status(0, 0x21))  # fmt: skip
_posts("media-not-ready-for-io", "NVM21-4.2.3-n6", "I/O commands end with the status of admin commands without media.",
       Status(0, 0x24))  # fmt: skip
_posts("status-of-queue-creation", "NVM21-4.2.3-n8", "I/O commands end with Invalid Queue Size.", Status(1, 2))
_posts("result-of-flush", "NVM21-4.2.1-n9", "Flush returns something in dword 0.", SUCCESS, (5, 0))
_posts("aborted-by-no-deletion", "NVM21-5.2.4-n2", "Commands are aborted for a deletion that nobody asked for.",
       Status(0, 8))  # fmt: skip


def _entries(world: World, write: Callable[..., int]) -> None:
    """Change how the entries of I/O completion queues are written."""
    controller = _controller(world)

    def write_tlp(original: Callable[..., int], address: int, data: bytes) -> int:
        io = any(one.qid and 0 <= address - one.base < CQE_SIZE * one.size for one in controller.cqs.values())
        return write(original, address, data) if io else original(address, data)

    instead(controller.function, "write_tlp", write_tlp)


@fault("phase-written-first", "NVM21-4.2.1-n2", SCENARIO)
def phase_written_first(world: World) -> None:
    """Entries are written in halves, the one with the phase tag first."""

    def write(original: Callable[..., int], address: int, data: bytes) -> int:
        original(address + 8, data[8:])
        return original(address, data[:8])

    _entries(world, write)


@fault("delay-without-retry", "NVM21-4.2.3-n4", SCENARIO)
def delay_without_retry(world: World) -> None:
    """Completions tell a retry delay though nobody enabled retries."""
    _entries(world, lambda original, address, data: original(address, data[:15] + bytes((data[15] | 0x10,))))


@fault("head-pointer-beyond-tail", "NVM21-4.2.1-n8", SCENARIO)
def head_pointer_beyond_tail(world: World) -> None:
    """SQHD tells a slot more than the host has submitted."""

    def write(original: Callable[..., int], address: int, data: bytes) -> int:
        queue = _controller(world).sqs[USED]
        return original(address, data[:8] + ((queue.tail + 1) % queue.size).to_bytes(2, "little") + data[10:])

    _entries(world, write)


# -- fetches ------------------------------------------------------------------------------------------------------


def _reads(world: World, change: Callable[..., Steps[bytes]]) -> None:
    """Change how entries of the I/O submission queue are read."""
    controller = _controller(world)

    def read(original: Callable[..., Steps[bytes]], ranges: Any) -> Steps[bytes]:
        found = list(ranges)
        queue = controller.sqs.get(USED)
        if queue is not None and len(found) == 1 and 0 <= found[0][0] - queue.base < SQE_SIZE * queue.size:
            return (yield from change(original, found[0][0], found[0][1], queue))
        return (yield from original(found))

    instead(controller.function, "read", read)


@fault("fetch-within-an-entry", "NVM21-3.3.1.2-n11", SCENARIO)
def fetch_within_an_entry(world: World) -> None:
    """Entries are fetched by reads that begin half an entry too early and end half a one too late."""

    def change(original: Callable[..., Steps[bytes]], start: int, length: int, queue: Any) -> Steps[bytes]:
        if start == queue.base or start + length == queue.base + SQE_SIZE * queue.size:
            return (yield from original([(start, length)]))
        data = yield from original([(start - 32, length + SQE_SIZE)])
        return data[32:][:length]

    _reads(world, change)


@fault("fetch-beyond-queue-end", "NVM21-T3.4.1-n1", SCENARIO)
def fetch_beyond_queue_end(world: World) -> None:
    """A read of the last entry goes on behind the end of the queue."""

    def change(original: Callable[..., Steps[bytes]], start: int, length: int, queue: Any) -> Steps[bytes]:
        more = SQE_SIZE if start + length == queue.base + SQE_SIZE * queue.size else 0
        return (yield from original([(start, length + more)]))[:length]

    _reads(world, change)


@fault("entry-fetched-twice", "NVM21-3.3.1.2-n14", SCENARIO)
def entry_fetched_twice(world: World) -> None:
    """Every entry is fetched twice at once."""

    def change(original: Callable[..., Steps[bytes]], start: int, length: int, queue: Any) -> Steps[bytes]:
        data = yield from original([(start, length), (start, length)])
        return data[:length]

    _reads(world, change)


# -- doorbells ----------------------------------------------------------------------------------------------------


@fault("doorbell-of-deleted-queue", "NVM21-T3.1.2.1-n2", SCENARIO, party="host")
def doorbell_of_deleted_queue(world: World) -> None:
    """The host writes the tail doorbell of a queue that it has deleted."""
    driver = world.sides[0].drivers[USED]

    def delete(original: Callable[..., Steps[None]], queue: Any) -> Steps[None]:
        yield from original(queue)
        driver.ring(queue.qid, False, queue.tail)

    instead(driver, "delete_queue", delete)


@fault("doorbell-before-creation", "NVM21-3.3.1.1-n2", SCENARIO, party="host")
def doorbell_before_creation(world: World) -> None:
    """The host writes the tail doorbell of a queue while the controller creates it."""
    controller, driver = _controller(world), world.sides[0].drivers[USED]
    original = controller.admin[Admin.CREATE_IO_SQ]

    def create(command: Command) -> Steps[Any]:
        if command.bits(10, 15, 0) == USED and USED not in controller.sqs:
            driver.ring(USED, False, 1)
            yield 900 * NS
        return original(command)

    controller.admin[Admin.CREATE_IO_SQ] = create


@fault("doorbell-before-ready", "NVM21-3.3.1.1-n1", SCENARIO, party="host")
def doorbell_before_ready(world: World) -> None:
    """The host writes the tail doorbell of the admin queue before the controller is ready."""
    driver = world.sides[0].drivers[USED]

    def wait(original: Callable[..., Steps[None]], ready: int) -> Steps[None]:
        if ready:
            driver.ring(0, False, 1)
        yield from original(ready)

    instead(driver, "wait_ready", wait)


@fault("doorbell-of-two-bytes", "NVM21-T3.1.2-n5", SCENARIO, party="host")
def doorbell_of_two_bytes(world: World) -> None:
    """The host writes only two bytes of a doorbell."""
    driver = world.sides[0].drivers[USED]

    def ring(original: Callable[..., None], qid: int, completion: bool, value: int) -> None:
        if not qid:
            original(qid, completion, value)
            return
        offset = DOORBELL_BASE + (2 * qid + completion) * (4 << driver.choices.stride)
        driver.root.write(driver.bar + offset, value.to_bytes(2, "little"))

    instead(driver, "ring", ring)


@fault("doorbell-read", "NVM21-T3.1.2.1-n4", SCENARIO, party="host")
def doorbell_read(world: World) -> None:
    """The host reads a doorbell."""
    driver = world.sides[0].drivers[USED]

    def delete(original: Callable[..., Steps[None]], queue: Any) -> Steps[None]:
        yield from driver.read(DOORBELL_BASE + 2 * queue.qid * (4 << driver.choices.stride))
        yield from original(queue)

    instead(driver, "delete_queue", delete)


@fault("queues-in-the-same-memory", "NVM21-5.2.1-n12", SCENARIO, party="host")
def queues_in_the_same_memory(world: World) -> None:
    """The host puts a submission queue into the memory of its admin submission queue."""
    driver = world.sides[0].drivers[USED]

    def command(original: Callable[..., Steps[Any]], opcode: int, *rest: Any, **named: Any) -> Steps[Any]:
        if opcode == Admin.CREATE_IO_SQ and named["cdw"][10] & 0xFFFF == USED and not rest:
            named["prps"] = (driver.queues[0].sq, 0)
        return (yield from original(opcode, *rest, **named))

    instead(driver, "command", command)


@fault("number-of-queues-not-asked", "NVM21-5.2.1-n1", SCENARIO, party="host")
def number_of_queues_not_asked(world: World) -> None:
    """The host creates queues without setting Number of Queues."""
    driver = world.sides[0].drivers[USED]

    def command(original: Callable[..., Steps[Any]], opcode: int, *rest: Any, **named: Any) -> Steps[Any]:
        opcode = Admin.GET_FEATURES if opcode == Admin.SET_FEATURES else opcode
        return (yield from original(opcode, *rest, **named))

    instead(driver, "command", command)
