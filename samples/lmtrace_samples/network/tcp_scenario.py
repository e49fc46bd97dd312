"""The scenario of NVMe/TCP: one controller, an admin queue and two I/O queues, and commands refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lmtrace.scenario import Options, WireFrame, network_scenario
from lmtrace.spec.nvme import INVALID_OPCODE, Nvm, Status
from lmtrace_samples.network import command_faults, tcp_data_faults, tcp_faults
from lmtrace_samples.network.commands import ADMIN_SLOTS, SQ_SLOTS
from lmtrace_samples.network.faults import TCP_FAULTS, apply
from lmtrace_samples.network.nvme_tcp import Model, Queue

NAME = "nvme-tcp"
COMMANDS = 24
LBA_OUT_OF_RANGE = Status(0, 0x80)
ABORTED = Status(0, 0x08)
VENDOR_SPECIFIC = 0xC1


def script(model: Model) -> Iterator[None]:
    """Connect, identify, write and read on two queues, shut down. Yields after each part."""
    admin = model.open(0, ADMIN_SLOTS, True)
    model.connect(admin)
    yield
    model.enable(admin)
    model.identify(admin)
    event = model.prepare(admin)
    yield
    queues = [model.open(1, SQ_SLOTS, True), model.open(2, SQ_SLOTS, False)]
    for queue in queues:
        model.connect(queue)
    yield
    commands = COMMANDS if model.options.commands is None else model.options.commands
    for number in range(commands):
        if model.options.commands is not None and number >= 12:
            model.read(queues[number % 2], 8)
        else:
            one_of_many(model, queues, number)
        if number % 8 == 7:
            model.keep_alive(admin)
        yield
    model.simple(admin, INVALID_OPCODE, OPC=VENDOR_SPECIFIC)
    failing = model.io(queues[0], Nvm.READ, 8)
    model.capsule(failing)
    model.respond(failing, LBA_OUT_OF_RANGE)
    yield
    model.shut_down(admin)
    model.respond(event, ABORTED)
    for queue in reversed(model.queues):
        if queue.stream.open:
            queue.stream.close()
    yield


def one_of_many(model: Model, queues: list[Queue], number: int) -> None:
    """Do one of the things that hosts do."""
    queue = queues[number // 6 % 2]
    match number % 6:
        case 0:
            model.write(queue, 4, inside=True)
        case 1:
            model.write(queue, 24)
        case 2 | 3:
            model.read(queue, (8, 32)[number % 2])
        case 4:
            model.interleaved(queues[0], 16)
        case _:
            model.simple(queue, OPC=Nvm.FLUSH, NSID=1)


def play(options: Options) -> Mapping[str, Iterator[WireFrame]]:
    """NVMe/TCP from the first connection to shutdown: in-capsule data, R2T, the SUCCESS flag, digests, odd segments."""
    return {"": frames(options)}


def frames(options: Options) -> Iterator[WireFrame]:
    """Yield the frames of a run."""
    model = Model(options)
    if options.fault is not None:
        apply(options.fault, model)
    for _ in script(model):
        yield from model.frames
        model.frames.clear()
    yield from model.frames


FAULTS = (tcp_faults, tcp_data_faults, command_faults)
"""The modules whose import registers the faults."""
network_scenario(NAME, tuple(fault for fault, _ in TCP_FAULTS.values()))(play)
