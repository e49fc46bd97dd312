"""What is noted of TLPs beside their fields: header bits, digests, prefixes, pairing, states of configuration."""

from __future__ import annotations

import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lmtrace.check import check
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace.spec.tlp_checks import Control, Header, Pairing
from lmtrace.stage import TLP_ROW
from lmtrace_decoders.tlp import KIND_OF_BYTE0, digest_flags, prefix_flags, wire_header

WRITE = bytes.fromhex("400000010100000f1000000011223344")


def said(packet: bytes) -> Header:
    row = np.zeros(1, TLP_ROW)
    wire_header(row, 0, np.frombuffer(packet[:16].ljust(16, b"\0"), np.uint8).copy(), 0, KIND_OF_BYTE0)
    return Header(int(row["header_flags"][0]))


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        ("40000001 0100000f 10000000", Header(0)),
        ("40018001 0100000f 10000002", Header.DIGEST | Header.HINTS),
        ("40000c01 0100000f 10000002", Header.TRANSLATION | Header.TRANSLATED | Header.RESERVED),
        ("0a000003 01001004 00000080", Header.LENGTH | Header.BRIDGED | Header.RESERVED),
        ("04000001 0000000f 0100f000", Header.RESERVED),
        ("34000000 01000020 00000000 00000001", Header(4 << 7) | Header.RESERVED),
        ("34000000 0100007f 00000000 00000001", Header(4 << 7)),
    ],
)  # fmt: skip
def test_header_bits_are_noted(header: str, flags: Header) -> None:
    assert said(bytes.fromhex(header)) == flags | Header.SEEN


@pytest.mark.parametrize("order", ["little", "big"])
def test_digest_is_the_crc_with_the_changing_bits_set(order: str) -> None:
    covered = bytearray(WRITE)
    covered[0] |= 1
    covered[2] |= 0x40
    digest = zlib.crc32(bytes(covered)).to_bytes(4, order)  # type: ignore[arg-type]
    data = np.frombuffer(WRITE + digest, np.uint8)
    assert digest_flags(data, 0, 16, 0, 0) == Header.DIGEST_CHECKED
    turned = np.frombuffer(WRITE + digest, np.uint8).reshape(-1, 4)[:, ::-1].reshape(-1).copy()
    assert digest_flags(turned, 0, 16, 0, 16) == Header.DIGEST_CHECKED
    turned[12:] = data[12:]
    assert digest_flags(turned, 0, 16, 0, 12) == Header.DIGEST_CHECKED
    wrong = data.copy()
    wrong[13] ^= 1
    assert digest_flags(wrong, 0, 16, 0, 0) == Header.DIGEST_CHECKED | Header.DIGEST_WRONG


@pytest.mark.parametrize(
    ("prefixes", "flags"),
    [
        ("", Header(0)), ("91000001", Header.PASID), ("8e000000 91000001", Header.PASID),
        ("91000001 8e000000", Header.PASID | Header.PREFIX_ORDER), ("9a000000", Header.PREFIX_UNKNOWN),
    ],
)  # fmt: skip
def test_prefixes_are_noted(prefixes: str, flags: Header) -> None:
    data = np.frombuffer(bytes.fromhex(prefixes), np.uint8)
    assert prefix_flags(data, 0, len(data)) == (flags | Header.PREFIX if len(data) else flags)


def played(folder: Path, fault: str | None = None, kind: str = ".pcapng", bus: str | None = None) -> Run:
    return check(synth("link", folder / f"a{kind}", fault=fault, seed=2, bus=bus), output=folder / "run")


def test_configuration_stands_beside_the_tlps(tmp_path: Path) -> None:
    rows = played(tmp_path).table("tlps").to_pylist()
    sent = [row for row in rows if row["direction"] == "upstream" and row["kind"] == "MWr"]
    assert sent and all(row["permitted"] & Control.BUS_MASTER for row in sent)
    assert {row["max_payload"] for row in sent} == {
        row["max_payload"] for row in sent if row["max_payload"] in (128, 256, 512)
    }
    asked = [row for row in rows if row["kind"] == "CfgRd0"]
    before, after = asked[0], asked[-1]
    assert before["forbidden"] is None and after["forbidden"] & Control.RELAXED_ORDERING


def test_a_write_on_its_way_leaves_open_what_it_changes(tmp_path: Path) -> None:
    rows = played(tmp_path, "write-without-bus-master").table("tlps").to_pylist()
    command = [row for row in rows if row["kind"] == "CfgWr0" and row["address"] == 4]
    without, again = next((one, two) for one, two in pairwise(command) if one["payload"][0] == 0b010)
    assert not (without["permitted"] | without["forbidden"]) & Control.BUS_MASTER
    between = [row for row in rows if without["id"] < row["id"] < again["id"] and row["kind"] == "MWr"]
    assert len(between) == 1 and between[0]["forbidden"] & Control.BUS_MASTER


@pytest.mark.parametrize(("kind", "bus", "severity"), [(".pcapng", None, "info"), (".vcd", "intel-ptile", "error")])
def test_what_a_recorder_may_have_lost_is_an_error_only_in_a_waveform(
    tmp_path: Path, kind: str, bus: str | None, severity: str
) -> None:
    run = played(tmp_path, "completion-of-nothing", kind, bus)
    found = [row for row in run.table("violations").to_pylist() if row["rule"] == "PCIE-2.2.9-n1"]
    assert [row["severity"] for row in found] == [severity]
    orphan = run.table("tlps").to_pylist()[found[0]["tlp_id"]]
    assert orphan["pairing"] & Pairing.ORPHAN and orphan["request_tlp_id"] is None
