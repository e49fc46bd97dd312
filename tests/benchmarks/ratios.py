"""Time and memory of lmtrace beside other tools, as ratios of one run.

    python tests/benchmarks/ratios.py [--mb 1000] [--mb 4000] [--work DIR] [--skip-pywellen]

Writes an I/O-heavy VCD of each size into DIR (kept there for the next run), then prints, for each size, the seconds
and the peak memory of ``lmtrace check`` and ``lmtrace decode`` beside counting newlines in Python, pyvcd's tokenizer
(extrapolated from 20 MB) and pywellen loading the same signals (when it is installed). Then FST beside the VCD of the
same run, where vcd2fst is installed, `who` and `state` on a run of 10 million TLPs, and the start-up ratios.
Nothing here fails: the machine decides the seconds, and people read the ratios.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fst_ratios import fst_beside_vcd
from tile_run import tile

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parents[1] / "samples/captures/nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"
MIXED = HERE.parents[1] / "samples/captures/nvme_linux_mixed_io/nvme_linux_mixed_io.pcapng.zst"
PYVCD_BYTES = 20_000_000

COUNT_NEWLINES = """
import sys
lines = 0
with open(sys.argv[1], "rb") as file:
    for line in file:
        lines += 1
"""

PYVCD = """
import sys
from vcd.reader import tokenize
with open(sys.argv[1], "rb") as file:
    for token in tokenize(file):
        pass
"""

PYWELLEN = """
import sys
import pywellen
wave = pywellen.Waveform(sys.argv[1])
for var in wave.all_vars():
    if "tlp_" in var.full_name:
        for _ in zip(range(1), var.signal):
            pass
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a command: wall seconds, and peak resident memory in MB of it and its children."""

    seconds: float
    mb: float


def measure(command: list[str]) -> Measured:
    """Run a command with its output thrown away. A status above 1 is an error of the command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"{' '.join(command[:4])} ended with {process.returncode}: {text.decode(errors='replace')[-2000:]}")
    return Measured(time.perf_counter() - start, usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20))


def best(command: list[str], times: int = 3) -> Measured:
    """Return the fastest of some runs."""
    return min((measure(command) for _ in range(times)), key=lambda one: one.seconds)


def big_vcd(work: Path, mb: int) -> Path:
    """Return a generated VCD of about ``mb`` MB, made if it is not there."""
    file = work / f"io_{mb}.vcd"
    if not file.exists():
        print(f"writing {file.name} ...", flush=True)
        subprocess.run([sys.executable, str(HERE / "make_vcd.py"), str(file), str(mb)], check=True)
    return file


def sizes(work: Path, mbs: list[int], skip_pywellen: bool) -> None:
    """Measure every size and print a table."""
    python = sys.executable
    for mb in mbs:
        file = big_vcd(work, mb)
        size = file.stat().st_size
        out = work / "out.lmtrace"
        newlines = best([python, "-c", COUNT_NEWLINES, str(file)], 2)
        rows = {"count newlines": newlines}
        for verb in ("decode", "check"):
            shutil.rmtree(out, ignore_errors=True)
            rows[f"lmtrace {verb}"] = best([python, "-m", "lmtrace", verb, str(file), "-o", str(out)], 2)
        with tempfile.NamedTemporaryFile(suffix=".vcd", dir=work) as head, file.open("rb") as whole:
            part = whole.read(PYVCD_BYTES)
            head.write(part[: part.rfind(b"\n") + 1])
            head.flush()
            pyvcd = measure([python, "-c", PYVCD, head.name])
        rows["pyvcd tokenizer"] = Measured(pyvcd.seconds * size / PYVCD_BYTES, pyvcd.mb)
        if not skip_pywellen:
            rows["pywellen load"] = measure([python, "-c", PYWELLEN, str(file)])
        check = rows["lmtrace check"].seconds
        print(f"\n{file.name}: {size / 1e6:.0f} MB")
        for name, one in rows.items():
            print(
                f"  {name:18} {one.seconds:9.2f} s {size / 1e6 / one.seconds:8.1f} MB/s {one.mb:7.0f} MB peak"
                f"   check / this = {check / one.seconds:.3f}"
            )


def start_up() -> None:
    """Print the start-up ratios."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.lmtrace"
        small = [python, "-m", "lmtrace", "check", str(SAMPLE), "-o", str(out)]
        measure(small)
        pairs = (
            ("lmtrace --help", "import typer", [python, "-m", "lmtrace", "--help"], [python, "-c", "import typer"]),
            ("warm check of a small sample", "import pyarrow, numba", small, [python, "-c", "import pyarrow, numba"]),
        )
        print()
        for name, other, command, base in pairs:
            ours, theirs = best(command, 5), best(base, 5)
            ratio = ours.seconds / theirs.seconds
            print(f"{name}: {ours.seconds:.2f} s; {other}: {theirs.seconds:.2f} s; ratio {ratio:.2f}")


def large_run(work: Path) -> None:
    """Print the seconds of ``who`` and ``state`` on a run of 10 million TLPs, beside ``lmtrace --help``."""
    lmtrace = [sys.executable, "-m", "lmtrace"]
    large = work / "large.lmtrace"
    if not large.exists():
        small = work / "small.lmtrace"
        measure([*lmtrace, "decode", str(MIXED), "-o", str(small)])
        tile(small, 130, large)
    base = best([*lmtrace, "--help"])
    print("\n10 million TLPs")
    for words in (
        ["state", str(large), "--at", "1817.8s"], ["who", str(large), "C4F1000h", "--at", "1817.8s"],
        ["who", str(large), "C4F1000h"],
    ):  # fmt: skip
        one = best([*lmtrace, *words])
        name = " ".join(word for word in words if word != str(large))
        print(
            f"  {name:32} {one.seconds:5.2f} s {one.mb:5.0f} MB peak   this / --help = {one.seconds / base.seconds:.1f}"
        )


def main() -> None:
    """Parse the arguments and print every ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, action="append", help="size of a generated VCD; may be repeated")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lmtrace-benchmarks")
    parser.add_argument("--skip-pywellen", action="store_true")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sizes(asked.work, asked.mb or [1000], asked.skip_pywellen)
    fst_beside_vcd(asked.work, big_vcd(asked.work, 200))
    large_run(asked.work)
    start_up()


if __name__ == "__main__":
    main()
