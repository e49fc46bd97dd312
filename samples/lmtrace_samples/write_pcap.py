"""Classic pcap captures, which have no room for names and directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmtrace.errors import UsageError
from lmtrace.scenario import WireTlp, writer
from lmtrace_samples.framings import Framer, framing_of
from lmtrace_samples.packet_files import Pcap
from lmtrace_samples.whole_file import whole_file

_ONE_LINK = ("raw", "dll", "agilent")


@writer(".pcap", shape="framing")
@writer(".pcap.gz", shape="framing")
@writer(".pcap.zst", shape="framing")
def write_pcap(tlps: Iterator[WireTlp], path: Path, framing: str, seed: int) -> None:
    """Write TLPs to a pcap, time stamps in nanoseconds; as NetTLP, which says links and directions itself.

    ``seed`` changes nothing. Raises UsageError for several links in a framing that does not tell them apart.
    """
    framing = framing or "nettlp"
    put = framing_of(framing)
    state = Framer()
    with whole_file(path) as file:
        container = Pcap(file)
        for tlp in tlps:
            state.link(tlp)
            if len(state.links) > 1 and framing in _ONE_LINK:
                raise UsageError(f"a pcap cannot tell links apart in the framing {framing}; write a pcapng, or nettlp")
            for one in put(tlp, state):
                container.packet(tlp.time_ps, one.link_type, one.data)
