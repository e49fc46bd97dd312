"""nvme-checklist G01: fields of a header that must be zero or fit the kind of TLP, whatever was configured."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.tlp_checks import Header
from lmtrace_rules.columns import bits, found, numbers, there, words

SECTION = "G01 TLP header format"
PROFILE = "pcie"

MEMORY = ("MRd", "MWr", "MRdLk", "DMWr", "FetchAdd", "Swap", "CAS")
CONFIG_IO = ("CfgRd0", "CfgWr0", "CfgRd1", "CfgWr1", "IORd", "IOWr")
NEVER_UPSTREAM = ("IORd", "IOWr", "MRdLk", "CfgRd0", "CfgWr0", "CfgRd1", "CfgWr1")
MESSAGES = ("Msg", "MsgD")
SEEN = ("kind", "header_flags", "damaged")
FIELDS = (*SEEN, "length_dw", "first_be", "last_be", "tc", "attr")
ROUTINGS = {
    0x00: (3,), 0x01: (2,), 0x02: (2,), 0x04: (0,), 0x05: (2,), 0x10: (4,), 0x12: (4,), 0x14: (4,), 0x18: (0,),
    0x19: (3,), 0x1A: (5,), 0x1B: (5,), **dict.fromkeys(range(0x20, 0x28), (4,)), 0x30: (0,), 0x31: (0,), 0x33: (0,),
    0x40: (4,), 0x41: (4,), 0x43: (4,), 0x44: (4,), 0x45: (4,), 0x47: (4,), 0x48: (4,), 0x50: (4,), 0x52: (4,),
    0x53: (4,), 0x7E: (0, 2, 3, 4), 0x7F: (0, 2, 3, 4),
}  # fmt: skip
"""Routings of each message code that is defined (2.2.8)."""
_LEGAL = np.zeros((256, 8), np.bool_)
for _code, _routings in ROUTINGS.items():
    _LEGAL[_code, list(_routings)] = True


def seen(batch: pa.RecordBatch, *kinds: str, wire: bool = True) -> np.ndarray:
    """Return the sound TLPs of some kinds (of all where none is named) whose header was seen.

    With ``wire`` it must be that of the wire, and not one that a core wrote anew.
    """
    sound: np.ndarray = bits(batch, "header_flags", Header.SEEN) & (numbers(batch, "damaged") == 0)
    if wire:
        sound &= ~bits(batch, "header_flags", Header.REBUILT)
    if kinds:
        sound &= words(batch, "kind", kinds)
    return sound


@column_rule("PCIE-2.2.1-n3", table="tlps", columns=SEEN, spec="PCIe Base 5.0, 2.2.1", party="both", severity="warning")
def length_without_data(batch: pa.RecordBatch) -> Broken:
    """The Length field of a completion or message without data is zero.

    It is reserved there; a receiver that reads it waits for data that never come.

    Holds::

        1us tlps kind=Cpl header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=Cpl header_flags=0x40040 damaged=no

    Silent::

        1us tlps kind=Cpl header_flags=0x40440 damaged=no
    """
    return found(
        seen(batch, "Cpl", "CplLk", "Msg"), bits(batch, "header_flags", Header.LENGTH),
        lambda row: "the Length field is not zero in a TLP without data",
    )  # fmt: skip


@column_rule("PCIE-2.2.1-n5", table="tlps", columns=(*SEEN, "header_dw", "address"), spec="PCIe Base 5.0, 2.2.4.1",
             party="both")  # fmt: skip
def long_header_below_4_gib(batch: pa.RecordBatch) -> Broken:
    """A memory request below 4 GiB has a header of three dwords.

    A receiver may take four dwords with an upper half of zero for malformed.

    Holds::

        1us tlps kind=MWr address=0x1000 header_dw=3 header_flags=0x40000 damaged=no
        2us tlps kind=MWr address=0x100001000 header_dw=4 header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=MWr address=0x1000 header_dw=4 header_flags=0x40000 damaged=no

    Silent::

        1us tlps kind=MWr address=0x1000 header_dw=4 header_flags=0x40400 damaged=no
    """
    address = numbers(batch, "address")
    return found(
        seen(batch, *MEMORY) & there(batch, "address", "header_dw") & (numbers(batch, "header_dw") == 4),
        address < np.uint64(1 << 32),
        lambda row: f"the header of a {batch.column('kind')[row]} at {int(address[row]):#x} has four dwords",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.1-n6", table="tlps", columns=("kind", "direction", "damaged"), spec="PCIe Base 5.0, 2.2.1",
    party="controller",
)  # fmt: skip
def request_no_endpoint_sends(batch: pa.RecordBatch) -> Broken:
    """An endpoint sends no I/O, locked or configuration request.

    Only a root complex may.

    Holds::

        1us tlps kind=MRd direction=upstream damaged=no

    Breaks::

        1us tlps kind=CfgRd0 direction=upstream damaged=no
    """
    up = words(batch, "direction", ("upstream",)) & (numbers(batch, "damaged") == 0)
    return found(
        up & ~words(batch, "kind", ("Cpl", "CplD", "CplLk", "CplDLk")), words(batch, "kind", NEVER_UPSTREAM),
        lambda row: f"the device sent a {batch.column('kind')[row]}",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.7-n3", table="tlps", columns=FIELDS, spec="PCIe Base 5.0, 2.2.7", party="both",
)  # fmt: skip
def field_of_config_or_io_request(batch: pa.RecordBatch) -> Broken:
    """A configuration or I/O request is one dword, of traffic class 0, with no attribute, hint or address type.

    Its last byte enables are zero.

    Holds::

        1us tlps kind=CfgRd0 length_dw=1 first_be=15 last_be=0 tc=0 attr=0 header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=CfgRd0 length_dw=2 first_be=15 last_be=0 tc=0 attr=0 header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=IORd length_dw=1 first_be=15 last_be=0 tc=0 attr=2 header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=CfgWr0 length_dw=1 first_be=15 last_be=0 tc=0 attr=0 header_flags=0x40004 damaged=no
    """
    length, last, tc, attr = (numbers(batch, name) for name in ("length_dw", "last_be", "tc", "attr"))
    more = bits(batch, "header_flags", Header.HINTS | Header.TRANSLATION | Header.TRANSLATED)
    bad = (length != 1) | (last != 0) | (tc != 0) | (attr != 0) | more

    def message(row: int) -> str:
        wrong = [
            (length[row] != 1, f"its length is {length[row]} dwords"), (last[row] != 0, "it has last byte enables"),
            (tc[row] != 0, f"its traffic class is {tc[row]}"), (attr[row] != 0, f"its attributes are {attr[row]:03b}b"),
            (more[row], "TH or AT is not zero"),
        ]  # fmt: skip
        return f"of a {batch.column('kind')[row]} " + ", ".join(text for one, text in wrong if one)

    return found(seen(batch, *CONFIG_IO, wire=False), bad, message)


@column_rule("PCIE-2.2.6.4-n3", table="tlps", columns=SEEN, spec="PCIe Base 5.0, 2.2.4.2", party="both")
def reserved_address_type(batch: pa.RecordBatch) -> Broken:
    """The address type of a memory request is none of the reserved value 11b.

    Nobody can say what its address means.

    Holds::

        1us tlps kind=MRd header_flags=0x40008 damaged=no

    Breaks::

        1us tlps kind=MRd header_flags=0x4000c damaged=no
    """
    both = Header.TRANSLATION | Header.TRANSLATED
    return found(
        seen(batch, *MEMORY), numbers(batch, "header_flags") & both == both,
        lambda row: f"the address type of a {batch.column('kind')[row]} is 11b",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.8-n1", table="tlps", columns=(*SEEN, "direction", "header_dw", "message_code"),
    spec="PCIe Base 5.0, 2.2.8", party="controller", severity="warning",
)  # fmt: skip
def form_of_message(batch: pa.RecordBatch) -> Broken:
    """A message has four dwords of header, a code that is defined with a routing that goes with it, no reserved bit.

    A receiver drops what it does not know.

    Holds::

        1us tlps kind=Msg direction=upstream message_code=0x20 header_dw=4 header_flags=0x40200 damaged=no

    Breaks::

        1us tlps kind=Msg direction=upstream message_code=0x20 header_dw=4 header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=Msg direction=upstream message_code=0x9f header_dw=4 header_flags=0x40200 damaged=no

    Breaks::

        1us tlps kind=Msg direction=upstream message_code=0x20 header_dw=4 header_flags=0x40210 damaged=no
    """
    flags, code, size = (numbers(batch, name) for name in ("header_flags", "message_code", "header_dw"))
    routing = flags >> 7 & 7
    reserved = bits(batch, "header_flags", Header.RESERVED)
    legal = _LEGAL[code & 255, routing]

    def message(row: int) -> str:
        text = f"message {code[row]:02X}h with routing {routing[row]:03b}b"
        if not legal[row]:
            return f"{text} is none that is defined"
        return f"{text} has {size[row]} dwords of header" if size[row] != 4 else f"{text} has a reserved bit set"

    sound = seen(batch, *MESSAGES) & there(batch, "message_code") & words(batch, "direction", ("upstream",))
    return found(sound, ~legal | reserved | (size != 4), message)
