"""One scenario in every format: the same transactions, children and violations.

Times, ids of TLPs, places in the file and names of links are a format's own: a scope of a waveform, an interface of a
pcapng, the address of an adapter. Fingerprints are the same all the same. Configuration requests and messages are not
on a user interface.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import lmtrace
from lmtrace.run import Run
from lmtrace.scenario import synth

ASIDE = {"id", "capture", "link", "source_offset"}
FILES = {
    "a.pcap": None, "nettlp.pcapng": "nettlp", "dll.pcapng": "dll", "antmicro.pcap": "antmicro",
    "agilent.pcapng": "agilent", "a.vcd": None, "a.fst": None,
}  # fmt: skip
"""Files and the framing each is written in."""


def told(run: Run, table: str) -> list[dict[str, object]]:
    names = [one for one in run.table(table).column_names if one not in ASIDE and "tlp" not in one]
    return run.table(table, [one for one in names if not one.endswith("_ps")]).to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("scenario", "fault"),
    [
        ("plain-io", None), ("migration", None), ("migration", "resume-before-commit"),
        ("reset-while-suspended", None), ("refusals", None), ("memory-tracking", None),
    ],
)  # fmt: skip
def test_a_scenario_is_the_same_in_every_format(tmp_path: Path, scenario: str, fault: str | None) -> None:
    (first,) = synth(scenario, tmp_path / "a.pcapng", fault=fault)
    base = lmtrace.check(first)
    assert base.table("transactions").num_rows > 20
    assert (base.verdict == "broken") == (fault is not None)
    for name, framing in FILES.items():
        (file,) = synth(scenario, tmp_path / name, fault=fault, framing=framing)
        asked = framing if framing in ("dll", "antmicro", "agilent") else None
        run = lmtrace.check(file, framing=asked)
        for table in ("transactions", "children", "violations"):
            assert told(run, table) == told(base, table), f"{name}: {table}"
        assert run.table("troubles").num_rows == 0, name


def test_two_links_are_told_apart(tmp_path: Path) -> None:
    """A NetTLP capture has a link for each adapter."""
    from collections.abc import Iterator

    from lmtrace.scenario import Options, WireTlp, scenarios
    from lmtrace_samples.write_pcap import write_pcap
    from lmtrace_samples.write_pcapng import write_pcapng

    def both() -> Iterator[WireTlp]:
        (tlps,) = scenarios()["plain-io"].play(Options(1)).values()
        for tlp in tlps:
            yield tlp
            yield WireTlp(tlp.time_ps, "other", tlp.direction, tlp.data)

    write_pcapng(both(), tmp_path / "a.pcapng", "", 1)
    write_pcap(both(), tmp_path / "a.pcap", "", 1)
    base, run = lmtrace.check(tmp_path / "a.pcapng"), lmtrace.check(tmp_path / "a.pcap")
    assert [one["name"] for one in run.summary["captures"][0]["links"]] == ["192.168.10.3", "192.168.11.3"]
    for table in ("transactions", "children"):
        assert told(run, table) == told(base, table)
