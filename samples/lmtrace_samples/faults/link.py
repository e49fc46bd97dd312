"""Faults of TLPs themselves: headers, completions, what configuration does not allow (PCIe Base 5.0, 2.2, 2.3, 7.5).

Most are TLPs that cross the link in a phase of the scenario in which nothing else does, written out byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.pcie import CompletionStatus, Direction
from lmtrace_samples import tlp
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.root import EXPRESS
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.world import World

DOWN, UP = Direction.DOWNSTREAM, Direction.UPSTREAM
DEVICE, VIRTUAL, HOST = 0x0100, 0x0101, 0x0000
ADDRESS = 0x1000_0000
TAG = 0x1E
BAR = 0xFE00_0000
Sent = tuple[Direction, bytes]


def _set(packet: bytes, **bits: int) -> bytes:
    """Return a TLP with bits of its bytes set: ``b2=0x20`` sets bit 5 of byte 2."""
    changed = bytearray(packet)
    for name, value in bits.items():
        changed[int(name[1:])] |= value
    return bytes(changed)


def _read(length: int = 64, tag: int = TAG, address: int = ADDRESS, requester: int = DEVICE) -> Sent:
    return UP, tlp.memory_read(requester, tag, address, length)


def _write(length: int = 4, address: int = ADDRESS, requester: int = DEVICE) -> Sent:
    return UP, tlp.memory_write(requester, address, bytes(length))


def _answer(length: int = 64, count: int | None = None, address: int = ADDRESS, tag: int = TAG) -> Sent:
    return DOWN, tlp.completion(HOST, DEVICE, tag, length if count is None else count, address, bytes(length))


def _error(status: CompletionStatus) -> Sent:
    return DOWN, tlp.completion_without_data(HOST, DEVICE, TAG, status)


def _with(sent: Sent, **bits: int) -> Sent:
    return sent[0], _set(sent[1], **bits)


def _copied(**bits: int) -> tuple[Sent, Sent]:
    """Return a read with bits set, and its answer, which has them too."""
    return _with(_read(), **bits), _with(_answer(), **bits)


def _message(code: int, routing: int) -> Sent:
    return UP, bytes((0x30 | routing, 0, 0, 0, DEVICE >> 8, DEVICE & 255, 0, code)) + bytes(8)


def _config(**bits: int) -> tuple[Sent, Sent]:
    request = DOWN, _set(tlp.config_read(HOST, TAG, DEVICE, 0), **bits)
    return request, (UP, tlp.completion(DEVICE, HOST, TAG, 4, 0, bytes(4)))


_PREFIX = bytes((0x9A, 0, 0, 0))
_LONG = bytes((0x60, 0, 0, 1, 1, 0, 0, 0x0F)) + bytes(4) + ADDRESS.to_bytes(4, "big") + bytes(4)
_CONFIG_READ, _CONFIG_ANSWER = _config()
_ERROR_CONTROL = 0x1A0 + 0x18
"""Advanced Error Capabilities and Control, of which bit 6 enables ECRC generation."""
_DIGESTS_ENABLED = (
    (DOWN, tlp.config_write(HOST, TAG, DEVICE, _ERROR_CONTROL, bytes((0x40, 0, 0, 0)))),
    (UP, tlp.completion_without_data(DEVICE, HOST, TAG)),
)
_RESERVED_STATUS = _with((DOWN, tlp.completion_without_data(HOST, DEVICE, TAG)), b6=0xA0)
_SENT: tuple[tuple[str, str, str, str, tuple[Sent, ...], str], ...] = (
    ("length-without-data", "PCIE-2.2.1-n3", "both", "running", (_read(), _with(_error(CompletionStatus.UR), b3=1)),
     "A completion without data has a length."),
    ("payload-shorter-than-length", "PCIE-2.2.1-n2", "both", "running", (_with(_write(8), b3=4),),
     "A write has two dwords where its length says six."),
    ("reserved-bit-set", "PCIE-2.2.1-n4", "both", "running", (_with(_read(), b11=1), _answer()),
     "A read has a reserved bit of its address set."),
    ("long-header", "PCIE-2.2.1-n5", "both", "running", ((UP, _LONG),),
     "A write below 4 GiB has a header of four dwords."),
    ("device-sends-io", "PCIE-2.2.1-n6", "controller", "running",
     ((UP, bytes((2, 0, 0, 1, 1, 0, TAG, 0x0F)) + ADDRESS.to_bytes(4, "big")),), "The device sends an I/O read."),
    ("write-too-long", "PCIE-2.2.2-n1", "both", "running", (_write(4096),), "A write is longer than Max_Payload_Size."),
    ("read-too-long", "PCIE-2.2.7-n1", "both", "running", (_read(4096),), "A read asks for more than it may."),
    ("read-across-page", "PCIE-2.2.7-n2", "both", "running", (_read(128, address=ADDRESS + 4032),),
     "A read crosses a 4 KiB boundary."),
    ("last-enables-of-one-dword", "PCIE-2.2.5-n1", "both", "running", (_with(_write(), b7=0xF0),),
     "A write of one dword has last byte enables."),
    ("no-last-enables", "PCIE-2.2.5-n2", "both", "running",
     ((UP, _write(8)[1][:7] + b"\x0f" + _write(8)[1][8:]),), "A write of two dwords has no last byte enables."),
    ("enables-with-gap", "PCIE-2.2.5-n3", "both", "running",
     ((UP, _write(16)[1][:7] + b"\xfa" + _write(16)[1][8:]),), "The byte enables of a write have a gap."),
    ("flush-brings-two-dwords", "PCIE-2.2.5-n4", "both", "running",
     ((UP, _read(4)[1][:7] + b"\0" + _read(4)[1][8:]), _answer(8, 1)), "A read of nothing is answered with 8 bytes."),
    ("config-with-attributes", "PCIE-2.2.7-n3", "both", "running", _config(b2=0x20),
     "A configuration read has relaxed ordering set."),
    ("type-1-to-endpoint", "PCIE-2.2.7-n4", "host", "running", ((DOWN, _set(_CONFIG_READ[1], b0=1)),),
     "The host sends a configuration request of type 1 to an endpoint."),
    ("foreign-requester", "PCIE-2.2.6.2-n1", "both", "running", (_write(requester=0x0008),),
     "A write has a requester id that the device was not given."),
    ("ats-not-enabled", "PCIE-2.2.6.4-n1", "controller", "running", (_with(_write(), b2=8),),
     "A write claims a translated address, and ATS is not enabled."),
    ("translation-asked-by-write", "PCIE-2.2.6.4-n2", "controller", "running", (_with(_write(), b2=4),),
     "A write asks for a translation."),
    ("address-type-reserved", "PCIE-2.2.6.4-n3", "both", "running", (_with(_write(), b2=12),),
     "A write has the reserved address type."),
    ("relaxed-ordering-not-enabled", "PCIE-2.2.6.3-n1", "both", "running", _copied(b2=0x20),
     "A read has relaxed ordering set, which is not enabled."),
    ("no-snoop-not-enabled", "PCIE-2.2.6.3-n2", "both", "running", _copied(b2=0x10),
     "A read has no snoop set, which is not enabled."),
    ("id-ordering-not-enabled", "PCIE-2.2.6.3-n3", "both", "running", _copied(b1=4),
     "A read has ID-based ordering set, which is not enabled."),
    ("traffic-class-not-mapped", "PCIE-2.2.6.6-n1", "both", "running", _copied(b1=0x30),
     "A read has a traffic class that no virtual channel carries."),
    ("hints-not-enabled", "PCIE-2.2.7.1-n1", "controller", "running", (_with(_read(), b1=1), _answer()),
     "A read carries processing hints, which are not enabled."),
    ("digest-wrong", "PCIE-2.2.3-n1", "both", "running", ((UP, _set(_write()[1], b2=0x80) + bytes(4)),),
     "The digest of a write is wrong."),
    ("digest-left-out", "PCIE-2.2.3-n2", "both", "running", _DIGESTS_ENABLED,
     "The host lets the device generate ECRC, whose TLPs go without."),
    ("prefix-unknown", "PCIE-2.2.10-n1", "both", "running", ((UP, _PREFIX + _write()[1]),),
     "A write has a prefix of an unknown type."),
    ("message-routed-wrongly", "PCIE-2.2.8-n1", "controller", "running", (_message(0x30, 4),),
     "An error message is routed to the receiver alone."),
    ("line-asserted-twice", "PCIE-2.2.8.1-n1", "controller", "running", (_message(0x20, 4), _message(0x20, 4)),
     "An interrupt line is asserted twice."),
    ("line-asserted-beside-vectors", "PCIE-2.2.8.1-n2", "controller", "running", (_message(0x20, 4),),
     "An interrupt line is asserted while MSI-X is enabled."),
    ("error-message-not-enabled", "PCIE-2.2.8-n2", "controller", "running", (_message(0x30, 0),),
     "The device reports an error, and reports are not enabled."),
    ("write-without-bus-master", "PCIE-7.5.1-n1", "controller", "no bus master", (_write(),),
     "The device writes memory while Bus Master Enable is 0."),
    ("access-without-memory-space", "PCIE-7.5.1-n2", "host", "no memory space",
     ((DOWN, tlp.memory_write(HOST, BAR, bytes(4))),), "The host writes a BAR while memory space is not enabled."),
    ("write-while-asleep", "PCIE-5.3-n1", "controller", "asleep", (_write(),), "The device writes memory in D3hot."),
    ("disabled-function-writes", "PCIE-9.2-n1", "controller", "virtual functions disabled",
     (_write(requester=VIRTUAL),), "A virtual function writes memory after it was disabled."),
    ("write-after-function-reset", "PCIE-6.6.2-n1", "controller", "reset", (_write(),),
     "The function writes memory after its reset, before it is set up again."),
    ("completion-of-nothing", "PCIE-2.2.9-n1", "both", "running", (_read(), _answer(), _answer()),
     "A read is answered twice."),
    ("completion-after-error", "PCIE-2.3.2-n3", "both", "running", (_read(), _error(CompletionStatus.UR), _answer()),
     "A read is answered with an error, and then with data."),
    ("traffic-class-not-copied", "PCIE-2.2.9-n2", "both", "running", (_read(), _with(_answer(), b1=0x10)),
     "A completion has another traffic class than its request."),
    ("read-without-data", "PCIE-2.2.9-n3", "both", "running", (_read(), _error(CompletionStatus.SC)),
     "A read succeeds without data."),
    ("first-byte-count-wrong", "PCIE-2.2.9-n4", "both", "running", (_read(), _answer(64, 60)),
     "The first completion has a byte count that is none of its read."),
    ("later-byte-count-wrong", "PCIE-2.2.9-n5", "both", "running",
     (_read(128), _answer(64, 128), _answer(64, 72, ADDRESS + 64)),
     "A further completion has a byte count that is none of its read."),
    ("first-lower-address-wrong", "PCIE-2.2.9-n6", "both", "running", (_read(), _answer(address=ADDRESS + 8)),
     "The first completion has a wrong lower address."),
    ("later-lower-address-wrong", "PCIE-2.2.9-n7", "both", "running",
     (_read(128), _answer(64, 128), _answer(64, 64, ADDRESS + 32)),
     "A further completion has a wrong lower address."),
    ("more-than-byte-count", "PCIE-2.2.9-n8", "both", "running", (_read(), _answer(128, 64)),
     "A completion brings more than its byte count."),
    ("completion-too-long", "PCIE-2.2.9-n9", "both", "running", (_read(4096), _answer(4096)),
     "A completion is longer than Max_Payload_Size."),
    ("completion-status-reserved", "PCIE-2.2.9-n10", "both", "running", (_read(), _RESERVED_STATUS),
     "A completion has a reserved status."),
    ("memory-read-retried", "PCIE-2.2.9-n11", "both", "running", (_read(), _error(CompletionStatus.CRS)),
     "A memory read is answered with Configuration Request Retry Status."),
    ("byte-count-modified", "PCIE-2.2.9-n12", "both", "running", (_read(), _with(_answer(), b6=0x10)),
     "A completion says that its byte count was modified."),
    ("config-byte-count-wrong", "PCIE-2.2.9-n13", "both", "running", (_CONFIG_READ, _with(_CONFIG_ANSWER, b7=8)),
     "The completion of a configuration read has another byte count than 4."),
    ("other-completer", "PCIE-2.2.9-n14", "both", "running", (_CONFIG_READ, _with(_CONFIG_ANSWER, b5=2)),
     "Another function than the one that was asked completes a configuration read."),
    ("split-inside-boundary", "PCIE-2.3.1.1-n1", "both", "running",
     (_read(128), _answer(32, 128), _answer(96, 96, ADDRESS + 32)),
     "A completion ends inside a piece of 64 bytes."),
    ("small-read-split", "PCIE-2.3.1.1-n2", "both", "running",
     (_read(), _answer(32, 64), _answer(32, 32, ADDRESS + 32)), "A read of 64 bytes is answered in two pieces."),
    ("bytes-missing", "PCIE-2.3.1.1-n3", "both", "running",
     (_read(192), _answer(64, 192), _answer(64, 64, ADDRESS + 128)), "A piece in the middle of a read never comes."),
    ("pieces-out-of-order", "PCIE-2.3.1.1-n4", "both", "running",
     (_read(192), _answer(64, 192), _answer(64, 64 * 3, ADDRESS), _answer(64, 64, ADDRESS + 128)),
     "A completion brings what came before."),
    ("request-not-answered", "PCIE-2.3.2-n1", "both", "late", (_read(),), "A read is never answered."),
    ("tag-in-use", "PCIE-2.2.6.2-n4", "both", "running", (_read(), _read(address=ADDRESS + 256), _answer()),
     "A tag is used again before its request is answered."),
    ("tag-in-use-in-part", "PCIE-2.2.6.2-n5", "both", "running",
     (_read(128), _answer(64, 128), _read(address=ADDRESS + 256), _answer()),
     "A tag is used again before all of its request is answered."),
)  # fmt: skip


_MENTIONED = frozenset({"digest-left-out", "payload-shorter-than-length"})
"""What a file of packets shows no better than a recorder that cut one, and what is not confirmed."""


def _sends(name: str, rule: str, party: str, when: str, packets: tuple[Sent, ...], text: str) -> None:
    """Register the fault that sends TLPs in one phase of the scenario."""

    def change(world: World) -> None:
        def on_the_link(original: Callable[..., Steps[None]], phase: str) -> Steps[None]:
            yield from original(phase)
            if phase == when:
                for direction, packet in packets:
                    world.sides[0].link.send(direction, packet, lambda: None)
                    yield 200 * NS

        instead(world, "on_the_link", on_the_link)

    change.__doc__ = text
    fault(name, rule, "link", party=party, info=name in _MENTIONED)(change)


for _one in _SENT:
    _sends(*_one)


@fault("extended-tag-not-enabled", "PCIE-2.2.6.2-n2", "link", party="both")
def extended_tag_not_enabled(world: World) -> None:
    """The device uses tags above 31, and the host did not enable them."""
    _controls(world, 1 << 8, 0)

    def on_the_link(original: Callable[..., Steps[None]], phase: str) -> Steps[None]:
        yield from original(phase)
        if phase == "running":
            world.sides[0].link.send(*_read(tag=0x40), lambda: None)

    instead(world, "on_the_link", on_the_link)


@fault("tags-stay-short", "PCIE-2.2.6.2-n3", "link", party="both")
def tags_stay_short(world: World) -> None:
    """The host enables 10-bit tags, and the device goes on with tags below 256."""

    def on_the_link(original: Callable[..., Steps[None]], phase: str) -> Steps[None]:
        yield from original(phase)
        if phase == "running":
            yield from world.sides[0].root.configure(DEVICE, EXPRESS + 0x28, b"\x00\x10")
            yield 2000 * NS
            for direction, packet in (_read(), _answer()):
                world.sides[0].link.send(direction, packet, lambda: None)
                yield 200 * NS

    instead(world, "on_the_link", on_the_link)


def _controls(world: World, clear: int, put: int) -> None:
    """Let the host write Device Control with other bits."""

    def configure(
        original: Callable[..., Steps[int | None]], function: int, offset: int, data: bytes | None
    ) -> Steps[int | None]:
        if data is not None and offset == 0x68 and len(data) == 2:
            data = (int.from_bytes(data, "little") & ~clear | put).to_bytes(2, "little")
        return (yield from original(function, offset, data))

    instead(world.sides[0].root, "configure", configure)


def _last_pieces(world: World, change: Callable[[bytes], bytes]) -> None:
    """Change the last completions of longer reads of the device, as the link shows them."""

    def send(original: Callable[..., int], direction: Direction, packet: bytes, *more: Any) -> int:
        if direction is DOWN and packet[0] == 0x4A and len(packet) >= 12 + 128:
            count = int.from_bytes(packet[6:8], "big") & 0xFFF
            if count == len(packet) - 12 and packet[8:10] == VIRTUAL.to_bytes(2, "big"):
                packet = change(packet)
        return original(direction, packet, *more)

    instead(world.sides[0].link, "send", send)


@fault("refused-data-used", "PCIE-2.3.2-n2", "link", party="both")
def refused_data_used(world: World) -> None:
    """The host refuses reads of the data of commands, which succeed all the same."""
    _last_pieces(world, lambda packet: bytes((0x0A,)) + packet[1:3] + b"\0" + packet[4:6] + b"\x20" + packet[7:12])


@fault("poisoned-data-used", "PCIE-2.7.2-n1", "link", party="both")
def poisoned_data_used(world: World) -> None:
    """Data of commands come poisoned, which succeed all the same."""
    _last_pieces(world, lambda packet: _set(packet, b2=0x40))
