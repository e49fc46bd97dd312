"""TLPs a second of the pcap reader, beside dpkt, python-pcapng, scapy and tshark on the same files.

Run: python tests/benchmarks/pcap_rates.py [TLPS]. The others only walk the packets (tshark also prints the frame
number); lmtrace reads and decodes headers, directions, times and payloads. Rates are packets a second of processor
time, children included, which a busy machine changes less than the clock's. What is not installed is left out.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from lmtrace.scenario import WireTlp
from lmtrace.spec.pcie import Direction
from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles
from lmtrace_samples.write_pcap import write_pcap
from lmtrace_samples.write_pcapng import write_pcapng

SLOW = 20_000
"""Packets that the slow libraries are measured on."""


def traffic(count: int) -> list[WireTlp]:
    """Return reads of 4 KiB answered in pieces of 256 bytes, and doorbells: half of all TLPs carry data."""
    read = struct.pack(">BBHHBBQ", 0x20, 0, 0, 0x0100, 7, 0xFF, 0x1_0000_0000)
    bell = struct.pack(">BBHHBBI", 0x40, 0, 1, 0, 0, 0x0F, 0xFE001000) + bytes(4)
    data = struct.pack(">BBHHHHBB", 0x4A, 0, 64, 0, 256, 0x0100, 7, 0) + bytes(range(256))
    pattern = [(read, Direction.UPSTREAM), (data, Direction.DOWNSTREAM), (bell, Direction.DOWNSTREAM),
               (data, Direction.DOWNSTREAM)]  # fmt: skip
    return [WireTlp(4000 * i, "pcie0", pattern[i % 4][1], pattern[i % 4][0]) for i in range(count)]


def ours(path: Path, layout: str | None = None) -> int:
    reader = format_of(path, {"framing"} if layout else ()).open(
        Request(path, None, Troubles(path.name), layout=layout)
    )
    return sum(len(chunk.rows) for chunk in reader.chunks())


def dpkt_walk(path: Path) -> int:
    import dpkt

    with path.open("rb") as file:
        reader = dpkt.pcapng.Reader(file) if path.suffix == ".pcapng" else dpkt.pcap.Reader(file)
        return sum(1 for _ in reader)


def pcapng_walk(path: Path) -> int:
    from pcapng import FileScanner
    from pcapng.blocks import EnhancedPacket

    with path.open("rb") as file:
        return sum(isinstance(block, EnhancedPacket) for block in FileScanner(file))


def scapy_walk(path: Path) -> int:
    from scapy.utils import RawPcapNgReader, RawPcapReader

    with (RawPcapNgReader if path.suffix == ".pcapng" else RawPcapReader)(str(path)) as reader:
        return sum(1 for _ in reader)


def tshark_walk(path: Path) -> int:
    words = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "frame.number"]
    done = subprocess.run(words, capture_output=True, check=True)
    return done.stdout.count(b"\n")


def _processor() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measure(name: str, walk: Callable[[Path], int], path: Path) -> float | None:
    """Print and return packets a second of processor time, the best of three runs."""
    best = 0.0
    for _ in range(3):
        begun = _processor()
        try:
            count = walk(path)
        except ImportError:
            print(f"  {name:16} not installed")
            return None
        best = max(best, count / (_processor() - begun))
    print(f"  {name:16} {best:12,.0f} packets/s")
    return best


def main(count: int) -> int:
    """Measure, print, and return how many of our own rates are under a million a second."""
    low = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, write, layout in (
            ("raw.pcapng", write_pcapng, ""), ("raw.pcapng.zst", write_pcapng, ""), ("raw.pcapng.gz", write_pcapng, ""),
            ("nettlp.pcap", write_pcap, ""), ("dll.pcapng", write_pcapng, "dll"),
            ("agilent.pcapng", write_pcapng, "agilent"),
            ("antmicro.pcap", write_pcap, "antmicro"),
        ):  # fmt: skip
            path, small = Path(folder, name), Path(folder, f"small-{name}")
            write(iter(traffic(count)), path, layout, 1)
            print(f"{name}: {count:,} TLPs, {path.stat().st_size / 1e6:,.0f} MB")
            ours(path, layout or None)
            rate = measure("lmtrace", lambda one, layout=layout: ours(one, layout or None), path)
            low += rate is not None and rate < 1e6
            if layout == "dll":  # the same without its sequence numbers, which are found by the LCRC
                rate = measure("numbers unread", lambda one: ours(one, "offset=2,lcrc"), path)
                low += rate is not None and rate < 1e6
            if name in ("raw.pcapng", "nettlp.pcap"):
                write(iter(traffic(min(SLOW, count))), small, layout, 1)
                measure("dpkt", dpkt_walk, path)
                if path.suffix == ".pcapng":
                    measure("python-pcapng", pcapng_walk, small)
                measure("scapy", scapy_walk, small)
                if shutil.which("tshark"):
                    measure("tshark", tshark_walk, path)
    return low


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
