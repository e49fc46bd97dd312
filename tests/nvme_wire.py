"""TLPs written by hand: a host, a function and its memory, for cases that no capture shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lmtrace.bindings import Given
from lmtrace.spec.nvme import CC, CQE, DOORBELL_BASE, SQE, Property
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import NO_BAR, NO_FUNCTION, NO_ROLE, TLP_ROW, Link, TlpChunk
from lmtrace.store import Capture, Store
from lmtrace.trouble import Troubles
from lmtrace_decoders.nvme.decode import nvme
from nvme_decoded import Decoded

DOWN, UP = Direction.DOWNSTREAM, Direction.UPSTREAM
BAR = 0xFE00_0000
ASQ, ACQ = 0x10_0000, 0x10_1000
VECTORS = BAR + 0x2000


class Wire:
    """Collects TLPs; memory is what the device reads from."""

    def __init__(self, function: int = 0x0100, stride: int = 0, bar: int = BAR) -> None:
        self.function, self.stride, self.bar = function, stride, bar
        self.memory: dict[int, bytes] = {}
        self.rows: list[np.ndarray] = []
        self.payload = bytearray()
        self.time = 0
        self.tag = 0

    def add(self, direction: Direction, kind: Kind, data: bytes = b"", **fields: int) -> int:
        """Append a TLP and return its id."""
        row = np.zeros(1, TLP_ROW)
        row["function"], row["bar"], row["role"] = NO_FUNCTION, NO_BAR, NO_ROLE
        row["owner"], row["request"] = -1, -1
        self.time += 1000
        row["time_ps"] = row["end_ps"] = self.time
        row["source_offset"] = len(self.rows) + 1
        row["direction"], row["kind"] = direction, kind
        row["payload_start"], row["payload_bytes"] = len(self.payload), len(data)
        if data:
            row["length_dw"] = len(data) // 4
        for name, value in fields.items():
            row[name] = value
        self.payload += data
        self.rows.append(row)
        return len(self.rows) - 1

    # -- the host ---------------------------------------------------------------------------------------------

    def write(self, address: int, data: bytes) -> int:
        last = 15 if len(data) > 4 else 0
        return self.add(DOWN, Kind.MWr, data, address=address, first_be=15, last_be=last)

    def write32(self, offset: int, value: int) -> int:
        return self.write(self.bar + offset, value.to_bytes(4, "little"))

    def read32(self, offset: int, value: int) -> None:
        self.add(DOWN, Kind.MRd, address=self.bar + offset, length_dw=1, first_be=15, tag=200)
        self.add(UP, Kind.CplD, value.to_bytes(4, "little"), completer_id=self.function, tag=200, byte_count=4)

    def enable(self, slots: int = 16, **cc: int) -> None:
        """Bring the controller up with admin queues of ``slots`` entries."""
        self.read32(Property.VS, 0x20100)
        self.read32(Property.CAP, 0xFF)
        self.read32(Property.CAP + 4, self.stride)
        self.write32(Property.AQA, (slots - 1) << 16 | slots - 1)
        for place, value in ((Property.ASQ, ASQ), (Property.ACQ, ACQ)):
            self.write32(place, value)
            self.write32(place + 4, 0)
        self.write32(Property.CC, int.from_bytes(CC.encode(EN=1, **{"IOSQES": 6, "IOCQES": 4, **cc}), "little"))

    def ring(self, qid: int, value: int, head: bool = False) -> int:
        return self.write32(DOORBELL_BASE + (2 * qid + head) * (4 << self.stride), value)

    # -- the device -------------------------------------------------------------------------------------------

    def fetch(self, address: int, data: bytes, split: int = 64) -> int:
        """Read ``data`` from host memory, answered in pieces; return the id of the request."""
        self.tag = (self.tag + 1) % 128
        request = self.add(
            UP, Kind.MRd, requester_id=self.function, tag=self.tag, address=address, length_dw=len(data) // 4,
            first_be=15, last_be=15 if len(data) > 4 else 0,
        )  # fmt: skip
        for start in range(0, len(data), split):
            piece = data[start : start + split]
            self.add(
                DOWN, Kind.CplD, piece, requester_id=self.function, tag=self.tag, byte_count=len(data) - start,
                lower_address=(address + start) & 127,
            )  # fmt: skip
        return request

    def post(self, address: int, data: bytes) -> int:
        return self.add(
            UP, Kind.MWr, data, requester_id=self.function, address=address, first_be=15,
            last_be=15 if len(data) > 4 else 0,
        )  # fmt: skip

    def command(self, base: int, slot: int, qid: int, **fields: int) -> bytes:
        """Ring for one entry and have it fetched; return it."""
        sqe = SQE.encode(**fields)
        self.ring(qid, slot + 1)
        self.fetch(base + 64 * slot, sqe)
        return sqe

    def complete(self, base: int, slot: int, size: int = 16, **fields: int) -> int:
        return self.post(base + size * slot, CQE.encode(**{"P": 1, **fields}).ljust(size, b"\0"))

    def admin(self, slot: int, dw0: int = 0, **fields: int) -> None:
        """Run one admin command without data to success."""
        self.command(ASQ, slot, 0, CID=slot, **fields)
        self.complete(ACQ, slot, CID=slot, SQHD=slot + 1, DW0=dw0)
        self.ring(0, slot + 1, head=True)

    def queue_pair(self, slot: int, qid: int, sq: int, cq: int, slots: int = 16, vector: int = 1) -> None:
        """Create an I/O queue pair with admin slots ``slot`` and the next."""
        self.admin(slot, OPC=5, PRP1=cq, CDW10=(slots - 1) << 16 | qid, CDW11=vector << 16 | 3)
        self.admin(slot + 1, OPC=1, PRP1=sq, CDW10=(slots - 1) << 16 | qid, CDW11=qid << 16 | 1)

    @contextmanager
    def decoded(self, folder: Path, given: Given | None = None) -> Iterator[Decoded]:
        """Decode what was collected."""
        with Store(folder / "wire") as store:
            rows = np.concatenate(self.rows) if self.rows else np.zeros(0, TLP_ROW)
            store.append_tlps(TlpChunk(rows, np.frombuffer(bytes(self.payload), np.uint8)))
            link = Link("pcie0", "by hand", given=given or Given())
            store.captures.append(Capture("wire", "hand", [link], Troubles("wire"), 0, store.tlp_count, self.time))
            nvme(store)
            store.finish_tables()
            yield Decoded(store, store.tlps(0, store.tlp_count))
