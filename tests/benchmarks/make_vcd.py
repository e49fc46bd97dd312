"""Write a big VCD of legal NVMe I/O on the 256-bit TLP stream, for measuring.

The controller is enabled and its queues are made once; then one period of I/O is played, after which every ring has
gone round exactly twice, so that tails, heads, phases and command identifiers stand as before. The rest of the file
is that period again with later time stamps. Usage: ``make_vcd.py OUTPUT [MEGABYTES]``.
"""

from __future__ import annotations

import random
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lmtrace.scenario import WireTlp
from lmtrace.spec.nvme import CQE, DOORBELL_BASE, SQE, Admin, Nvm
from lmtrace.spec.pcie import Direction
from lmtrace_samples import tlp
from lmtrace_samples.tlp_header import user_side
from lmtrace_samples.waveform import PERIOD_PS, Waveform
from lmtrace_samples.write_vcd import BUSES

HOST, DEVICE, LINK = 0x0000, 0x0100, "pcie0"
BAR, MSIX_TABLE, MESSAGES = 0xFE00_0000, 0x2000, 0xFEE0_0000
MPS, MRRS, RCB = 256, 512, 64
PAGE = 4096
ADMIN_DEPTH, IO_DEPTH, QUEUES = 32, 32, 2
BATCHES = (7, 9, 11, 8, 10, 6, 8, 5)
"""Commands per doorbell; together two rounds of the ring, and some batches wrap."""
SIZES = (4096, 65536, 8192, 32768, 4096, 16384, 4096, 12288)
ADMIN_SQ, ADMIN_CQ, IDENTIFY = 0x1_0000_0000, 0x1_0000_1000, 0x1_0000_2000
IO_RINGS, LISTS, BUFFERS = 0x1_0010_0000, 0x1_0020_0000, 0x2_0000_0000
UP, DOWN = Direction.UPSTREAM, Direction.DOWNSTREAM


class Ring:
    """A queue pair: where the rings are, and how far both sides have come."""

    def __init__(self, number: int, depth: int, sq: int, cq: int) -> None:
        self.number, self.depth, self.sq, self.cq = number, depth, sq, cq
        self.tail = self.head = self.cq_tail = self.cq_head = 0
        self.phase = 1


class Traffic:
    """Host and device in one; every method returns when its TLPs are in ``tlps``."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.time = 0
        self.tag = 0
        self.tlps: list[WireTlp] = []
        self.data_bytes = self.commands = 0

    def send(self, direction: Direction, data: bytes) -> None:
        self.time += PERIOD_PS
        self.tlps.append(WireTlp(self.time, LINK, direction, data))

    def pause(self, cycles: int) -> None:
        self.time += cycles * PERIOD_PS

    def taken(self) -> Iterator[WireTlp]:
        tlps, self.tlps = self.tlps, []
        return iter(tlps)

    # The host's accesses to BAR0.

    def poke(self, offset: int, value: int, size: int = 4) -> None:
        self.send(DOWN, tlp.memory_write(HOST, BAR + offset, value.to_bytes(size, "little")))

    def peek(self, offset: int, value: int, size: int = 4) -> None:
        address = BAR + offset
        self.send(DOWN, tlp.memory_read(HOST, 1, address, size))
        self.send(UP, tlp.completion(DEVICE, HOST, 1, size, address, value.to_bytes(size, "little")))

    def doorbell(self, ring: Ring, completion: bool) -> None:
        value = ring.cq_head if completion else ring.tail
        self.poke(DOORBELL_BASE + 8 * ring.number + 4 * completion, value)

    # The device's accesses to host memory.

    def fetch(self, address: int, data: bytes) -> None:
        """Reads of at most MRRS, eight at a time, each answered in pieces of MPS; two answers interleave."""
        asked = [(start, data[start - address :][:size]) for start, size in tlp.split(address, len(data), MRRS)]
        for group in range(0, len(asked), 8):
            open_: list[list[bytes]] = []
            for start, part in asked[group : group + 8]:
                self.tag = (self.tag + 1) % 32
                self.send(UP, tlp.memory_read(DEVICE, self.tag, start, len(part)))
                open_.append([
                    tlp.completion(HOST, DEVICE, self.tag, len(part) - (at - start), at, part[at - start :][:size])
                    for at, size in tlp.completion_pieces(start, len(part), RCB, MPS, lambda: MPS // RCB)
                ])  # fmt: skip
            self.pause(20)
            for pair in range(0, len(open_), 2):
                two = [list(pieces) for pieces in open_[pair : pair + 2]]
                while any(two):
                    for pieces in two:
                        if pieces:
                            self.send(DOWN, pieces.pop(0))

    def store(self, address: int, data: bytes) -> None:
        for start, size in tlp.split(address, len(data), MPS):
            self.send(UP, tlp.memory_write(DEVICE, start, data[start - address :][:size]))

    def complete(self, ring: Ring, cid: int, dw0: int = 0) -> None:
        entry = CQE.encode(DW0=dw0, SQHD=ring.head, SQID=ring.number, CID=cid, P=ring.phase)
        self.store(ring.cq + 16 * ring.cq_tail, entry)
        self.send(UP, tlp.memory_write(DEVICE, MESSAGES, (0x4020 + ring.number).to_bytes(4, "little")))
        ring.cq_tail = (ring.cq_tail + 1) % ring.depth
        ring.phase ^= ring.cq_tail == 0
        self.commands += 1

    # Commands.

    def submit(self, ring: Ring, entries: list[bytes]) -> None:
        ring.tail = (ring.tail + len(entries)) % ring.depth
        self.doorbell(ring, False)

    def take(self, ring: Ring, entries: list[bytes]) -> None:
        """Fetch entries in one burst, or two where the ring wraps."""
        first = min(len(entries), ring.depth - ring.head)
        for part in (entries[:first], entries[first:]):
            if part:
                self.fetch(ring.sq + 64 * ring.head, b"".join(part))
                ring.head = (ring.head + len(part)) % ring.depth

    def consume(self, ring: Ring, number: int) -> None:
        ring.cq_head = (ring.cq_head + number) % ring.depth
        self.doorbell(ring, True)

    def admin(self, ring: Ring, opcode: Admin, answer: bytes = b"", dw0: int = 0, **fields: int) -> None:
        cid = ring.tail
        entry = SQE.encode(OPC=opcode, CID=cid, PRP1=IDENTIFY if answer else fields.pop("PRP1", 0), **fields)
        self.submit(ring, [entry])
        self.take(ring, [entry])
        if answer:
            self.store(IDENTIFY, answer)
        self.complete(ring, cid, dw0)
        self.consume(ring, 1)


def identify_controller() -> bytes:
    data = bytearray(PAGE)
    struct.pack_into("<HH", data, 0, 0x1B36, 0x1AF4)
    data[4:64] = b"0000000000000001".ljust(20) + b"benchmark".ljust(40)
    data[77] = 5
    struct.pack_into("<HI", data, 78, 1, 0x0002_0100)
    data[111] = 1
    data[512:514] = b"\x66\x44"
    struct.pack_into("<I", data, 516, 1)
    data[768:806] = b"nqn.2014-08.org.nvmexpress:uuid:bench1"
    return bytes(data)


def identify_namespace() -> bytes:
    data = bytearray(PAGE)
    struct.pack_into("<QQQ", data, 0, 1 << 28, 1 << 28, 1 << 20)
    struct.pack_into("<I", data, 128, 12 << 16)
    return bytes(data)


def enable(traffic: Traffic) -> list[Ring]:
    """Reset and enable the controller, set the MSI-X table and make the I/O queues."""
    traffic.peek(0x00, 1 << 37 | 0x20 << 24 | 1 << 16 | 0x3FF, 8)
    traffic.peek(0x08, 0x0002_0100)
    traffic.poke(0x14, 0)
    traffic.peek(0x1C, 0)
    traffic.poke(0x24, (ADMIN_DEPTH - 1) << 16 | ADMIN_DEPTH - 1)
    traffic.poke(0x28, ADMIN_SQ, 8)
    traffic.poke(0x30, ADMIN_CQ, 8)
    for vector in range(QUEUES + 1):
        for word, value in enumerate((MESSAGES, 0, 0x4020 + vector, 0)):
            traffic.poke(MSIX_TABLE + 16 * vector + 4 * word, value)
    traffic.poke(0x14, 0x0046_0001)
    traffic.peek(0x1C, 0)
    traffic.peek(0x1C, 1)
    admin = Ring(0, ADMIN_DEPTH, ADMIN_SQ, ADMIN_CQ)
    traffic.admin(admin, Admin.IDENTIFY, identify_controller(), CDW10=1)
    allocated = QUEUES - 1 << 16 | QUEUES - 1
    traffic.admin(admin, Admin.SET_FEATURES, dw0=allocated, CDW10=7, CDW11=allocated)
    traffic.admin(admin, Admin.IDENTIFY, identify_namespace(), NSID=1, CDW10=0)
    rings: list[Ring] = []
    for number in range(1, QUEUES + 1):
        ring = Ring(number, IO_DEPTH, IO_RINGS + 0x4000 * number, IO_RINGS + 0x4000 * number + 0x2000)
        size = IO_DEPTH - 1 << 16 | number
        traffic.admin(admin, Admin.CREATE_IO_CQ, PRP1=ring.cq, CDW10=size, CDW11=number << 16 | 3)
        traffic.admin(admin, Admin.CREATE_IO_SQ, PRP1=ring.sq, CDW10=size, CDW11=number << 16 | 1)
        rings.append(ring)
    return rings


def command(traffic: Traffic, ring: Ring, cid: int) -> tuple[bytes, Callable[[], None]]:
    """Return one read or write as its entry, and what the device does for it before the completion."""
    size = SIZES[(cid * 5 + ring.number) % len(SIZES)]
    offset = 512 if cid % 5 == 3 else 0
    place = 128 * ring.number + cid
    first = BUFFERS + place * 0x4_0000 + offset
    pages = [first & ~(PAGE - 1) | 0]
    while pages[-1] + PAGE < first + size:
        pages.append(pages[-1] + PAGE)
    entries = struct.pack(f"<{len(pages) - 1}Q", *pages[1:])
    second = 0 if len(pages) == 1 else pages[1] if len(pages) == 2 else LISTS + place * PAGE
    opcode = Nvm.WRITE if cid % 3 == 1 else Nvm.READ
    entry = SQE.encode(OPC=opcode, CID=cid, NSID=1, PRP1=first, PRP2=second, CDW10=place * 64, CDW12=size // PAGE - 1)
    data = traffic.random.randbytes(size)

    def move() -> None:
        if len(pages) > 2:
            traffic.fetch(second, entries)
        (traffic.fetch if opcode == Nvm.WRITE else traffic.store)(first, data)
        traffic.data_bytes += size

    return entry, move


def period(traffic: Traffic, rings: list[Ring]) -> None:
    """Both queues in step: doorbells, fetches, data of one and the other by turns, completions, head doorbells."""
    given = 0
    for batch in BATCHES:
        cids = range(given, given + batch)
        given += batch
        work = {ring: [command(traffic, ring, cid) for cid in cids] for ring in rings}
        for ring in rings:
            traffic.submit(ring, [entry for entry, _ in work[ring]])
        for ring in rings:
            traffic.take(ring, [entry for entry, _ in work[ring]])
        for number, cid in enumerate(cids):
            for ring in rings:
                work[ring][number][1]()
                traffic.complete(ring, cid)
            if number % 4 == 3 or cid == cids[-1]:
                for ring in rings:
                    traffic.consume(ring, number % 4 + 1)
        traffic.pause(30)


def make(output: Path, megabytes: float, seed: int = 1) -> dict[str, int]:
    """Write ``output`` of at least ``megabytes`` and return what is in it, by name."""
    traffic = Traffic(seed)
    wave = Waveform(BUSES["tlp-stream"], f"benchmark {seed}", output.parent)
    rings = enable(traffic)
    wave.play(user_side(traffic.taken(), config=False))
    setup = traffic.commands
    wave.idle(4)
    wave.flush()
    begin, first_cycle = wave.body.tell(), wave.cycle
    wave.restate()
    period(traffic, rings)
    if any(value for ring in rings for value in (ring.tail, ring.head, ring.cq_tail, ring.cq_head, 1 - ring.phase)):
        raise AssertionError("a period leaves the rings as it found them")
    tlps = len(traffic.tlps)
    wave.play(user_side(traffic.taken(), config=False))
    wave.idle(4)
    wave.flush()
    wave.body.seek(begin)
    text = wave.body.read().decode("ascii")
    head, *stamps = re.split(r"^#(\d+)\n", text, flags=re.MULTILINE)
    steps = list(zip(map(int, stamps[::2]), stamps[1::2], strict=True))
    length = (wave.cycle - first_cycle) * wave.period
    periods = 1
    with output.open("wb") as file:
        wave.close(file)
        while file.tell() < megabytes * 1e6:
            shift = periods * length
            again = "".join([f"#{stamp + shift}\n{change}" for stamp, change in steps])
            file.write((head + again).encode("ascii"))
            periods += 1
        size = file.tell()
    each = traffic.commands - setup
    return {
        "bytes": size,
        "periods": periods,
        "admin_commands": setup,
        "io_commands": each * periods,
        "data_bytes": traffic.data_bytes * periods,
        "period_tlps": tlps,
        "last_ps": (wave.cycle - 1) * wave.period + wave.period // 2 + (periods - 1) * length,
    }


if __name__ == "__main__":
    began = time.perf_counter()
    made = make(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    took = time.perf_counter() - began
    for name, value in made.items():
        print(f"{name:15} {value}")
    print(f"{'seconds':15} {took:.1f} ({made['bytes'] / took / 1e6:.0f} MB/s)")
