"""The scenario of NVMe/RDMA: one controller, an admin queue, two I/O queues, and a queue that it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lmtrace.scenario import Options, WireFrame, network_scenario
from lmtrace.spec.nvme import INVALID_OPCODE, Nvm, Status
from lmtrace_samples.network import rdma_faults
from lmtrace_samples.network.commands import ADMIN_SLOTS, SQ_SLOTS
from lmtrace_samples.network.nvme_rdma import Model, Queue

NAME = "nvme-rdma"
COMMANDS = 24
LBA_OUT_OF_RANGE = Status(0, 0x80)
ABORTED = Status(0, 0x08)
VENDOR_SPECIFIC = 0xC1


def script(model: Model) -> Iterator[None]:
    """Connect, identify, write and read on two queues, disconnect, shut down. Yields after each part."""
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
    model.refused(3, SQ_SLOTS)
    yield
    commands = COMMANDS if model.options.commands is None else model.options.commands
    for number in range(commands):
        one_of_many(model, queues, number)
        if number % 8 == 7:
            model.keep_alive(admin)
        yield
    model.simple(admin, INVALID_OPCODE, OPC=VENDOR_SPECIFIC)
    failing = model.io(queues[0], Nvm.READ, 8)
    model.capsule(failing)
    model.respond(failing, LBA_OUT_OF_RANGE)
    model.disconnect(queues[1])
    yield
    model.shut_down(admin)
    model.respond(event, ABORTED)
    for queue in reversed(model.queues):
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
            model.read(queue, (1, 32)[number % 2])
        case 4:
            model.interleaved(queue, 16)
        case _:
            model.simple(queue, OPC=Nvm.FLUSH, NSID=1)


def play(options: Options) -> Mapping[str, Iterator[WireFrame]]:
    """NVMe/RDMA over RoCEv2 from the first connection to its end: capsules, keyed buffers, keys taken back, repeats."""
    return {"": frames(options)}


def frames(options: Options) -> Iterator[WireFrame]:
    """Yield the frames of a run."""
    model = Model(options)
    if options.fault is not None:
        rdma_faults.RDMA_FAULTS[options.fault][1](model)
    for _ in script(model):
        yield from model.frames
        model.frames.clear()


network_scenario(NAME, tuple(fault for fault, _ in rdma_faults.RDMA_FAULTS.values()))(play)
