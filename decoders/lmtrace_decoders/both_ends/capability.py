"""What the source could do for its tenant, and what the destination can (hmlm 6.14; Base 2.1, 8.1.12)."""

from __future__ import annotations

import numpy as np

from lmtrace.spec.nvme import IDENTIFY_CONTROLLER, Admin, Cns, Feature
from lmtrace_decoders.both_ends.ends import End, Handover
from lmtrace_decoders.both_ends.sheet import DIFFERS, EQUAL, UNKNOWN, Sheet
from lmtrace_decoders.both_ends.states import identify

CAPABILITY = "capability"
UNLIMITED = 1 << 63
MOST_NAMESPACES = 64
ALL = 0xFFFFFFFF
_UNSEEN = "not seen at both ends"


def compare_capabilities(handover: Handover) -> None:
    """Write what both ends can do, as far as it was read there."""
    source, destination = handover.source, handover.destination
    if source is None or destination is None or handover.rolled_back:
        return
    sheet = Sheet(handover.store, handover, CAPABILITY, destination)
    ends = (source, destination)
    pages = [_capability(one, 48, 4) for one in ends]
    _add(sheet, "CAP.MQES", [_capability(one, 0, 16) for one in ends])
    sizes = [_largest(handover, one, page) for one, page in zip(ends, pages, strict=True)]
    texts = [None if size is None else "no limit" if size == UNLIMITED else f"{size} bytes" for size in sizes]
    _add(sheet, "MDTS", sizes, texts)
    granted = [_granted(one) for one in ends]
    for item, place in (("NSQA", 0), ("NCQA", 16)):
        _add(sheet, item, [None if one is None else (one >> place & 0xFFFF) + 1 for one in granted])
    for nsid in _used(source):
        there = [_namespace(handover, one, nsid) for one in ends]
        for place, item in enumerate(("blocks", "block size")):
            _add(sheet, f"namespace {nsid} {item}", [None if one is None else one[place] for one in there])


def _add(sheet: Sheet, item: str, values: list[int | None], texts: list[str | None] | None = None) -> None:
    first, second = values
    known = first is not None and second is not None
    judgement = UNKNOWN if not known else EQUAL if first == second else DIFFERS
    sheet.add(item, first, second, judgement, "" if known else _UNSEEN, texts=texts)


def _capability(end: End, low: int, width: int) -> int | None:
    """Return a field of CAP as the host read it, or None."""
    for row in end.rows("properties", ("name", "==", "CAP")):
        start, value = 8 * (row["offset"] % 8), row["value"]
        if not row["write"] and value is not None and start <= low and low + width <= start + 8 * row["size"]:
            return int(value >> (low - start) & ((1 << width) - 1))
    return None


def _largest(handover: Handover, end: End, page: int | None) -> int | None:
    """Return the bytes that one command may move by MDTS, or None."""
    if end.function is None:
        return None
    for data in identify(handover, end.link, Cns.CONTROLLER, function=end.function):
        mdts = data.field(IDENTIFY_CONTROLLER, "MDTS")
        if mdts == 0:
            return UNLIMITED
        if mdts is not None and page is not None:
            return min(1 << (12 + page + mdts), UNLIMITED)
    return None


def _granted(end: End) -> int | None:
    """Return dword 0 of the latest successful Set Features, Number of Queues."""
    table = end.read("transactions", ("opcode", "cdw10", "sct", "sc", "dw0"), ("sqid", "==", 0),
                     ("opcode", "==", int(Admin.SET_FEATURES)))  # fmt: skip
    found = None
    for row in table.to_pylist():
        if row["cdw10"] & 0xFF == Feature.NUMBER_OF_QUEUES and (row["sct"], row["sc"]) == (0, 0):
            found = row["dw0"]
    return found


def _used(source: End) -> list[int]:
    """Return the namespaces that the source's tenant used."""
    nsids = [int(one) for one in np.unique(source.traffic["nsid"])]
    return [one for one in nsids if 0 < one < ALL][:MOST_NAMESPACES]


def _namespace(handover: Handover, end: End, nsid: int) -> tuple[int, int] | None:
    """Return (blocks, bytes of a block) of a namespace by Identify of any controller on the link, or None."""
    for data in identify(handover, end.link, Cns.NAMESPACE, nsid=nsid):
        size, formats = data.bytes(0, 8), data.bytes(26, 27)
        if size is None or formats is None or not int.from_bytes(size, "little"):
            continue
        number = formats[0] & 0xF | (formats[0] >> 5 & 3) << 4
        entry = data.bytes(128 + 4 * number, 132 + 4 * number)
        if entry is not None:
            return int.from_bytes(size, "little"), 1 << entry[2]
    return None
