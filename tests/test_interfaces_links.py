"""Waveforms of several links, and names that no design has."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmtrace.errors import BindingError, CaptureError
from tlps_read import read
from vcd_made import HEADER, beat, dump, write, write_header

PAYLOAD = bytes(range(1, 9))
BODY = HEADER[HEADER.index("$var") : HEADER.index("$upscope")]


def scoped(name: str, tail: str) -> str:
    """A scope with the stream of ``vcd_made``, its codes told apart by ``tail``."""
    lines = [line.split(" ") for line in BODY.splitlines()]
    text = "\n".join(" ".join([*words[:3], words[3] + tail, *words[4:]]) for words in lines)
    return f"$scope module {name} $end\n{text}\n$upscope $end\n"


def tailed(changes: str, tail: str) -> str:
    """Changes of the stream whose codes end in ``tail``, without times."""
    return "".join(f"{line}{tail}\n" for line in changes.splitlines() if line and line[0] not in "#$")


def times(text: str) -> list[tuple[int, str]]:
    """(time, changes) of a body."""
    return [(int(step.split("\n", 1)[0]), step.split("\n", 1)[1]) for step in ("\n" + text).split("\n#")[1:]]


def test_two_links_on_two_clocks(tmp_path: Path) -> None:
    """Clocks of 100 and about 71 MHz that never rise together by design, and some times do."""
    one = "".join(write(20 * n + 20, 0x1000 + 64 * n, PAYLOAD, n) for n in range(30))
    two = "".join(
        beat(14 * n + 21, int.from_bytes(PAYLOAD, "little"), write_header(0x2000 + 64 * n, 2, n), True)
        for n in range(30)
    )
    steps: dict[int, str] = {}
    for tail, text in (("a", one), ("b", two)):
        for time, changes in times(text):
            steps[time] = steps.get(time, "") + tailed(changes, tail)
    header = "$timescale 1ns $end\n" + scoped("a", "a") + scoped("b", "b") + "$enddefinitions $end\n"
    start = "#0\n" + "".join(tailed("0!\n0$\n0%\n0&\n1'\n", tail) for tail in "ab")
    (tmp_path / "a.vcd").write_text(header + start + "".join(f"#{time}\n{steps[time]}" for time in sorted(steps)))
    found = read(tmp_path / "a.vcd")
    assert [link.name for link in found.links] == ["pcie0", "pcie1"]
    assert [link.text.partition(";")[0] for link in found.links] == [
        "tlp-stream in a, clock a.clk", "tlp-stream in b, clock b.clk",
    ]  # fmt: skip
    for link, base in (("pcie0", 0x1000), ("pcie1", 0x2000)):
        mine = [one for one in found.tlps if one.link == link]
        assert [(one.address, one.tag, one.payload) for one in mine] == [(base + 64 * n, n, PAYLOAD) for n in range(30)]
    assert [one.time for one in found.tlps] == sorted(one.time for one in found.tlps)
    assert found.troubles == {}


def test_a_scope_name_of_100_000_characters(tmp_path: Path) -> None:
    name = "a" * 100_000
    (tmp_path / "a.vcd").write_bytes(
        dump(write(20, 0x1000, PAYLOAD), header=HEADER.replace("module tb", f"module {name}"))
    )
    with pytest.raises(CaptureError) as error:
        read(tmp_path / "a.vcd")
    assert str(error.value) == (
        f"a.vcd: byte 20: the scope '{'a' * 60}…{'a' * 60}' makes a path of 100000 characters; 65536 are read"
    )


def test_a_long_path_that_is_read_is_shortened_in_what_people_see(tmp_path: Path) -> None:
    name = "b" * 60_000
    (tmp_path / "a.vcd").write_bytes(
        dump(write(20, 0x1000, PAYLOAD), header=HEADER.replace("module tb", f"module {name}"))
    )
    (link,) = read(tmp_path / "a.vcd").links
    assert len(link.text) < 500
    text = '[link.a]\nconvention = "tlp-stream"\nclock = "*clck"\n[link.a.rx]\nvalid = "*valid"\ndata = "*data"\n'
    with pytest.raises(BindingError) as error:
        read(tmp_path / "a.vcd", text)
    assert len(str(error.value)) < 600 and f"nearest are: {'b' * 60}…" in str(error.value)
    assert read(tmp_path / "a.vcd", text.replace("clck", "b*b*b*b*clk")).links


def test_scopes_that_are_too_deep(tmp_path: Path) -> None:
    (tmp_path / "a.vcd").write_bytes(dump("", header="$scope module s $end\n" * 600 + HEADER))
    with pytest.raises(CaptureError) as error:
        read(tmp_path / "a.vcd")
    assert str(error.value) == "a.vcd: byte 10752: 513 scopes are nested inside each other; 512 are read"
