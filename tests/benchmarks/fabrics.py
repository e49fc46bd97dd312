"""NVMe/TCP against tshark on the same file: ``python tests/benchmarks/fabrics.py [COMMANDS]``.

Writes a capture of 4 KiB reads cut into segments of 1448 bytes, as on a real network, and measures tshark alone
(``-T fields`` with its own NVMe dissectors and reassembly, twelve fields) and ``lmtrace decode`` and ``check``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from lmtrace.check import check, decode
from lmtrace.scenario import Options
from lmtrace_decoders.fabrics.tshark import find_tshark
from lmtrace_samples.network.nvme_tcp import Model
from lmtrace_samples.network.tcp_scenario import script
from lmtrace_samples.network.write_frames import write_frames

FIELDS = (
    "frame.number", "frame.time_relative", "tcp.stream", "nvme-tcp.type", "nvme-tcp.plen", "nvme.cmd.cid",
    "nvme.cmd.opc", "nvme.cmd.nsid", "nvme.cqe.cid", "nvme.cqe.status.sc", "nvme.cqe.sqhd", "nvme-tcp.ttag",
)  # fmt: skip


class Whole(Random):
    """Cuts nothing shorter and sends nothing twice."""

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return seq[0]

    def randrange(self, *limits: int) -> int:  # type: ignore[override]
        return limits[0] if len(limits) > 1 else super().randrange(*limits)

    def random(self) -> float:
        return 1.0

    def getrandbits(self, k: int) -> int:
        return super().getrandbits(k)


def write(path: Path, commands: int) -> None:
    model = Model(Options(1, commands))
    model.digests = 0
    model.rng = Whole(1)

    def frames():  # type: ignore[no-untyped-def]
        for _ in script(model):
            yield from model.frames
            model.frames.clear()

    write_frames(frames(), path)


def tshark(path: Path) -> float:
    program = find_tshark()
    assert program
    command = [program, "-n", "-r", str(path), "-Y", "nvme", "-T", "fields"]
    for name in FIELDS:
        command += ["-e", name]
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def main() -> None:
    commands = int(sys.argv[1]) if len(sys.argv) > 1 else 25_000
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reads.pcap"
        write(path, commands)
        size = path.stat().st_size / 1e6
        decode(path, output=Path(folder) / "warm")  # compiles
        for _ in range(3):
            theirs = tshark(path)
            start = time.perf_counter()
            run = decode(path, output=Path(folder) / "decoded")
            ours = time.perf_counter() - start
            start = time.perf_counter()
            check(path, output=Path(folder) / "checked")
            judged = time.perf_counter() - start
            print(
                f"{size:.0f} MB, {run.table('transactions').num_rows} commands, {run.table('pdus').num_rows} PDUs: "
                f"tshark {theirs:.1f} s, decode {ours:.1f} s ({ours / theirs:.2f}), check {judged:.1f} s "
                f"({judged / theirs:.2f})"
            )


if __name__ == "__main__":
    main()
