"""Faults of NVMe/RDMA: connections, capsules, and memory that was lent or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.scenario import Fault
from lmtrace.spec.fabrics import RDMA_REQUEST, SGL_KEYED_INVALIDATE
from lmtrace_samples.fault import instead
from lmtrace_samples.network.commands import SQ_SLOTS, unclaimed
from lmtrace_samples.network.nvme_rdma import Model, Queue, Request, lent

Change = Callable[[Model], None]
RDMA_FAULTS: dict[str, tuple[Fault, Change]] = {}


def fault(name: str, rule: str, party: str = "controller") -> Callable[[Change], Change]:
    """Register a function as the fault ``name``; its docstring's first line says what goes wrong."""

    def add(change: Change) -> Change:
        text = (change.__doc__ or "").strip().splitlines()[0]
        RDMA_FAULTS[name] = Fault(name, rule, party, text), change
        return change

    return add


def _once(model: Model, method: str, action: Callable[..., Any], when: Callable[[Request], bool]) -> None:
    """Replace the first call of a method whose request ``when`` lets through."""
    done: list[bool] = []

    def call(original: Callable[..., Any], request: Request, *arguments: Any, **named: Any) -> Any:
        if done or not when(request):
            return original(request, *arguments, **named)
        done.append(True)
        return action(original, request, *arguments, **named)

    instead(model, method, call)


def _is_io(request: Request) -> bool:
    return request.queue.qid > 0


def _asked(model: Model, **fields: int) -> None:
    """Give fields of the private data of the second connection request other values."""

    def asks(original: Callable[[int, int], bytes], qid: int, slots: int) -> bytes:
        data = original(qid, slots)
        return RDMA_REQUEST.encode(**{**RDMA_REQUEST.decode(data), **fields}) if qid == 1 else data

    instead(model, "asks", asks)


# -- connections ------------------------------------------------------------------------------------------------


@fault("connection-request-of-another-format", "RDMA-3.1-n1", "host")
def _(model: Model) -> None:
    """The private data of a connection request have a record format that is not defined."""
    _asked(model, RECFMT=1)


@fault("no-room-for-responses", "RDMA-3.1-n1", "host")
def _(model: Model) -> None:
    """The host asks for a queue pair with a receive queue of no entries."""
    _asked(model, HRQSIZE=0)


@fault("io-queue-pair-first", "RDMA-3.1-n1", "host")
def _(model: Model) -> None:
    """The host connects the queue pair of an I/O queue before that of the admin queue."""
    early: list[Queue] = []

    def open_(original: Callable[..., Queue], qid: int, slots: int, flow_control: bool) -> Queue:
        if not early:
            early.append(original(1, SQ_SLOTS, True))
        return early[0] if qid == 1 else original(qid, slots, flow_control)

    instead(model, "open", open_)


@fault("rejected-for-no-reason", "RDMA-3.3-n7")
def _(model: Model) -> None:
    """The controller rejects a connection for a reason that is not defined."""
    instead(model, "refused", lambda original, qid, slots: original(qid, slots, 9))


# -- capsules ---------------------------------------------------------------------------------------------------


@fault("capsule-too-large", "RDMA-3.3-n1", "host")
def _(model: Model) -> None:
    """The host puts more data into a capsule than the controller takes."""
    instead(
        model, "write", lambda original, queue, blocks, inside=False: original(queue, 12 if inside else blocks, inside)
    )


@fault("capsule-too-short", "RDMA-3.3-n1", "host")
def _(model: Model) -> None:
    """The host sends a capsule of 60 bytes."""

    def flush(original: Callable[..., None], queue: Queue, *arguments: Any, **named: int) -> None:
        original(queue, *arguments, **named)
        if queue.qid == 1:
            queue.stream.send(False, model.entry(queue, 0, False, **named)[:60])

    instead(model, "simple", flush)


@fault("data-missing-in-capsule", "RDMA-3.3-n1", "host")
def _(model: Model) -> None:
    """A capsule ends before the data that its descriptor announces."""
    _once(model, "capsule", lambda _, request: request.queue.stream.send(False, request.sqe + request.data[:512]),
          lambda request: request.inside)  # fmt: skip


# -- memory -----------------------------------------------------------------------------------------------------


@fault("write-with-a-foreign-key", "RDMA-3.3-n2")
def _(model: Model) -> None:
    """The controller writes with a key that the host did not give."""

    def write(original: Callable[..., None], request: Request, offset: int, data: bytes) -> None:
        request.queue.stream.write(lent(request)[0] + offset, 0xBAD0BAD, data)

    _once(model, "write_to", write, _is_io)


@fault("write-beyond-the-buffer", "RDMA-3.3-n2")
def _(model: Model) -> None:
    """The controller writes behind the memory that the host lent."""
    _once(
        model, "write_to", lambda original, request, offset, data: original(request, offset + (1 << 20), data), _is_io
    )


@fault("read-beyond-the-buffer", "RDMA-3.3-n2")
def _(model: Model) -> None:
    """The controller reads more than the host lent."""
    _once(
        model, "read_from", lambda original, request, parts: original(request, [*parts, (1 << 20, bytes(512))]), _is_io
    )


@fault("data-of-a-write-overwritten", "RDMA-3.3-n3")
def _(model: Model) -> None:
    """The controller writes into the data of a write."""

    def takes(original: Callable[[Request], None], request: Request) -> None:
        original(request)
        model.write_to(request, 0, bytes(512))

    _once(model, "takes", takes, _is_io)


@fault("buffer-of-a-read-read", "RDMA-3.3-n3")
def _(model: Model) -> None:
    """The controller reads the buffer that it has to fill."""

    def returns(original: Callable[..., None], request: Request, data: bytes, success: bool = False) -> None:
        model.read_from(request, [(0, bytes(512))])
        original(request, data, success)

    _once(model, "returns", returns, _is_io)


@fault("data-after-the-response", "RDMA-3.3-n4")
def _(model: Model) -> None:
    """The controller writes a part of the data of a read after its response."""

    def returns(original: Callable[..., None], request: Request, data: bytes, success: bool = False) -> None:
        original(request, data, success)
        model.write_to(request, 0, data[:512])

    _once(model, "returns", returns, _is_io)


@fault("another-key-invalidated", "RDMA-3.3-n5")
def _(model: Model) -> None:
    """A response takes a key away that is not the one of its command."""
    _once(model, "complete", lambda _, request, cqe: request.queue.stream.send(True, cqe, lent(request)[1] + 1),
          lambda request: _is_io(request) and request.sqe[39] == SGL_KEYED_INVALIDATE)  # fmt: skip


@fault("key-invalidated-unasked", "RDMA-3.3-n5")
def _(model: Model) -> None:
    """A response takes a key away although the host keeps it."""
    _once(model, "complete", lambda _, request, cqe: request.queue.stream.send(True, cqe, lent(request)[1]),
          lambda request: request.queue.lends and request.length > 0 and not request.inside)  # fmt: skip


@fault("read-with-data-missing", "RDMA-3.3-n6")
def _(model: Model) -> None:
    """The controller completes a read with success before it wrote the data."""
    _once(model, "returns", lambda _, request, data, success=False: model.respond(request), _is_io)


@fault("write-with-data-missing", "RDMA-3.3-n6")
def _(model: Model) -> None:
    """The controller completes a write with success without its data."""
    _once(model, "takes", lambda _, request: None, _is_io)


@fault("migration-not-claimed", "HMLM-5.1.13.2.1-n10", "host")
def _(model: Model) -> None:
    """The host asks for a controller state although the controller does not claim migration."""
    unclaimed(model)
