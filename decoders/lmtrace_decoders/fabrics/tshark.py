"""Packets through tshark: link layers, tunnels, IP fragments, TCP connections and sequence numbers are its work.

tshark is found as pyshark finds it, reads the capture from its standard input and prints one line of fields a packet.
The fields are columns of its packet list (``-T tabs``): for those it keeps only the fields that are asked for, where
``-T fields`` builds the whole tree of each packet, which takes twice as long. The bytes are read beside it, see
`frames`. It runs without a shell, with an empty configuration, and is ended when it stands still.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from lmtrace.errors import CaptureError
from lmtrace.stage import Request
from lmtrace.trouble import declare
from lmtrace_decoders.fabrics.reduced import Reduced, quiet

MISSING = "NVMe over fabrics needs tshark, which was not found: install the package tshark (apt-get install tshark)"
DAMAGED = declare("tshark-failed", "data-loss", "tshark ended with an error; what it had read before that was used.")
FIELDS = (
    "frame.number", "tcp.stream", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport",
    "tcp.seq_raw", "tcp.ack_raw", "tcp.flags", "tcp.len", "tcp.checksum.status", "udp.srcport", "udp.dstport",
    "udp.length",
)  # fmt: skip
(
    NUMBER, STREAM, IP_SRC, IP_DST, IP6_SRC, IP6_DST, TCP_SRC, TCP_DST, SEQ, ACK, FLAGS, LENGTH, CHECKSUM, UDP_SRC,
    UDP_DST, UDP_LENGTH,
) = range(len(FIELDS))  # fmt: skip
COLUMNS = ",".join(f'"{name}","%Cus:{name}:-1:R"' for name in FIELDS)
"""The last occurrence of each field, as innermost header of a tunnel."""
PREFERENCES = (
    "tcp.check_checksum:TRUE",
    "tcp.desegment_tcp_streams:FALSE", "tcp.analyze_sequence_numbers:FALSE", "tcp.track_bytes_in_flight:FALSE",
    "tcp.calculate_timestamps:FALSE", "tcp.try_heuristic_first:FALSE", "udp.try_heuristic_first:FALSE",
)  # fmt: skip
FILTER = "tcp or udp.dstport == 4791"
STALL_SECONDS = 120
"""Without any progress for so long tshark is taken for hung."""
MOST_LINE = 1 << 22
NOT_NEEDED = ("infiniband", "nvme", "nvme-tcp")


def find_tshark() -> str | None:
    """Return the path of tshark as pyshark finds it, None where it is not installed."""
    from pyshark.tshark.tshark import TSharkNotFoundException, get_process_path

    try:
        return str(get_process_path())
    except TSharkNotFoundException:
        return None


@dataclass(slots=True)
class _Feeder:
    """Writes the uncompressed capture to tshark, and keeps what tshark complains of."""

    request: Request
    process: subprocess.Popen[bytes]
    fed: int = 0
    error: str = ""
    said: list[bytes] = field(default_factory=list)

    def feed(self) -> None:
        """Write what tshark is given; an early end of tshark shows in its exit status."""
        assert self.process.stdin is not None
        try:
            with self.process.stdin as pipe:
                for block in Reduced(quiet(self.request)).pcapng():
                    pipe.write(block)
                    self.fed += len(block)
        except OSError:
            return
        except Exception as error:  # it must not be lost with the thread
            self.error = f"{type(error).__name__}: {error}"

    def listen(self) -> None:
        """Keep the first lines that tshark says on its standard error."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if len(self.said) < 64:
                self.said.append(line[:400])

    def complaint(self) -> str:
        """Return what tshark said went wrong, on one line."""
        lines = [line.decode("utf-8", "replace").strip() for line in self.said]
        kept = [one for one in lines if one and not one.startswith("Running as user")]
        return " ".join(kept).replace("tshark: ", "")


def packets(request: Request) -> Iterator[list[bytes]]:
    """Yield the fields of each packet that may belong to NVMe over fabrics.

    Raises CaptureError where tshark is missing, cannot read the file at all, or hangs. Damage is counted.
    """
    program = find_tshark()
    if program is None:
        raise CaptureError(MISSING)
    command = [program, "-n", "-r", "-", "-Y", FILTER, "-T", "tabs", "-o", f"gui.column.format:{COLUMNS}"]
    for name in PREFERENCES:
        command += ["-o", name]
    for name in NOT_NEEDED:
        command += ["--disable-protocol", name]
    with tempfile.TemporaryDirectory(prefix="lmtrace-") as empty:
        yield from _run(command, request, empty)


def _run(command: list[str], request: Request, empty: str) -> Iterator[list[bytes]]:
    surroundings = {**os.environ, "WIRESHARK_CONFIG_DIR": empty, "LC_ALL": "C"}
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=surroundings, cwd=empty)
    except OSError as error:
        raise CaptureError(f"tshark does not start: {error.strerror or error}") from error
    feeder = _Feeder(request, process)
    threads = [threading.Thread(target=one, daemon=True) for one in (feeder.feed, feeder.listen)]
    for one in threads:
        one.start()
    count = 0
    try:
        for line in _lines(process, feeder):
            parts = line.split(b"\t")
            if len(parts) == len(FIELDS):
                count += 1
                yield parts
        status = process.wait(STALL_SECONDS)
        for one in threads:
            one.join(STALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise CaptureError(f"{request.path.name}: tshark does not end") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    said = feeder.complaint()
    if feeder.error:
        raise CaptureError(f"{request.path.name} could not be given to tshark: {feeder.error}")
    if status and not count:
        raise CaptureError(f"{request.path.name}: tshark reads nothing from it: {said or f'exit status {status}'}")
    elif status:
        request.troubles.add(DAMAGED, said.replace('"-"', "") or f"tshark ended with status {status}")


def _lines(process: subprocess.Popen[bytes], feeder: _Feeder) -> Iterator[bytes]:
    """Yield what tshark prints, line by line; raises CaptureError when it stands still."""
    assert process.stdout is not None
    file = process.stdout.fileno()
    rest = b""
    still, before = 0, -1
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while True:
            if not selector.select(5):
                still = still + 5 if feeder.fed == before else 0
                before = feeder.fed
                if still >= STALL_SECONDS:
                    raise CaptureError(f"{feeder.request.path.name}: tshark stands still; it was ended")
                continue
            still = 0
            block = os.read(file, 1 << 18)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n") if rest else block.split(b"\n")
            yield from lines
            if len(rest) > MOST_LINE:
                raise CaptureError(f"{feeder.request.path.name}: tshark printed a line of more than {MOST_LINE} bytes")
    if rest:
        yield rest
