"""What the readers of packets give: rows of PDU_ROW and the bytes that belong to them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lmtrace.stage import PDU_ROW, TLP_ROW, TlpChunk

ROWS, BYTES = 1 << 15, 1 << 24


class Place(NamedTuple):
    """Where something stands in the capture: packet number from 1, time in ps."""

    packet: int
    time: int


class Batch:
    """PDUs waiting to become a chunk. ``connections`` names every connection by its number."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._data = bytearray()
        self.connections: list[str] = []

    @property
    def full(self) -> bool:
        """Whether it is time for a chunk."""
        return len(self._rows) >= ROWS or len(self._data) >= BYTES

    def connection(self, text: str) -> int:
        """Return the number of a new connection."""
        self.connections.append(text)
        return len(self.connections) - 1

    def add(
        self, kind: int, connection: int, upstream: bool, first: Place, last: Place, kept: bytes = b"",
        size: int = 0, data: int = 0, header_digest: int = 0, data_digest: int = 0, flags: int = 0,
    ) -> None:  # fmt: skip
        """Add one row. ``size`` counts the bytes on the wire, ``data`` those of data in it, ``kept`` are stored."""
        self._rows.append((
            first.time, last.time, last.packet, first.packet, len(self._data), connection, len(kept), size, data, 0,
            kind, upstream, header_digest, data_digest, flags, 0xFF,
        ))  # fmt: skip
        self._data += kept

    def chunk(self) -> TlpChunk:
        """Return what waits and start anew."""
        rows = np.array(self._rows, PDU_ROW)
        data = np.frombuffer(bytes(self._data), np.uint8)
        self._rows, self._data = [], bytearray()
        return TlpChunk(rows.view(TLP_ROW), data)
