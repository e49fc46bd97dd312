"""The first packets of a capture, and which of several formats reads a file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lmtrace.errors import CaptureError
from lmtrace.stage import CONTAINER, CONTENT, Format, Reader, Request, format_of, register_format
from lmtrace_decoders.pcap.peek import first_packets
from test_pcapng import MRD, interface, packet, section


def pcap(*packets: bytes, order: str = "<", magic: int = 0xA1B23C4D, link: int = 1, time: int = 5) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    return head + b"".join(struct.pack(order + "IIII", time, 7, len(one), len(one) + 1) + one for one in packets)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_packets_of_a_pcap(order: str, magic: int) -> None:
    found = first_packets(pcap(b"one", b"other", order=order, magic=magic)[:-1])
    assert [(one.data, one.length, one.interface.link_type) for one in found] == [(b"one", 4, 1)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_packets_of_a_pcapng(order: str) -> None:
    data = section(order) + interface(order=order) + packet(MRD, 3, 2, order=order)
    (found,) = first_packets(data)
    assert (found.data, found.length, found.flags) == (MRD, len(MRD), 2)
    assert (found.interface.name, found.interface.description) == ("pcie0", "PCIe TLP")


def _never(request: Request) -> Reader:
    raise AssertionError


def _text(request: Request) -> str:
    raise AssertionError


def test_the_surest_format_reads_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmtrace import stage

    file = tmp_path / "a.any"
    file.write_bytes(b"envelope with letters")
    monkeypatch.setattr(stage, "_formats", {})
    with pytest.raises(CaptureError, match="no capture"):
        format_of(file)
    register_format(
        Format("a", (".any",), lambda head: CONTAINER * (head[:8] == b"envelope"), _never, _text, "framing")
    )
    register_format(Format("b", (".any",), lambda head: CONTENT * (b"letters" in head), _never, _text))
    assert format_of(file).name == "b"
    assert format_of(file, {"framing"}).name == "a"
    assert format_of(file, {"columns"}).name == "b"
