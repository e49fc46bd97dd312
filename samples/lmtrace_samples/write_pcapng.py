"""pcapng captures: lmtrace's own raw TLPs, or TLPs in another framing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmtrace.scenario import WireTlp, writer
from lmtrace_samples.framings import Framer, framing_of
from lmtrace_samples.packet_files import Pcapng
from lmtrace_samples.whole_file import whole_file


@writer(".pcapng", shape="framing")
@writer(".pcapng.gz", shape="framing")
@writer(".pcapng.zst", shape="framing")
def write_pcapng(tlps: Iterator[WireTlp], path: Path, framing: str, seed: int) -> None:
    """Write TLPs to a pcapng, time stamps in picoseconds; raw where no framing is named. ``seed`` changes nothing."""
    put = framing_of(framing or "raw")
    state = Framer()
    with whole_file(path) as file:
        container = Pcapng(file)
        for tlp in tlps:
            for one in put(tlp, state):
                container.packet(tlp.time_ps, one.link_type, one.data, one.name, one.text, one.flags)
