"""Damage that a file itself shows: nobody is accused of what was lost there."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import zstandard

import lmtrace
from lmtrace.errors import CaptureError
from lmtrace.scenario import synth

PACKET, DROPPED = 6, 4
SHARES = (0.4, 0.75)
"""Where the damage begins, as shares of the capture."""
LENGTH = 12
"""Packets, or lines of a waveform, that are lost."""


def blocks(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        found.append(data[at : at + size])
        at += size
    return found


def packets(every: list[bytes]) -> list[int]:
    return [at for at, one in enumerate(every) if one[0] == PACKET]


def payload(block: bytes) -> bytes:
    return block[28 : 28 + struct.unpack_from("<I", block, 20)[0]]


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def lost(data: bytes, share: float) -> bytes:
    every = blocks(data)
    at = packets(every)
    first = int(len(at) * share)
    gone = set(at[first : first + LENGTH])
    return b"".join(one for place, one in enumerate(every) if place not in gone)


def dropped(data: bytes, share: float) -> bytes:
    """Packets are missing, and the next one counts them."""
    every = blocks(data)
    at = packets(every)
    first = int(len(at) * share)
    behind = at[first + LENGTH]
    block = every[behind]
    options = 28 + -(-len(payload(block)) // 4) * 4
    body = block[8:options] + struct.pack("<HHQ", DROPPED, 8, LENGTH) + block[options:-4]
    size = struct.pack("<I", len(body) + 12)
    every[behind] = block[:4] + size + body + size
    gone = set(at[first : first + LENGTH])
    return b"".join(one for place, one in enumerate(every) if place not in gone)


def orphaned(data: bytes, share: float) -> bytes:
    """Memory reads are missing, whose completions are there."""
    every = blocks(data)
    reads = [at for at in packets(every) if payload(every[at])[0] in (0x00, 0x20)]
    first = int(len(reads) * share)
    gone = set(reads[first : first + 3])
    return b"".join(one for place, one in enumerate(every) if place not in gone)


def backwards(data: bytes, share: float) -> bytes:
    """A packet has the time of the first one."""
    every = blocks(data)
    at = packets(every)
    place = at[int(len(at) * share)]
    block = every[place]
    every[place] = block[:12] + every[at[0]][12:20] + block[20:]
    return b"".join(every)


def unknown(data: bytes, share: float) -> bytes:
    """Vectors of a waveform are x in some lines."""
    lines = data.splitlines(keepends=True)
    vectors = [at for at, line in enumerate(lines) if line.startswith(b"b") and len(line) > 40]
    first = int(len(vectors) * share)
    for at in vectors[first : first + 3]:
        value, code = lines[at].split()
        lines[at] = b"b" + b"x" * (len(value) - 1) + b" " + code + b"\n"
    return b"".join(lines)


def off(data: bytes, share: float) -> bytes:
    """The dump was switched off for a while."""
    lines = data.splitlines(keepends=True)
    times = [at for at, line in enumerate(lines) if line.startswith(b"#")]
    first = int(len(times) * share)
    start, end = times[first], times[first + 40]
    return b"".join([*lines[: start + 1], b"$dumpoff\n$end\n", *lines[end:]])


def twice(data: bytes, share: float) -> bytes:
    """A piece of a waveform is there twice."""
    at = int(len(data) * share)
    return data[: at + 4096] + data[at:]


def garbled(data: bytes, share: float) -> bytes:
    """A piece of a waveform is something else."""
    at = int(len(data) * share)
    return data[:at] + Random(at).randbytes(64) + data[at + 64 :]


def spoilt(data: bytes, share: float) -> bytes:
    """A bit of a gzip file is another."""
    broken = bytearray(gzip.compress(data))
    broken[int(len(broken) * share)] ^= 16
    return bytes(broken)


@pytest.mark.parametrize("name", ["plain-io", "migration"])
@pytest.mark.parametrize(
    ("form", "framing", "damage"),
    [
        (".pcapng", None, cut), (".pcapng", None, dropped), (".pcapng", None, orphaned), (".pcapng", None, backwards),
        (".pcapng", "dll", lost), (".vcd", None, cut), (".vcd", None, unknown), (".vcd", None, off),
        (".vcd", None, twice), (".vcd", None, garbled), (".vcd", None, spoilt),
    ],
)  # fmt: skip
def test_what_the_file_shows_to_be_lost_accuses_nobody(
    tmp_path: Path, name: str, form: str, framing: str | None, damage: Callable[[bytes, float], bytes]
) -> None:
    whole = tmp_path / f"whole{form}"
    synth(name, whole, framing=framing)
    for number, share in enumerate(SHARES):
        broken = tmp_path / f"{number}{form}"
        broken.write_bytes(damage(whole.read_bytes(), share))
        run = lmtrace.check(broken, output=tmp_path / f"{number}.lmtrace", framing=framing)
        troubles = [row["name"] for row in run.table("troubles").to_pylist()]
        rows = run.table("violations").to_pylist()
        assert troubles, "the file shows no damage"
        assert [(row["rule"], row["message"]) for row in rows if row["severity"] == "error"] == []


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_a_packed_file_that_cannot_be_unpacked_is_not_called_empty(
    tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    data = bytearray(packed(b"$date $end\n" * 9))
    data[len(data) // 2 :] = b"\xff" * 20
    (tmp_path / "a.vcd.gz").write_bytes(data[:4] + data[8:])
    with pytest.raises(CaptureError, match=r"nothing of .*a\.vcd\.gz can be unpacked: "):
        lmtrace.check(tmp_path / "a.vcd.gz")
    (tmp_path / "a.vcd.gz").write_bytes(packed(b""))
    with pytest.raises(CaptureError, match=r"a\.vcd\.gz is empty"):
        lmtrace.check(tmp_path / "a.vcd.gz")
