"""Network captures: pcap and pcapng of Ethernet frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmtrace.scenario import WireFrame, frame_writer
from lmtrace_samples.packet_files import NANO, Pcap, Pcapng
from lmtrace_samples.whole_file import whole_file

ETHERNET = 1


@frame_writer(".pcap")
@frame_writer(".pcap.gz")
@frame_writer(".pcap.zst")
@frame_writer(".pcapng")
@frame_writer(".pcapng.gz")
@frame_writer(".pcapng.zst")
def write_frames(frames: Iterator[WireFrame], path: Path) -> None:
    """Write frames in the container that the name asks for, with times in nanoseconds."""
    with whole_file(path) as file:
        container = Pcapng(file, NANO) if ".pcapng" in path.name else Pcap(file)
        for frame in frames:
            container.packet(frame.time_ps, ETHERNET, frame.data)
