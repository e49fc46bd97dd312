"""VCD of a user interface, in one of the bus conventions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmtrace.errors import UsageError
from lmtrace.scenario import WireTlp, writer
from lmtrace_samples import (
    bus_intel,
    bus_litenvme_engine,
    bus_litepcie_requests,
    bus_tlp_stream,
    bus_xilinx_7series,
    bus_xilinx_us,
    bus_xilinx_us_512,
)
from lmtrace_samples.tlp_header import user_side, with_functions
from lmtrace_samples.waveform import Waveform
from lmtrace_samples.whole_file import whole_file

BUSES = {
    **bus_tlp_stream.BUSES, **bus_xilinx_us.BUSES, **bus_xilinx_us_512.BUSES, **bus_intel.BUSES,
    **bus_xilinx_7series.BUSES, **bus_litepcie_requests.BUSES, **bus_litenvme_engine.BUSES,
}  # fmt: skip
"""The bus conventions by the name a user gives."""


@writer(".vcd")
@writer(".vcd.gz")
@writer(".vcd.zst")
def write_vcd(tlps: Iterator[WireTlp], path: Path, bus: str, seed: int) -> None:
    """Write TLPs as the streams of ``bus``, every link in a scope of its own, idle time squeezed.

    Messages are left out, and on an endpoint's bus configuration requests and their completions. ``seed``
    rules back-pressure and the signals that mean nothing. Raises UsageError for an unknown bus or a TLP
    that it cannot carry.
    """
    wave = played(tlps, path.parent, bus, seed)
    with whole_file(path) as file:
        wave.close(file)


def played(tlps: Iterator[WireTlp], folder: Path, bus: str, seed: int) -> Waveform:
    """Return the dump of TLPs, ready to be closed into a file; temporary files are in ``folder``.

    Raises as `write_vcd` does.
    """
    if bus not in BUSES:
        raise UsageError(f"no bus convention {bus!r}; there are: {', '.join(BUSES)}")
    convention = BUSES[bus]
    wave = Waveform(convention, f"{bus} {seed}", folder)
    bus_side = convention()
    wave.play(bus_side.prepared(with_functions(user_side(tlps, bus_side.config))))
    wave.idle(4)
    return wave
