"""tshark's full dissection of a few packets, through pyshark.

pyshark drives an event loop, which fails where one is running already, as in a notebook. It gets a thread of its own.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtrace.compressed import GZIP, ZSTD, blocks
from lmtrace.errors import CaptureError
from lmtrace_decoders.fabrics.tshark import MISSING, find_tshark

if TYPE_CHECKING:
    import asyncio

MOST_SECONDS = 600


def dissect(path: Path, packets: Sequence[int]) -> list[tuple[int, str]]:
    """Return (number, dissection) of the packets of a capture that there are, in order of number.

    Raises CaptureError where tshark is missing or fails.
    """
    program = find_tshark()
    if program is None:
        raise CaptureError(f"{path.name}: {MISSING}")
    with tempfile.TemporaryDirectory(prefix="lmtrace-") as folder:
        work = _Work(program, _plain(path, Path(folder)), sorted(set(packets)))
        thread = threading.Thread(target=work.run, daemon=True)
        thread.start()
        thread.join(MOST_SECONDS)
        if thread.is_alive():
            raise CaptureError(f"{path.name}: tshark did not end within {MOST_SECONDS} s")
    if work.error:
        raise CaptureError(f"{path.name}: tshark failed: {work.error}")
    return work.found


def _plain(path: Path, folder: Path) -> Path:
    """Return an absolute path to the uncompressed capture, which tshark reads whatever it was built with."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] != GZIP and magic != ZSTD:
        return path.resolve()
    copy = folder / "capture"
    with copy.open("wb") as out:
        for block in blocks(path, damage=lambda offset, reason, doubt: None):
            out.write(block)
    return copy


class _Work:
    """What the thread does and leaves behind."""

    def __init__(self, program: str, path: Path, packets: list[int]) -> None:
        self._program, self._path, self._packets = program, path, packets
        self.found: list[tuple[int, str]] = []
        self.error = ""

    def run(self) -> None:
        """Dissect with an event loop of this thread's own."""
        import asyncio

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            self._read(loop)
        except Exception as error:  # whatever pyshark raises, it is tshark's or the file's failure
            self.error = f"{type(error).__name__}: {error}".splitlines()[0]
        finally:
            loop.close()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        import pyshark

        wanted = ", ".join(map(str, self._packets))
        capture = pyshark.FileCapture(
            str(self._path), display_filter=f"frame.number in {{{wanted}}}", keep_packets=False,
            tshark_path=self._program, eventloop=loop, custom_parameters=["-n"],
        )  # fmt: skip
        try:
            try:
                for packet in capture:
                    self.found.append((int(packet.number), str(packet)))
            finally:
                try:
                    capture.close()  # tells how tshark ended, which another thread may have learnt in its place
                finally:
                    capture._running_processes.clear()  # or it is closed again when collected, without a loop
        except pyshark.capture.capture.TSharkCrashException:
            if not self.found:  # a damaged file ends with an error behind the packets that were sound
                raise
