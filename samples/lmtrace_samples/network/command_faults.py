"""Faults of Fabrics commands and queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.fabrics import (
    INVALID_PARAMETERS,
    Fctype,
)
from lmtrace.spec.nvme import INVALID_FIELD, Admin, Feature, Nvm, Property
from lmtrace_samples.fault import instead
from lmtrace_samples.network.commands import unclaimed
from lmtrace_samples.network.faults import after, before, fault, is_controlled, is_io, once, put
from lmtrace_samples.network.nvme_tcp import Model, Queue, Request

# -- Fabrics commands -------------------------------------------------------------------------------------------


@fault("command-before-connect", "NVM21-6.3-n1", "host")
def _(model: Model) -> None:
    """The host sends a command on a queue that is not connected."""

    def flush(queue: Queue) -> None:
        if queue.qid:
            model.simple(queue, INVALID_FIELD, OPC=Nvm.FLUSH, NSID=1)

    before(model, "connect", flush)


@fault("host-name-missing", "NVM21-6.3-n2", "host")
def _(model: Model) -> None:
    """The host connects without a name."""
    once(model, "CapsuleCmd", lambda _, pdu: setattr(pdu, "data", pdu.data[:512] + bytes(512)))


@fault("other-host-joins", "NVM21-6.3-n3")
def _(model: Model) -> None:
    """The controller lets another host connect an I/O queue."""
    once(model, "CapsuleCmd", lambda _, pdu: setattr(pdu, "data", b"\xee" + pdu.data[1:]), is_io)


@fault("connect-refused-oddly", "NVM21-6.3-n4")
def _(model: Model) -> None:
    """A refused Connect points behind its entry."""
    refused: list[Queue] = []

    def respond(original: Callable[..., None], request: Request, *arguments: Any, **named: Any) -> None:
        if refused:
            original(request, INVALID_PARAMETERS, 900)
        else:
            original(request, *arguments, **named)

    instead(model, "respond", respond)

    def connect(original: Callable[[Queue], None], queue: Queue) -> None:
        if queue.qid == 1:
            refused.append(queue)
            original(queue)
            refused.clear()
        original(queue)

    instead(model, "connect", connect)


@fault("io-queue-before-ready", "NVM21-6.3-n5", "host")
def _(model: Model) -> None:
    """The host connects I/O queues before the controller is ready."""
    instead(model, "ready", lambda original, queue: model.get(queue, Property.CSTS, 0))


@fault("queue-in-use-connected", "NVM21-6.3-n6")
def _(model: Model) -> None:
    """The controller lets a queue that is in use be connected again."""

    def prepare(original: Callable[..., Queue], qid: int, slots: int, flow: bool) -> Queue:
        return original(min(qid, 1), slots, flow)

    instead(model, "open", prepare)


@fault("queue-too-long", "NVM21-6.3-n7", "host")
def _(model: Model) -> None:
    """The host asks for a longer queue than the controller has."""
    put(model, "CapsuleCmd", 52, 2, lambda _: 1000, is_io)


@fault("half-of-cap-read", "NVM21-6.5-n1")
def _(model: Model) -> None:
    """The controller returns CAP in 4 bytes."""
    put(model, "CapsuleCmd", 48, 1, lambda _: 0,
        lambda queue, pdu: pdu.opcode == 0x7F and pdu.body[4] == Fctype.PROPERTY_GET)  # fmt: skip


@fault("read-only-property-set", "NVM21-6.6-n1", "host")
def _(model: Model) -> None:
    """The host writes CSTS."""
    before(model, "identify", lambda queue: model.set(queue, Property.CSTS, 1, INVALID_FIELD))


@fault("not-ready-in-time", "NVM21-6.6-n2")
def _(model: Model) -> None:
    """The controller takes longer to be ready than it said."""

    def ready(original: Callable[[Queue], None], queue: Queue) -> None:
        for _ in range(3):
            model.wait(2.5)
            model.get(queue, Property.CSTS, 0)
        original(queue)

    instead(model, "ready", ready)


@fault("reserved-bits-of-property-get", "NVM21-6.5-n2", "host")
def _(model: Model) -> None:
    """The host sets reserved bytes of a Property Get."""
    put(model, "CapsuleCmd", 64, 4, lambda _: 1, lambda queue, pdu: pdu.body[4] == Fctype.PROPERTY_GET)


@fault("connect-without-descriptor", "NVM21-4.1.2-n1", "host")
def _(model: Model) -> None:
    """The host describes the data of a Connect by a segment descriptor."""
    put(model, "CapsuleCmd", 47, 1, lambda _: 0x20, is_io)


@fault("reserved-type-accepted", "NVM21-4.1.2-n2")
def _(model: Model) -> None:
    """The controller takes a Fabrics command of a reserved type."""

    def identify(original: Callable[[Queue], None], queue: Queue) -> None:
        request = model.fabrics(queue, bytes(64), 0x30)
        model.capsule(request)
        model.respond(request)
        original(queue)

    instead(model, "identify", identify)


@fault("response-after-disconnect", "NVM21-6.4-n1")
def _(model: Model) -> None:
    """The controller completes a command after the Disconnect of its queue."""

    def shut_down(original: Callable[[Queue], None], queue: Queue) -> None:
        late = model.request(model.queues[1], OPC=Nvm.FLUSH, NSID=1)
        model.capsule(late)
        model.disconnect(model.queues[1])
        model.respond(late)
        original(queue)

    instead(model, "shut_down", shut_down)


@fault("admin-queue-disconnected", "NVM21-6.4-n2")
def _(model: Model) -> None:
    """The controller takes a Disconnect on the admin queue."""
    after(model, "shut_down", model.disconnect)


@fault("authentication-skipped", "NVM21-6.1-6.2-n1")
def _(model: Model) -> None:
    """The controller asks for authentication and serves without it."""
    model.authentication = 1 << 17


@fault("silent-host", "NVM21-3.9-n3", "host")
def _(model: Model) -> None:
    """The host is silent for longer than its keep alive timeout."""
    before(model, "keep_alive", lambda queue: model.wait(12))


@fault("head-pointer-outside", "NVM21-3.3.2-n1")
def _(model: Model) -> None:
    """SQHD points behind the end of the queue."""
    put(model, "CapsuleResp", 16, 2, lambda _: 500, is_controlled)


@fault("response-to-nobody", "NVM21-4.2.1-n14")
def _(model: Model) -> None:
    """The controller completes a command that nobody sent."""
    put(model, "CapsuleResp", 20, 2, lambda _: 0xABC, is_controlled)


@fault("keep-alive-switched-off", "NVM21-5.1.25-n14")
def _(model: Model) -> None:
    """The controller lets the host switch the Keep Alive Timer off."""
    before(
        model, "shut_down",
        lambda queue: model.simple(queue, OPC=Admin.SET_FEATURES, CDW10=Feature.KEEP_ALIVE_TIMER, CDW11=0),
    )  # fmt: skip


@fault("migration-not-claimed", "HMLM-5.1.13.2.1-n10", "host")
def _(model: Model) -> None:
    """The host asks for a controller state although the controller does not claim migration."""
    unclaimed(model)
