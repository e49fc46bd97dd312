"""Faults of NVMe/TCP connections, headers, digests and capsules."""

from __future__ import annotations

import struct
from collections.abc import Callable

from lmtrace.spec.fabrics import (
    LAST_PDU,
)
from lmtrace.spec.nvme import Nvm
from lmtrace_samples.fault import instead
from lmtrace_samples.network.faults import before, changed, fault, is_controlled, is_io, once, put, with_digests
from lmtrace_samples.network.nvme_tcp import Model, Queue
from lmtrace_samples.network.pdu import Pdu

# -- connection -------------------------------------------------------------------------------------------------


@fault("capsule-before-icreq", "TCP-3.1-n1", "host")
def _(model: Model) -> None:
    """The host sends a command before any ICReq."""
    once(model, "ICReq", lambda queue, pdu: [Pdu("CapsuleCmd", False, model.entry(queue, OPC=0)), pdu], is_io)


@fault("icresp-unasked", "TCP-3.1-n2")
def _(model: Model) -> None:
    """The controller sends its ICResp before the host has asked for it."""
    waiting: list[Pdu] = []

    def send(original: Callable[[Queue, Pdu], None], queue: Queue, pdu: Pdu) -> None:
        if queue.qid == 1 and pdu.name == "ICReq":
            waiting.append(pdu)
            return
        original(queue, pdu)
        if queue.qid == 1 and pdu.name == "ICResp":
            original(queue, waiting.pop())

    instead(model, "send", send)


@fault("command-before-icresp", "TCP-Xtcp-n2", "both")
def _(model: Model) -> None:
    """The host does not wait for the ICResp."""
    once(model, "ICResp", lambda queue, pdu: [Pdu("CapsuleCmd", False, model.entry(queue, OPC=0)), pdu], is_io)


@fault("pdu-of-wrong-direction", "TCP-3.3-n1", "both")
def _(model: Model) -> None:
    """The host sends a response."""
    once(
        model,
        "CapsuleCmd",
        lambda queue, pdu: [Pdu("CapsuleResp", False, bytes(16), flags=queue.flags(False)), pdu],
        is_io,
    )


@fault("reserved-pdu", "TCP-3.3-n2", "both")
def _(model: Model) -> None:
    """The controller sends a PDU of type 0Bh."""
    once(model, "CapsuleResp", lambda queue, pdu: [Pdu("CapsuleResp", True, bytes(16), type=11), pdu], is_io)


@fault("icreq-alignment", "TCP-3.6.2.2-n1", "host")
def _(model: Model) -> None:
    """The host asks for an alignment of 33 dwords."""
    put(model, "ICReq", 10, 1, lambda _: 32, is_io)


@fault("icresp-reserved", "TCP-3.6.2.3-n1")
def _(model: Model) -> None:
    """The controller sets reserved bytes of its ICResp."""
    put(model, "ICResp", 100, 1, lambda _: 1)


@fault("data-limit-too-small", "TCP-3.6.2.3-n2")
def _(model: Model) -> None:
    """The controller takes only 2048 bytes of data at once."""
    model.most_data = 2048


@fault("digest-not-asked-for", "TCP-3.3.1.1-n1")
def _(model: Model) -> None:
    """The controller enables digests that the host did not ask for."""
    with_digests(model, 0)
    put(model, "ICResp", 11, 1, lambda _: 3, is_io)


@fault("length-of-nothing", "TCP-2-n1", "both")
def _(model: Model) -> None:
    """The host sends bytes that are no PDU."""
    changed(model, "CapsuleCmd", is_io, bare=b"\x04\x00\x48\x00\x03\x00\x00\x00" + bytes(64))


# -- headers and digests ----------------------------------------------------------------------------------------


@fault("header-digest-missing", "TCP-3.3.1.1-n2", "both")
def _(model: Model) -> None:
    """The controller leaves a header digest out."""
    with_digests(model, 1)
    changed(model, "CapsuleResp", is_io, flags=0)


@fault("data-digest-missing", "TCP-3.3.1.1-n3", "both")
def _(model: Model) -> None:
    """The controller leaves a data digest out."""
    with_digests(model, 2)
    changed(model, "C2HData", is_io, flags=LAST_PDU)


@fault("header-digest-wrong", "TCP-3.3.1.1-n4", "both")
def _(model: Model) -> None:
    """A header digest does not match its header."""
    with_digests(model, 1)
    changed(model, "CapsuleResp", is_io, header_digest=b"\x12\x34\x56\x78")


@fault("data-digest-wrong", "TCP-3.3.1.1-n5", "both")
def _(model: Model) -> None:
    """Data of a write come with a wrong digest, and the write succeeds."""
    with_digests(model, 2)
    changed(model, "CapsuleCmd", lambda queue, pdu: queue.qid > 0 and bool(pdu.data) and pdu.opcode == Nvm.WRITE,
            data_digest=b"\x12\x34\x56\x78")  # fmt: skip


@fault("header-length-wrong", "TCP-3.6.2.1-n1", "both")
def _(model: Model) -> None:
    """The controller gives an R2T a header of 28 bytes."""
    changed(model, "R2T", header_length=28)


@fault("data-length-wrong", "TCP-3.6.2.1-n2", "both")
def _(model: Model) -> None:
    """The header of a C2HData announces other data than follow."""
    put(model, "C2HData", 16, 4, lambda length: length - 4, is_controlled)


@fault("data-misaligned", "TCP-3.6.2.1-n3", "both")
def _(model: Model) -> None:
    """The controller does not align data as the host asked."""
    with_digests(model, 0)
    model.alignments = 7, 0

    def send(original: Callable[[Queue, Pdu], None], queue: Queue, pdu: Pdu) -> None:
        keep = queue.host_alignment
        queue.host_alignment = 4 if pdu.name == "C2HData" and queue.qid else keep
        original(queue, pdu)
        queue.host_alignment = keep

    instead(model, "send", send)


@fault("odd-offset", "TCP-3.6.2.8-n1", "both")
def _(model: Model) -> None:
    """The controller asks for data at an odd offset."""
    put(model, "R2T", 12, 4, lambda offset: offset + 2)


# -- capsules ---------------------------------------------------------------------------------------------------


@fault("too-much-in-capsule", "TCP-3.6.2.6-n1", "host")
def _(model: Model) -> None:
    """The host puts more data into a capsule than the controller takes."""
    instead(
        model, "write", lambda original, queue, blocks, inside=False: original(queue, 12 if inside else blocks, inside)
    )


@fault("in-capsule-offset", "TCP-3.6.2.6-n2", "host")
def _(model: Model) -> None:
    """The descriptor of in-capsule data has an offset."""
    put(model, "CapsuleCmd", 32, 8, lambda _: 64, lambda queue, pdu: queue.qid > 0 and bool(pdu.data))


@fault("keyed-descriptor", "TCP-3.3.2-n1", "host")
def _(model: Model) -> None:
    """The host uses a descriptor of RDMA."""
    put(model, "CapsuleCmd", 40, 8, lambda value: value & (1 << 24) - 1 | 0x40 << 56,
        lambda queue, pdu: queue.qid > 0 and pdu.opcode == Nvm.READ)  # fmt: skip


@fault("data-beside-descriptor", "TCP-3.3.2-n2", "host")
def _(model: Model) -> None:
    """A capsule with a transport descriptor has data all the same."""
    changed(model, "CapsuleCmd", lambda queue, pdu: queue.qid > 0 and pdu.opcode == Nvm.READ, data=bytes(512), flags=0)
    with_digests(model, 0)


@fault("completed-twice", "TCP-3.6.2.7-n1")
def _(model: Model) -> None:
    """The controller completes a command twice."""
    once(model, "CapsuleResp", lambda _, pdu: [pdu, pdu], is_controlled)


@fault("second-connect", "TCP-3.2-n1", "both")
def _(model: Model) -> None:
    """The host sends a second Connect on a connection, for another queue."""

    def connect(original: Callable[[Queue], None], queue: Queue) -> None:
        original(queue)
        if queue.qid == 1:
            queue.qid = 3
            original(queue)
            queue.qid = 1

    instead(model, "connect", connect)


@fault("no-keep-alive", "TCP-3.4-n1", "host")
def _(model: Model) -> None:
    """The host asks for no keep alive."""
    put(model, "CapsuleCmd", 56, 4, lambda _: 0, lambda queue, pdu: queue.qid == 0)


@fault("io-queue-on-discovery-port", "TCP-3.1.2-n1", "host")
def _(model: Model) -> None:
    """The host connects an I/O queue on the discovery port."""
    instead(model, "open", lambda original, qid, slots, flow: original(qid, slots, flow, 8009 if qid else 4420))


# -- ends -------------------------------------------------------------------------------------------------------


def _terminates(model: Model, fes: int, header: int) -> None:
    """A header digest of the host is wrong; the controller ends the connection."""
    with_digests(model, 1)

    def change(queue: Queue, pdu: Pdu) -> list[Pdu]:
        pdu.header_digest = b"\x12\x34\x56\x78"
        body = struct.pack("<HI10x", fes, 0x78563412)
        return [pdu, Pdu("C2HTermReq", True, body, bytes(header))]

    once(model, "CapsuleCmd", change, lambda queue, pdu: queue.qid == 1 and pdu.opcode == Nvm.FLUSH)


@fault("termination-unnamed", "TCP-3.5-n1", "both")
def _(model: Model) -> None:
    """A TermReq names no defined error."""
    _terminates(model, 9, 72)


@fault("termination-too-long", "TCP-3.5-n2", "both")
def _(model: Model) -> None:
    """A TermReq has 160 bytes."""
    _terminates(model, 3, 136)


@fault("fatal-error-ignored", "TCP-3.5-n3", "both")
def _(model: Model) -> None:
    """The controller goes on after a wrong header digest."""
    with_digests(model, 1)
    changed(model, "CapsuleCmd", is_controlled, header_digest=b"\x12\x34\x56\x78")


@fault("digest-error-misnamed", "TCP-3.5-n4", "both")
def _(model: Model) -> None:
    """The TermReq after a wrong header digest names another error."""
    _terminates(model, 1, 72)


@fault("reset-in-use", "TCP-Xtcp-n1", "both")
def _(model: Model) -> None:
    """The host resets a connection in use."""
    before(model, "shut_down", lambda queue: model.queues[-1].stream.reset(False))
