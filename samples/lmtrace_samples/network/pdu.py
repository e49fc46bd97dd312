"""PDUs of NVMe/TCP as they are sent: fields that a fault may change, and the bytes they become."""

from __future__ import annotations

from dataclasses import dataclass

from lmtrace.spec.fabrics import CRC32C_POLYNOMIAL, DDGSTF, DIGEST_SIZE, HDGSTF, HEADER_BYTES, PDU_NAMES, WITHOUT_DIGEST

TYPE_OF = {name: number for number, name in PDU_NAMES.items()}


def _table() -> list[int]:
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return found


_TABLE = _table()


def digest(data: bytes) -> bytes:
    """Return the CRC32C of some bytes, as it goes on the wire."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return (value ^ 0xFFFFFFFF).to_bytes(DIGEST_SIZE, "little")


@dataclass(slots=True)
class Pdu:
    """One PDU. ``body`` is the header behind the common one; None stands for what is right."""

    name: str
    upstream: bool
    body: bytes
    data: bytes = b""
    flags: int = 0
    alignment: int = 4
    type: int | None = None
    header_length: int | None = None
    data_offset: int | None = None
    length: int | None = None
    header_digest: bytes | None = None
    data_digest: bytes | None = None
    bare: bytes | None = None
    """Bytes to be sent instead of a PDU."""

    def put(self, at: int, value: int, count: int) -> None:
        """Set a little-endian field; ``at`` counts from the start of the PDU."""
        body = bytearray(self.body)
        body[at - 8 : at - 8 + count] = value.to_bytes(count, "little")
        self.body = bytes(body)

    def field(self, at: int, count: int) -> int:
        """Return a little-endian field; ``at`` counts from the start of the PDU."""
        return int.from_bytes(self.body[at - 8 : at - 8 + count], "little")

    @property
    def cid(self) -> int:
        """The command it names."""
        return self.field({"CapsuleCmd": 10, "CapsuleResp": 20}.get(self.name, 8), 2)

    @property
    def opcode(self) -> int:
        """The opcode of a command capsule."""
        return self.body[0]

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        if self.bare is not None:
            return self.bare
        kind = TYPE_OF[self.name]
        size = HEADER_BYTES[kind]
        checked = kind not in WITHOUT_DIGEST
        head_digest = DIGEST_SIZE if checked and self.flags & HDGSTF else 0
        tail_digest = DIGEST_SIZE if checked and self.flags & DDGSTF else 0
        offset, padding = 0, b""
        if self.data:
            offset = size + head_digest
            if checked:
                padding = bytes(-offset % self.alignment)
            offset += len(padding)
        if self.data_offset is not None:
            offset = self.data_offset
        length = size + head_digest + len(padding) + len(self.data) + tail_digest
        length = length if self.length is None else self.length
        head = bytes((
            kind if self.type is None else self.type, self.flags,
            size if self.header_length is None else self.header_length, offset if checked else 0,
        )) + length.to_bytes(4, "little") + self.body  # fmt: skip
        made = head + ((self.header_digest or digest(head)) if head_digest else b"") + padding + self.data
        return made + ((self.data_digest or digest(self.data)) if tail_digest else b"")
