"""Faults of data over NVMe/TCP."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.fabrics import (
    LAST_PDU,
)
from lmtrace_samples.fault import instead
from lmtrace_samples.network.faults import after, fault, is_controlled, once, put
from lmtrace_samples.network.nvme_tcp import Model, Request

# -- data towards the host --------------------------------------------------------------------------------------


@fault("read-data-skip", "TCP-3.3.2.1-n1")
def _(model: Model) -> None:
    """Data of a read leave a hole."""
    put(model, "C2HData", 12, 4, lambda offset: offset + 512, is_controlled)


@fault("read-data-beyond", "TCP-3.3.2.1-n2")
def _(model: Model) -> None:
    """Data of a read go beyond its buffer."""
    put(model, "C2HData", 12, 4, lambda offset: offset + (1 << 20), is_controlled)


@fault("read-data-of-another", "TCP-3.3.2.1-n3")
def _(model: Model) -> None:
    """Data name a command that nobody sent."""
    put(model, "C2HData", 8, 2, lambda _: 0xABC, is_controlled)


@fault("last-flag-missing", "TCP-3.3.2.1-n4")
def _(model: Model) -> None:
    """The last data of a read do not say so."""
    once(model, "C2HData", lambda _, pdu: setattr(pdu, "flags", pdu.flags & ~LAST_PDU),
         lambda queue, pdu: queue.qid == 1 and bool(pdu.flags & LAST_PDU))  # fmt: skip


@fault("success-under-flow-control", "TCP-3.3.2.1-n5")
def _(model: Model) -> None:
    """The controller uses the SUCCESS flag although flow control is in force."""
    instead(model, "returns", lambda original, request, data, success=False: original(request, data, True)
            if request.queue.qid == 1 else original(request, data, success))  # fmt: skip


@fault("response-after-success", "TCP-3.3.2.1-n5")
def _(model: Model) -> None:
    """A response follows data with the SUCCESS flag."""

    def returns(original: Callable[..., None], request: Request, data: bytes, success: bool = False) -> None:
        original(request, data, success)
        if success:
            model.respond(request)

    instead(model, "returns", returns)


@fault("read-data-for-write", "TCP-3.3.2.1-n6")
def _(model: Model) -> None:
    """The controller sends data for a write."""
    after(model, "takes", lambda request: model.c2h(request, bytes(512), 0, True, False))


@fault("completed-before-data", "TCP-3.3.2.1-n7")
def _(model: Model) -> None:
    """The controller completes reads without their last data."""
    once(model, "C2HData", lambda _, pdu: [], lambda queue, pdu: queue.qid == 1 and bool(pdu.flags & LAST_PDU))


# -- data towards the controller --------------------------------------------------------------------------------


@fault("r2t-again", "TCP-3.3.2.2-n1")
def _(model: Model) -> None:
    """An R2T asks for what lies behind the data that are next."""
    put(model, "R2T", 12, 4, lambda offset: offset + 512)


@fault("too-many-r2ts", "TCP-3.3.2.2-n2")
def _(model: Model) -> None:
    """The controller has more R2Ts open than the host takes."""
    model.most_r2ts = 0

    def takes(original: Callable[[Request], None], request: Request) -> None:
        half = len(request.data) // 1024 * 512
        asked = [(901, 0, half), (902, half, len(request.data) - half)]
        for one in asked:
            model.r2t(request, *one)
        for one in asked:
            model.h2c(request, *one)

    instead(model, "takes", takes)


@fault("data-unasked", "TCP-3.3.2.2-n3", "host")
def _(model: Model) -> None:
    """The host sends data without being asked."""
    once(model, "R2T", lambda _, pdu: [])


@fault("transfer-tag-wrong", "TCP-3.3.2.2-n4", "host")
def _(model: Model) -> None:
    """The host answers under another tag."""
    put(model, "H2CData", 10, 2, lambda _: 0x7777)


@fault("write-data-out-of-order", "TCP-3.3.2.2-n5", "host")
def _(model: Model) -> None:
    """Data of a write leave a hole."""
    put(model, "H2CData", 12, 4, lambda offset: offset + 512)


@fault("write-data-too-long", "TCP-3.3.2.2-n6", "host")
def _(model: Model) -> None:
    """The host sends more data at once than the controller takes."""

    def h2c(original: Callable[..., None], request: Request, ttag: int, offset: int, length: int) -> None:
        kept, model.most_data = model.most_data, 1 << 20
        original(request, ttag, offset, length)
        model.most_data = kept

    model.most_data = 4096
    instead(model, "h2c", h2c)


@fault("r2ts-served-backwards", "TCP-3.3.2.2-n7", "host")
def _(model: Model) -> None:
    """The host serves the second R2T first."""
    model.most_r2ts = 1

    def takes(original: Callable[[Request], None], request: Request) -> None:
        half = len(request.data) // 1024 * 512
        asked = [(901, 0, half), (902, half, len(request.data) - half)]
        for one in asked:
            model.r2t(request, *one)
        for one in reversed(asked):
            model.h2c(request, *one)

    instead(model, "takes", takes)


@fault("r2t-for-read", "TCP-3.3.2.2-n8")
def _(model: Model) -> None:
    """The controller asks for data of a read."""

    def read(original: Callable[..., None], request: Request, data: bytes, success: bool = False) -> None:
        if request.queue.qid:
            model.r2t(request, 5, 0, 512)
        original(request, data, success)

    instead(model, "returns", read)


@fault("completed-before-data-came", "TCP-3.3.2.2-n9")
def _(model: Model) -> None:
    """The controller completes a write that it got no data of."""
    instead(model, "takes", lambda original, request: None)
