"""Damaged tables of TLPs, dumps, bindings, baselines and runs: a clear error or a partial result, soon."""

from __future__ import annotations

import gzip
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import lmtrace
from lmtrace import bindings, log, moment, show
from lmtrace.baseline import baseline
from lmtrace.check import find_interfaces
from lmtrace.errors import LmtraceError
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles
from test_exchange import as_csv, as_json, as_parquet

COLUMNS = "time=time_ps:ps,dir=direction,kind=kind,requester_id=requester_id,address=address:hex,payload=payload"
WORDS = (
    b"$enddefinitions $end\n",
    b"\n#-5\n",
    b"\n#9999999999999999999\n",
    b'"',
    b",,,",
    b"null",
    b"[" * 3000,
    b"1e999",
    b"\0",
)
LONGEST_S = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run and its TLPs in every exchange format, a dump and its binding."""
    place = tmp_path_factory.mktemp("inputs")
    (capture,) = synth("plain-io", place / "a.pcapng", commands=1)
    run = lmtrace.check(capture, payload="keep")
    (dump,) = synth("plain-io", place / "a.vcd", commands=1)
    for write, name in ((as_csv, "b.csv"), (as_json, "b.jsonl"), (as_parquet, "b.parquet")):
        write(run, place / name)
    (place / "c.csv").write_bytes((place / "b.csv").read_bytes())
    (place / "a.vcd.gz").write_bytes(gzip.compress(dump.read_bytes()))
    (place / "a.vcd.zst").write_bytes(zstandard.compress(dump.read_bytes()))
    (place / "binding.toml").write_text(find_interfaces(dump), "utf-8")
    shutil.copy(run.folder / "summary.json", place / "summary.json")
    return place


def damaged(data: bytes, dice: Random) -> bytes:
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5))):
        if len(out) < 8:
            break
        at, size = dice.randrange(len(out)), dice.choice((1, 2, 8, 64, 4096))
        if dice.random() < 0.3:
            at = dice.randrange(min(len(out), 300))
        match dice.randrange(8):
            case 0:
                out[at] ^= 1 << dice.randrange(8)
            case 1:
                out[at : at + size] = bytes([dice.choice((0, 127, 255))]) * size
            case 2:
                out[at : at + size] = dice.randbytes(size)
            case 3:
                del out[at : at + size]
            case 4:
                out[at:at] = out[at : at + size]
            case 5:
                del out[at:]
            case 6:
                out[at:at] = dice.choice(WORDS)
            case _:
                out += data[:size]
    return bytes(out)


def rows(file: Path, layout: str | None = None) -> None:
    """Read a capture to its end."""
    reader = format_of(file, {"columns"} if layout else ()).open(
        Request(file, None, Troubles(file.name), layout=layout)
    )
    for chunk in reader.chunks():
        ends = chunk.rows["payload_start"] + chunk.rows["payload_bytes"]
        assert (chunk.rows["payload_start"] >= 0).all() and (ends <= len(chunk.payload)).all()
        assert (chunk.rows["link"] < len(reader.links)).all()


READ: dict[str, Callable[[Path], object]] = {
    "b.csv": rows, "b.jsonl": rows, "b.parquet": rows, "c.csv": lambda file: rows(file, COLUMNS),
    "a.vcd": rows, "a.vcd.gz": rows, "a.vcd.zst": rows, "binding.toml": bindings.load,
    "summary.json": lambda file: baseline(file, "a.pcapng"),
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(READ)), st.integers(0, 1 << 32))
def test_damage_of_what_is_read(folder: Path, name: str, seed: int) -> None:
    file = folder / "damaged" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(damaged((folder / name).read_bytes(), Random(seed)))
    begun = time.process_time()
    try:
        READ[name](file)
    except LmtraceError as error:
        assert name in str(error)
    assert time.process_time() - begun < LONGEST_S


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32))
def test_damage_of_a_run(folder: Path, seed: int) -> None:
    place, dice = folder / "damaged.lmtrace", Random(seed)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "a.pcapng.lmtrace", place)
    file = dice.choice(sorted(place.iterdir()))
    if dice.random() < 0.2:
        file.unlink()
    else:
        file.write_bytes(damaged(file.read_bytes(), dice))
    for ask in (
        lambda run: run.report("text"), lambda run: list(log.lines(run, log.Filter())),
        lambda run: list(moment.lines(run, 10**8)),
        lambda run: list(show.shown(run, "controller-state", show.Options())),
    ):  # fmt: skip
        try:
            ask(Run(place))
        except LmtraceError as error:
            assert "damaged.lmtrace" in str(error)
