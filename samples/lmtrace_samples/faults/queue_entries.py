"""Faults of completions that are not the ones that are due, and of what queues are created with (G08 to G10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, SUCCESS, Admin, Cns, Nvm, Status
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.engine import Engine
from lmtrace_samples.enumeration import MSIX
from lmtrace_samples.fault import fault, instead, known
from lmtrace_samples.queues import Command, CompletionQueue, SubmissionQueue
from lmtrace_samples.record import Done
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.world import World

SCENARIO = "queue-lives"
USED = 1
LATE = 5
"""Which entry of the I/O completion queue goes wrong: others were seen before it."""


def _controller(world: World) -> Engine:
    return world.sides[0].subsystem.controllers[USED]


def _driver(world: World) -> Driver:
    return world.sides[0].drivers[USED]


# -- entries ------------------------------------------------------------------------------------------------------

Write = Callable[[int, bytes], int]


def entry(
    name: str, rule: str, text: str, change: Callable[[Write, int, bytes, CompletionQueue], Any], number: int = LATE
) -> None:
    """Register the fault of a controller that writes one entry wrongly: ``change(write, address, entry, queue)``."""

    def apply(world: World) -> None:
        controller, count = _controller(world), [0]

        def write_tlp(original: Write, address: int, data: bytes) -> int:
            queue = controller.cqs.get(USED)
            if queue is not None and 0 <= address - queue.base < CQE_SIZE * queue.size:
                count[0] += 1
                if count[0] == number:
                    change(original, address, data, queue)
                    return controller.clock.now
            return original(address, data)

        instead(controller.function, "write_tlp", write_tlp)

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


def _with(data: bytes, at: int, value: int, size: int = 2) -> bytes:
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def _status(status: Status, more: int = 0) -> Callable[[Write, int, bytes, CompletionQueue], Any]:
    """Return what writes an entry with another status, and ``more`` bits of it."""

    def change(write: Write, address: int, data: bytes, queue: CompletionQueue) -> None:
        write(address, _with(data, 14, data[14] & 1 | status.sc << 1 | status.sct << 9 | more << 14))

    return change


def _stray(change: Callable[[bytes], bytes]) -> Callable[[Write, int, bytes, CompletionQueue], Any]:
    """Return what posts another entry before the one that is due."""

    def both(write: Write, address: int, data: bytes, queue: CompletionQueue) -> None:
        write(address, change(data))
        queue.tail = (queue.tail + 1) % queue.size
        write(queue.base + CQE_SIZE * queue.tail, _with(data, 14, data[14] & 0xFE | (queue.tail != 0) & data[14], 1))

    return both


entry("entry-out-of-turn", "NVM21-4.2.1-n1", "An entry goes to the slot behind the next one.",
      lambda write, address, data, queue: write(address + CQE_SIZE, data))  # fmt: skip
entry("phase-of-another-lap", "NVM21-4.2.4-n1", "An entry has the phase tag of another lap.",
      lambda write, address, data, queue: write(address, _with(data, 14, data[14] ^ 1, 1)))  # fmt: skip
entry("completion-of-no-command", "NVM21-4.2.1-n3", "An entry names a command that there is not.",
      _stray(lambda data: _with(data, 12, 0x4444)))  # fmt: skip
entry("completed-twice", "NVM21-4.2.1-n4", "A command is completed twice.", _stray(lambda data: data))
entry("completion-names-another-queue", "NVM21-4.2.1-n5", "An entry names the admin submission queue.",
      lambda write, address, data, queue: write(address, _with(data, 10, 3)))  # fmt: skip
entry("head-pointer-stays", "NVM21-4.2.1-n7", "SQHD stays at the entry of the command that is completed.",
      lambda write, address, data, queue: write(address, _with(data, 8, data[8] - 1)), number=3)  # fmt: skip
entry("reserved-status-type", "NVM21-4.2.3-n1", "A command ends with a status code type that is reserved.",
      _status(Status(5, 0)))  # fmt: skip
entry("reserved-status-code", "NVM21-4.2.3-n2", "A command ends with a status code that is reserved.",
      _status(Status(0, 0x70)))  # fmt: skip
entry("success-not-to-be-retried", "NVM21-4.2.3-n3", "A command succeeds, and must not be retried.",
      _status(SUCCESS, 2))  # fmt: skip


@fault("completed-before-fetch", "NVM21-4.2.1-n10", SCENARIO)
def completed_before_fetch(world: World) -> None:
    """A command is completed before its entry was read."""
    controller, done = _controller(world), [0]

    def fetch(original: Callable[..., Steps[None]], queue: SubmissionQueue, count: int) -> Steps[None]:
        done[0] += queue.qid != 0
        if queue.qid and done[0] == LATE:
            sqe = controller.function.memory.read(queue.base + SQE_SIZE * queue.head, SQE_SIZE)
            early = Command(queue, sqe, Done("", 0, 0, USED, 0, sqe, 0, USED))
            controller.post(controller.cqs[queue.cqid], early, SUCCESS, (0, 0))
            controller.nvm[Nvm.FLUSH] = lambda command: _never(command, early.cid, flush)
        yield from original(queue, count)

    flush = controller.nvm[Nvm.FLUSH]
    instead(controller, "_fetch", fetch)


def _never(command: Command, cid: int, otherwise: Callable[[Command], Any]) -> Any:
    """Execute a command, but the first one of an identifier never."""
    return _sleep() if command.cid == cid else otherwise(command)


def _sleep() -> Steps[None]:
    yield 10_000_000 * US


@fault("head-pointer-beyond-fetched", "NVM21-4.2.1-n6", SCENARIO)
def head_pointer_beyond_fetched(world: World) -> None:
    """SQHD is the tail, though not every entry before it was fetched."""
    world.choices.burst = 1
    controller = _controller(world)
    controller.nvm[Nvm.FLUSH] = lambda command: None

    def post(original: Callable[..., None], queue: CompletionQueue, command: Command, *rest: Any) -> None:
        head, command.queue.head = command.queue.head, command.queue.tail
        original(queue, command, *rest)
        command.queue.head = head

    def fetch(original: Callable[..., Steps[None]], queue: SubmissionQueue, count: int) -> Steps[None]:
        yield from original(queue, count)
        yield 2 * US

    instead(controller, "post", post)
    instead(controller, "_fetch", fetch)


@fault("command-never-completed", "NVM21-3.4.5-n3", SCENARIO)
def command_never_completed(world: World) -> None:
    """A command is fetched and never completed, though the controller goes on for more than a second."""
    driver = _driver(world)
    _controller(world).admin[Admin.GET_LOG_PAGE] = lambda command: _sleep()

    def happens() -> Steps[None]:
        yield from driver.queues[0].send(Admin.GET_LOG_PAGE, 0, driver.buffer().prps(512), {10: 127 << 16 | 2})
        yield 1_100_000 * US
        yield from driver.identify(Cns.CONTROLLER)

    world.moments["at the end"] = [happens]


# -- the end of a submission queue --------------------------------------------------------------------------------


def _works_on(world: World, ends: Callable[[Engine, SubmissionQueue], Any]) -> None:
    """Let commands of a queue go on though it is deleted, and ``ends`` say what becomes of them."""
    controller = _controller(world)

    def abort(original: Callable[..., None], queue: SubmissionQueue) -> None:
        ends(controller, queue)

    instead(controller, "abort", abort)


@fault("data-of-deleted-queue", "NVM21-5.2.4-n1", SCENARIO)
def data_of_deleted_queue(world: World) -> None:
    """The data of a read move after its submission queue was deleted."""

    def move(controller: Engine, queue: SubmissionQueue) -> None:
        for command, process in queue.running.items():
            process.stop()
            controller.open -= 1
            controller.clock.after(
                150 * NS, controller.function.write, command.prp1, bytes(controller.choices.block_size)
            )

    _works_on(world, move)


@fault("completion-of-deleted-queue", "NVM21-4.2.1-n11", SCENARIO)
def completion_of_deleted_queue(world: World) -> None:
    """A command is completed after its submission queue was deleted."""
    driver = _driver(world)

    def delete(original: Callable[..., Steps[None]], queue: HostQueue) -> Steps[None]:
        yield from driver.command(Admin.DELETE_IO_SQ, cdw={10: queue.qid})
        yield 30 * US
        yield from driver.command(Admin.DELETE_IO_CQ, cdw={10: queue.qid})
        del driver.queues[queue.qid]

    def later(controller: Engine, queue: SubmissionQueue) -> None:
        for command, process in queue.running.items():
            process.stop()
            controller.open -= 1
            controller.clock.after(10 * US, controller.post, controller.cqs[queue.cqid], command, SUCCESS, (0, 0))

    instead(driver, "delete_queue", delete)
    _works_on(world, later)


# -- how queues are created ---------------------------------------------------------------------------------------


def _asks(
    name: str, rule: str, text: str, opcode: int, change: Callable[[Driver, dict[str, Any]], None],
    shared: bool = False,
) -> None:  # fmt: skip
    """Register the fault of a host that creates its queue with something else; the controller takes it."""

    def apply(world: World) -> None:
        driver, controller = _driver(world), _controller(world)
        trusting: list[bool] = []
        instead(controller, "_check_queue", lambda original, *given: None if trusting else original(*given))

        def command(original: Callable[..., Steps[Any]], sent: int, *rest: Any, **named: Any) -> Steps[Any]:
            if sent == opcode and not rest and named["cdw"][10] & 0xFFFF == USED:
                change(driver, named)
                trusting.append(True)
            answer = yield from original(sent, *rest, **named)
            trusting.clear()
            return answer

        instead(driver, "command", command)

    apply.__doc__ = text
    fault(name, rule, SCENARIO, party="host", shared=shared)(apply)


def _more_entries(driver: Driver, named: dict[str, Any]) -> None:
    named["cdw"][10] = driver.choices.mqes + 1 << 16 | USED


def _misplaced(driver: Driver, named: dict[str, Any]) -> None:
    named["prps"] = (named["prps"][0] + 64, 0)


def _urgent(driver: Driver, named: dict[str, Any]) -> None:
    named["cdw"][11] |= 2 << 1


_asks("queue-larger-than-allowed", "NVM21-5.2.1-n4", "The host creates a queue with more entries than CAP.MQES.",
      Admin.CREATE_IO_CQ, _more_entries, shared=True)  # fmt: skip
_asks("queue-within-a-page", "NVM21-5.2.1-n6", "The host puts the beginning of a queue within a page.",
      Admin.CREATE_IO_CQ, _misplaced)  # fmt: skip
_asks("priority-with-round-robin", "NVM21-5.2.2-n5", "The host gives a queue a priority, with round robin.",
      Admin.CREATE_IO_SQ, _urgent)  # fmt: skip


@fault("misaligned-queue-created", "NVM21-5.2.1-n7", SCENARIO, shared=True)
def misaligned_queue_created(world: World) -> None:
    """A queue is created whose beginning lies within a page; the host asked for it."""
    known["queue-within-a-page"].change(world)


@fault("submission-queue-first", "NVM21-5.2.2-n6", SCENARIO, party="host", shared=True)
def submission_queue_first(world: World) -> None:
    """The host creates a submission queue before its completion queue, and the controller bears it."""
    driver, controller = _driver(world), _controller(world)

    def create(original: Callable[..., Steps[HostQueue]], qid: int, *rest: Any) -> Steps[HostQueue]:
        place = (driver.memory.allocate(1), 0)
        yield from driver.command(Admin.CREATE_IO_SQ, prps=place, cdw={10: 6 << 16 | 3, 11: 3 << 16 | 1})
        controller.sqs.pop(3, None)
        return (yield from original(qid, *rest))

    sq = controller.admin[Admin.CREATE_IO_SQ]
    controller.admin[Admin.CREATE_IO_SQ] = lambda one: None if one.bits(10, 15, 0) == 3 else sq(one)
    instead(driver, "create_queue", create)


@fault("vector-beyond-table", "NVM21-5.2.1-n8", SCENARIO, shared=True)
def vector_beyond_table(world: World) -> None:
    """A completion queue is created with a vector that the function does not have."""
    world.choices.enumerate = True
    controller = _controller(world)
    instead(world.sides[0], "start", lambda original: _start(world, original))
    create = controller.admin[Admin.CREATE_IO_CQ]
    controller.admin[Admin.CREATE_IO_CQ] = lambda one: None if one.bits(11, 31, 16) == 200 else create(one)


def _start(world: World, start: Callable[[], Steps[None]]) -> Steps[None]:
    """Begin as a host does that also reads how many vectors a virtual function has."""
    yield from start()
    driver = _driver(world)
    yield from driver.root.configure(driver.function.number, MSIX, None)


@fault("vector-not-programmed", "NVM21-5.2.1-n11", SCENARIO, party="host")
def vector_not_programmed(world: World) -> None:
    """The host creates a completion queue with a vector that it has not written to the MSI-X table."""
    world.choices.enumerate = True
    driver = _driver(world)
    instead(world.sides[0], "start", lambda original: _start(world, original))

    def create(original: Callable[..., Steps[HostQueue]], qid: int, depth: int, vector: int) -> Steps[HostQueue]:
        queue = yield from original(qid, depth, 7)
        queue.driver.root.clock.start(_look(queue))
        return queue

    instead(driver, "create_queue", create)


def _look(queue: HostQueue) -> Steps[None]:
    """Poll a queue whose interrupts go nowhere."""
    while queue.driver.queues.get(queue.qid) is queue:
        queue.reap()
        yield 2 * US


@fault("identifier-used-twice", "NVM21-4.1.1-n2", SCENARIO, party="host")
def identifier_used_twice(world: World) -> None:
    """Two commands that are outstanding have the same identifier."""
    last: list[bytes] = [b""]

    def entry(original: Callable[..., bytes], qid: int, sqe: bytes) -> bytes:
        if qid and sqe[0] == Nvm.READ:
            last[0] = last[0] or sqe[2:4]
            return sqe[:2] + last[0] + sqe[4:]
        return sqe

    instead(_driver(world), "entry", entry)


@fault("more-commands-than-completions", "NVM21-5.2.1-n10", SCENARIO, party="host")
def more_commands_than_completions(world: World) -> None:
    """The host has more commands outstanding than the completion queue takes."""
    world.choices.small_queues, world.choices.count_completions = True, False
