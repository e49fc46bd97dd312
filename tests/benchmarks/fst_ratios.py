"""FST beside the VCD of the same run: the ratios that ``ratios.py`` prints for waveforms of either format."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

READ = """
import sys, time
from pathlib import Path
from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles
path = Path(sys.argv[1])
best = 1e9
for _ in range(4):
    start = time.perf_counter()
    reader = format_of(path).open(Request(path, None, Troubles(path.name)))
    tlps = sum(len(chunk.rows) for chunk in reader.chunks())
    best = min(best, time.perf_counter() - start)
print(tlps, best)
"""
"""Prints how many TLPs a capture has and the seconds of the fastest reading; start-up and compiling are left out."""


def reading(file: Path) -> tuple[int, float]:
    """Return (TLPs, seconds) of reading a capture in a process that did it before."""
    done = subprocess.run([sys.executable, "-c", READ, str(file)], check=True, capture_output=True, text=True)
    tlps, seconds = done.stdout.split()
    return int(tlps), float(seconds)


def decoding(file: Path, out: Path) -> float:
    """Return the seconds of ``lmtrace decode``, start-up included."""
    best = float("inf")
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        command = [sys.executable, "-m", "lmtrace", "decode", str(file), "-o", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        best = min(best, time.perf_counter() - start)
    return best


def fst_beside_vcd(work: Path, dump: Path) -> None:
    """Print the ratios for a dump, and for one with a large design around the same bus."""
    if shutil.which("vcd2fst") is None:
        print("\nFST: vcd2fst is not installed (Debian package gtkwave)")
        return
    large = work / "large.vcd"
    if not large.exists():
        print(f"writing {large.name} ...", flush=True)
        subprocess.run([sys.executable, str(HERE / "make_large.py"), str(dump), str(large), "1000"], check=True)
    for one in (dump, large):
        file = one.with_suffix(".fst")
        if not file.exists():
            subprocess.run(["vcd2fst", str(one), str(file)], check=True, capture_output=True)
        (tlps, vcd), (same, fst) = reading(one), reading(file)
        assert tlps == same, f"{file.name} has {same} TLPs, {one.name} {tlps}"
        whole, other = (decoding(path, work / "out.lmtrace") for path in (one, file))
        print(
            f"\n{file.name}: {file.stat().st_size / 1e6:.0f} MB (VCD {one.stat().st_size / 1e6:.0f} MB), {tlps} TLPs\n"
            f"  reading         VCD {vcd:7.2f} s  FST {fst:7.2f} s   VCD / FST = {vcd / fst:.1f}\n"
            f"  lmtrace decode  VCD {whole:7.2f} s  FST {other:7.2f} s   VCD / FST = {whole / other:.1f}"
        )
