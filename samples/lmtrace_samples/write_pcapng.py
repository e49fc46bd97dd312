"""Raw-TLP pcapng: one interface per link, one Enhanced Packet Block per TLP."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from lmtrace.scenario import WireTlp, writer
from lmtrace.spec.pcie import Direction
from lmtrace_samples.whole_file import whole_file

LINKTYPE_USER0 = 147
DESCRIPTION = "PCIe TLP"
"""The ``if_description`` that says what USER0 means here."""

_INBOUND, _OUTBOUND = 1, 2
_OPT_USERAPPL, _IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _EPB_FLAGS = 4, 2, 3, 9, 2


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    total = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + total + body + total


def section_header() -> bytes:
    """Return a little-endian section header of unknown length."""
    options = _option(_OPT_USERAPPL, b"lmtrace synth") + _option(0, b"")
    return _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options)


def interface(name: str, digits: int) -> bytes:
    """Return the description of a link; time stamps count units of 10**-digits seconds."""
    options = (
        _option(_IF_NAME, name.encode())
        + _option(_IF_DESCRIPTION, DESCRIPTION.encode())
        + _option(_IF_TSRESOL, bytes([digits]))
        + _option(0, b"")
    )
    return _block(1, struct.pack("<HHI", LINKTYPE_USER0, 0, 0) + options)


def packet(number: int, stamp: int, direction: Direction, data: bytes) -> bytes:
    """Return one TLP of interface ``number``; inbound is downstream, towards the device."""
    flags = _INBOUND if direction is Direction.DOWNSTREAM else _OUTBOUND
    head = struct.pack("<IIIII", number, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
    options = _option(_EPB_FLAGS, struct.pack("<I", flags)) + _option(0, b"")
    return _block(6, head + data + bytes(-len(data) % 4) + options)


@writer(".pcapng")
@writer(".pcapng.gz")
@writer(".pcapng.zst")
def write_pcapng(tlps: Iterator[WireTlp], path: Path, bus: str, seed: int) -> None:
    """Write TLPs to a pcapng, time stamps in picoseconds; a link is described when its first TLP comes.

    ``bus`` and ``seed`` belong to waveforms and change nothing here.
    """
    numbers: dict[str, int] = {}
    with whole_file(path) as file:
        file.write(section_header())
        for tlp in tlps:
            number = numbers.get(tlp.link)
            if number is None:
                number = numbers[tlp.link] = len(numbers)
                file.write(interface(tlp.link, 12))
            file.write(packet(number, tlp.time_ps, tlp.direction, tlp.data))
