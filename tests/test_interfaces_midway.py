"""Captures that begin in the middle of traffic: the rest of a TLP is never taken for one, on any bus."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from lmtrace_samples.write_vcd import write_vcd
from test_interfaces_buses import DOORBELLS, PLAIN, traffic, wire
from tlps_read import Tlp, by_stream, read


def beginning_at(dump: str, step: int) -> str:
    """The dump from its time step number ``step`` on, with the values that all its signals have then."""
    header, _, body = dump.partition("$enddefinitions $end\n")
    steps = body.split("\n#")
    state: dict[str, str] = {}
    for change in "\n#".join(steps[:step]).splitlines():
        if change[:1] in tuple("bB"):
            state[change.rpartition(" ")[2]] = change
        elif change[:1] in tuple("01xXzZ"):
            state[change[1:]] = change
    time, _, rest = steps[step].partition("\n")
    values = "\n".join(state.values())
    return f"{header}$enddefinitions $end\n#{int(time) - 1}\n{values}\n#{time}\n{rest}\n#" + "\n#".join(
        steps[step + 1 :]
    )


@pytest.mark.parametrize("bus", PLAIN)
def test_a_capture_that_begins_anywhere(tmp_path: Path, bus: str) -> None:
    """What is read is the end of what the whole capture holds, less what was under way when it began."""
    path, part = tmp_path / "a.vcd", tmp_path / "b.vcd"
    write_vcd(wire([*DOORBELLS[:40], *traffic(9, 60), *DOORBELLS[:150]]), path, bus, 4)
    dump, dice = path.read_text(), random.Random(bus)
    whole = plain(read(path).tlps)
    steps = dump.count("\n#")
    for _ in range(8):
        part.write_text(beginning_at(dump, dice.randrange(steps // 5, steps // 2)))
        found = read(part)
        for key, tlps in plain(found.tlps).items():
            assert tlps == whole[key][-len(tlps) :], key
        assert set(found.troubles) <= {"bus-start-missing"}
        assert sum(map(len, plain(found.tlps).values())) > 150


def plain(tlps: list[Tlp]) -> dict[tuple[str, str], list[Tlp]]:
    """TLPs by stream, without what only the TLPs before them tell."""
    return by_stream([replace(one.wire(), byte_count=0, requester=0) for one in tlps])
