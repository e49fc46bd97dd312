"""The two containers of packets: pcapng, and the classic pcap with nanoseconds."""

from __future__ import annotations

import struct
from typing import BinaryIO

PICO, NANO = 12, 9
_OPT_USERAPPL, _IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _EPB_FLAGS = 4, 2, 3, 9, 2


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    total = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + total + body + total


class Pcapng:
    """A little-endian pcapng; an interface is described when its first packet comes."""

    def __init__(self, file: BinaryIO, digits: int = PICO) -> None:
        """Write the section header, of unknown length; times count 10**-digits seconds."""
        self._file, self._digits = file, digits
        self._numbers: dict[tuple[int, str], int] = {}
        options = _option(_OPT_USERAPPL, b"lmtrace synth") + _option(0, b"")
        file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options))

    def packet(self, time_ps: int, link_type: int, data: bytes, name: str = "", text: str = "", flags: int = 0) -> None:
        """Write one packet; ``flags`` are the ``epb_flags``, left out when 0."""
        number = self._numbers.get((link_type, name))
        if number is None:
            number = self._numbers[link_type, name] = len(self._numbers)
            options = _option(_IF_NAME, name.encode()) if name else b""
            options += _option(_IF_DESCRIPTION, text.encode()) if text else b""
            options += _option(_IF_TSRESOL, bytes([self._digits])) + _option(0, b"")
            self._file.write(_block(1, struct.pack("<HHI", link_type, 0, 0) + options))
        time = time_ps // 10 ** (PICO - self._digits)
        head = struct.pack("<IIIII", number, time >> 32, time & 0xFFFFFFFF, len(data), len(data))
        options = _option(_EPB_FLAGS, struct.pack("<I", flags)) + _option(0, b"") if flags else b""
        self._file.write(_block(6, head + data + bytes(-len(data) % 4) + options))


class Pcap:
    """A little-endian pcap with nanoseconds, for packets of one link type."""

    def __init__(self, file: BinaryIO) -> None:
        """Prepare; the header is written with the first packet, which tells the link type."""
        self._file = file
        self._begun = False

    def packet(self, time_ps: int, link_type: int, data: bytes, name: str = "", text: str = "", flags: int = 0) -> None:
        """Write one packet; there is no room for names and flags."""
        if not self._begun:
            self._file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, link_type))
            self._begun = True
        seconds, rest = divmod(time_ps, 10**12)
        self._file.write(struct.pack("<IIII", seconds, rest // 1000, len(data), len(data)) + data)
