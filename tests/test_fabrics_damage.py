"""Network captures that are cut, altered or lossy: no traceback, no hang, and no accusation of what was damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtrace.check import check
from lmtrace.errors import CaptureError
from lmtrace.run import Run
from lmtrace.scenario import synth

pytestmark = pytest.mark.needs_tshark
SLOW = settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture(scope="module")
def captures(capture: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The start of the real capture, which is RDMA, and the scenarios: RDMA, TCP in both containers."""
    packed = capture("fabrics_rdma_tcp/fabrics.pcap.zst")
    with packed.open("rb") as file:
        start = zstandard.ZstdDecompressor().stream_reader(file).read(400_000)
    folder = tmp_path_factory.mktemp("damage")
    real = folder / "real.pcap"
    real.write_bytes(start)
    return [
        real, synth("nvme-tcp", folder / "a.pcap", commands=8)[0], synth("nvme-rdma", folder / "b.pcap", commands=8)[0],
        synth("nvme-tcp", folder / "a.pcapng", commands=8)[0],
    ]  # fmt: skip


def judged(data: bytes, folder: Path) -> Run | None:
    file = folder / "damaged.pcap"
    file.write_bytes(data)
    try:
        return check(file, output=folder / "run")
    except CaptureError:
        return None


def errors(run: Run | None) -> list[str]:
    rows = [] if run is None else run.table("violations").to_pylist()
    return [f"{one['rule']}: {one['message']}" for one in rows if one["severity"] == "error"]


def answer(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("cid", "opcode", "sct", "sc", "bytes_to_device", "bytes_from_device"))


@SLOW
@given(which=st.integers(0, 3), share=st.floats(0, 1))
def test_cut(captures: list[Path], tmp_path: Path, which: int, share: float) -> None:
    data = captures[which].read_bytes()
    assert errors(judged(data[: int(share * len(data))], tmp_path)) == []


@SLOW
@given(which=st.integers(0, 3), seed=st.integers(0, 1 << 30), count=st.integers(1, 100))
def test_altered(captures: list[Path], tmp_path: Path, which: int, seed: int, count: int) -> None:
    data, rng = bytearray(captures[which].read_bytes()), Random(seed)
    for _ in range(count):
        data[rng.randrange(len(data))] = rng.randrange(256)
    judged(bytes(data), tmp_path)


@SLOW
@given(which=st.integers(0, 2), seed=st.integers(0, 1 << 30), share=st.floats(0.001, 0.2))
def test_packets_not_recorded(captures: list[Path], tmp_path: Path, which: int, seed: int, share: float) -> None:
    data, rng, at = captures[which].read_bytes(), Random(seed), 24
    kept = data[:24]
    while at + 16 <= len(data):
        size = 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        kept += data[at : at + size] if rng.random() > share else b""
        at += size
    assert errors(judged(kept, tmp_path)) == []


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("first", [3, 40, 120])
def test_begins_midway(captures: list[Path], tmp_path: Path, first: int, which: int) -> None:
    data, at = captures[which].read_bytes(), 24
    for _ in range(first):
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
    run = judged(data[:24] + data[at:], tmp_path)
    assert run is not None and errors(run) == []
    rows = run.table("transactions").to_pylist()
    assert len(rows) > 4
    whole = judged(data, tmp_path)
    assert whole is not None
    known = {answer(row) for row in whole.table("transactions").to_pylist()}
    assert {answer(row) for row in rows if row["outcome"] == "completed"} <= known


@pytest.mark.parametrize("damage", ["lost", "sequence", "lost with the ICResp"])
def test_the_beginning_of_the_controllers_side(captures: list[Path], tmp_path: Path, damage: str) -> None:
    """The SYN of the controller is the second packet, its ICResp the sixth."""
    data = bytearray(captures[1].read_bytes())
    places = [24]
    for _ in range(6):
        places.append(places[-1] + 16 + int.from_bytes(data[places[-1] + 8 : places[-1] + 12], "little"))
    if damage == "sequence":
        data[places[1] + 16 + 14 + 20 + 4] ^= 0x80
    else:
        if damage == "lost with the ICResp":
            del data[places[5] : places[6]]
        del data[places[1] : places[2]]
    run = judged(bytes(data), tmp_path)
    assert run is not None and errors(run) == []
    assert run.table("transactions").num_rows > 5
    lost = "network-bytes-lost" in {row["name"] for row in run.table("troubles").to_pylist()}
    assert lost == (damage == "lost with the ICResp")  # without its SYN the stream begins with what comes next


@pytest.mark.parametrize("place", [4, 15])
def test_the_beginning_of_the_hosts_side(captures: list[Path], tmp_path: Path, place: int) -> None:
    """The first packet is the SYN of the host; its sequence number, or its checksum."""
    data = bytearray(captures[1].read_bytes())
    data[24 + 16 + 14 + 20 + place] ^= 0x80
    run = judged(bytes(data), tmp_path)
    assert run is not None and errors(run) == []
    assert run.table("transactions").num_rows > 5


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("snap", [60, 120, 300])
def test_cut_by_the_snap_length(captures: list[Path], tmp_path: Path, snap: int, which: int) -> None:
    data, at = captures[which].read_bytes(), 24
    kept = data[:24]
    while at + 16 <= len(data):
        size, length = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (8, 12))
        kept += data[at : at + 8] + min(size, snap).to_bytes(4, "little") + length.to_bytes(4, "little")
        kept += data[at + 16 : at + 16 + min(size, snap)]
        at += 16 + size
    assert errors(judged(kept, tmp_path)) == []


def test_nothing_of_fabrics_in_it(tmp_path: Path) -> None:
    from lmtrace_samples.network.ethernet import End, tcp

    frame = tcp(End(bytes(4), 80), End(bytes(4), 81), 1, 1, 16, b"GET /", 0)
    head = bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000")
    packet = bytes(8) + 2 * len(frame).to_bytes(4, "little") + frame
    file = tmp_path / "web.pcap"
    file.write_bytes(head + packet)
    with pytest.raises(CaptureError, match=r"no NVMe over fabrics is in it .*--framing"):
        check(file)


def test_encrypted_connections_are_left_alone(tmp_path: Path) -> None:
    from lmtrace_samples.network.ethernet import End, tcp

    host, target = End(bytes((10, 0, 0, 2)), 50000), End(bytes((10, 0, 0, 1)), 4420)
    frames = [
        tcp(host, target, 99, 0, 2, b"", 0), tcp(target, host, 499, 100, 18, b"", 1),
        tcp(host, target, 100, 500, 24, b"\x16\x03\x01\x00\x80" + bytes(128), 2),
        tcp(target, host, 500, 233, 24, b"\x16\x03\x03\x00\x7a" + bytes(122), 3),
    ]  # fmt: skip
    head = bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000")
    file = tmp_path / "tls.pcap"
    file.write_bytes(head + b"".join(bytes(8) + 2 * len(one).to_bytes(4, "little") + one for one in frames))
    run = check(file, output=tmp_path / "run")
    (trouble,) = run.table("troubles").to_pylist()
    assert trouble["name"] == "connection-encrypted" and "TLS" in trouble["advice"]
    assert run.table("pdus").num_rows == 0 and run.summary["verdict"] == "nothing judged"


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("which", [1, 2])
def test_one_direction_only(captures: list[Path], tmp_path: Path, side: int, which: int) -> None:
    data, at = captures[which].read_bytes(), 24
    kept = data[:24]
    while at + 16 <= len(data):
        end = at + 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        if data[at + 16 + 29] & 1 == side:  # the last byte of the sender's address, 10.0.0.1 or 10.0.0.2
            kept += data[at:end]
        at = end
    assert len(kept) < len(data) and errors(judged(kept, tmp_path)) == []


def test_encrypted_connections_seen_from_the_middle(tmp_path: Path) -> None:
    from lmtrace_samples.network.ethernet import End, tcp

    host, target = End(bytes((10, 0, 0, 2)), 50000), End(bytes((10, 0, 0, 1)), 4420)
    record = b"\x17\x03\x03\x00\x80" + bytes(128)
    frames = [tcp(host, target, 100, 500, 24, bytes(61), 1)]
    frames += [tcp(host, target, 161 + 133 * n, 500, 24, record, 2 + n) for n in range(4)]
    head = bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000")
    file = tmp_path / "tls.pcap"
    file.write_bytes(head + b"".join(bytes(8) + 2 * len(one).to_bytes(4, "little") + one for one in frames))
    run = check(file, output=tmp_path / "run")
    assert [row["name"] for row in run.table("troubles").to_pylist()] == ["connection-encrypted"]
    assert run.summary["verdict"] == "nothing judged"


ACKNOWLEDGE, OPCODE_AT = 0x11, 16 + 14 + 20 + 8


@pytest.mark.parametrize("seed", range(4))
def test_packets_not_recorded_and_nothing_that_tells(captures: list[Path], tmp_path: Path, seed: int) -> None:
    """Without acknowledgements only what packets say of each other shows that others are missing."""
    data, rng, at = captures[2].read_bytes(), Random(seed), 24
    kept = data[:24]
    while at + 16 <= len(data):
        size = 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        if data[at + OPCODE_AT] != ACKNOWLEDGE and (rng.random() > 0.05 or size > 300):
            kept += data[at : at + size]
        at += size
    run = judged(kept, tmp_path)
    assert run is not None and errors(run) == []
    assert all(row["fetch_ps"] is not None or row["cdw0"] for row in run.table("transactions").to_pylist())
