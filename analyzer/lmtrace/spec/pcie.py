"""PCI Express numbers: TLP kinds, header fields, completion status (PCIe Base 5.0, section 2.2)."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What a TLP is. The value is ours; ``FMT_TYPE`` maps it to the wire."""

    UNKNOWN = 0
    MRd = 1
    MWr = 2
    Cpl = 3
    CplD = 4
    CfgRd0 = 5
    CfgWr0 = 6
    CfgRd1 = 7
    CfgWr1 = 8
    Msg = 9
    MsgD = 10
    IORd = 11
    IOWr = 12
    MRdLk = 13
    CplLk = 14
    CplDLk = 15
    FetchAdd = 16
    Swap = 17
    CAS = 18
    DMWr = 19


CRC32_POLYNOMIAL = 0xEDB88320
"""That of LCRC and ECRC, least significant bit first (2.7.1, 3.6.2)."""

FMT_TYPE: dict[int, Kind] = {
    0x00: Kind.MRd, 0x20: Kind.MRd, 0x01: Kind.MRdLk, 0x21: Kind.MRdLk,
    0x40: Kind.MWr, 0x60: Kind.MWr, 0x02: Kind.IORd, 0x42: Kind.IOWr,
    0x04: Kind.CfgRd0, 0x44: Kind.CfgWr0, 0x05: Kind.CfgRd1, 0x45: Kind.CfgWr1,
    0x0A: Kind.Cpl, 0x4A: Kind.CplD, 0x0B: Kind.CplLk, 0x4B: Kind.CplDLk,
    0x4C: Kind.FetchAdd, 0x6C: Kind.FetchAdd, 0x4D: Kind.Swap, 0x6D: Kind.Swap,
    0x4E: Kind.CAS, 0x6E: Kind.CAS, 0x5B: Kind.DMWr, 0x7B: Kind.DMWr,
    **{0x30 | route: Kind.Msg for route in range(8)},
    **{0x70 | route: Kind.MsgD for route in range(8)},
}  # fmt: skip
"""Byte 0 of the header (Fmt and Type) to the kind of TLP."""

NON_POSTED = frozenset({
    Kind.MRd, Kind.MRdLk, Kind.IORd, Kind.IOWr, Kind.CfgRd0, Kind.CfgWr0, Kind.CfgRd1, Kind.CfgWr1,
    Kind.FetchAdd, Kind.Swap, Kind.CAS, Kind.DMWr,
})  # fmt: skip
COMPLETIONS = frozenset({Kind.Cpl, Kind.CplD, Kind.CplLk, Kind.CplDLk})
CONFIG = frozenset({Kind.CfgRd0, Kind.CfgWr0, Kind.CfgRd1, Kind.CfgWr1})


class CompletionStatus(IntEnum):
    """Status field of a completion (2.2.9.1)."""

    SC = 0
    UR = 1
    CRS = 2
    CA = 4


class Direction(IntEnum):
    """Which way a TLP travels; ``DOWNSTREAM`` is towards the device."""

    DOWNSTREAM = 0
    UPSTREAM = 1


def bdf(text: str) -> int:
    """Return the 16-bit function number of ``01:00.1`` (bus 15:8, device 7:3, function 2:0).

    Raises ValueError for text of another form.
    """
    try:
        bus, rest = text.rsplit(":", 2)[-2:]
        device, function = rest.split(".")
        number = int(bus, 16) << 8 | int(device, 16) << 3 | int(function, 16)
    except ValueError:
        raise ValueError(f"{text!r} is not a function number like 01:00.1") from None
    if not (0 <= int(device, 16) < 32 and 0 <= int(function, 16) < 8 and 0 <= number < 1 << 16):
        raise ValueError(f"{text!r} is not a function number like 01:00.1")
    return number


OVER_FABRICS = 1 << 16
"""Added to the CNTLID of a controller that is reached over fabrics, it stands for the function it has not."""
UNKNOWN_OVER_FABRICS = 2 * OVER_FABRICS - 1


def bdf_text(function: int) -> str:
    """Return a function number as ``01:00.1``; one that stands for a controller over fabrics as ``controller 1``."""
    if function >= OVER_FABRICS:
        return "the controller" if function == UNKNOWN_OVER_FABRICS else f"controller {function - OVER_FABRICS}"
    return f"{function >> 8:02x}:{function >> 3 & 31:02x}.{function & 7}"
