"""The exchange format: which columns of the table ``tlps`` a file needs to be read as a capture, and how it is written.

Whoever has TLPs in another form can convert them to Parquet, CSV or JSON lines with these columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmtrace.tables import TLPS

DATA = "data"
"""A column that is no part of ``tlps``: the whole TLP as on the wire, in place of the columns taken from it."""


@dataclass(frozen=True, slots=True)
class Need:
    """Whether a column is needed, and what stands for a value that is missing."""

    when: str
    otherwise: str


NEEDS: dict[str, Need] = {
    "link": Need("no", "one link named pcie0"),
    "time_ps": Need("always", ""),
    "end_ps": Need("no", "time_ps"),
    "direction": Need("always", ""),
    "kind": Need("always", ""),
    "header_dw": Need("no", "not known"),
    "requester_id": Need("all kinds", "an interrupt that the core sent from side-band pins"),
    "completer_id": Need("completions, configuration requests", "0"),
    "tag": Need("reads, configuration requests, completions", "0"),
    "tc": Need("no", "0"),
    "attr": Need("no", "0"),
    "address": Need("memory, I/O and configuration requests", ""),
    "length_dw": Need("requests", "the length of the payload; 1 of a configuration request"),
    "first_be": Need("requests", "all bytes, marked as assumed"),
    "last_be": Need("requests", "all bytes, marked as assumed"),
    "byte_count": Need("completions with data", "what the payload holds"),
    "lower_address": Need("no", "0"),
    "status": Need("no", "0, successful"),
    "message_code": Need("messages", "0"),
    "poisoned": Need("no", "false"),
    "damaged": Need("no", "false"),
    "payload": Need("TLPs with data", "not captured: nothing that rests on it is judged"),
    "function": Need("no", "not known"),
    "bar": Need("no", "not known"),
    "tag_assumed": Need("no", "false"),
    "requester_assumed": Need("no", "false"),
    "header_flags": Need("no", "not known: what rests on it is not judged"),
    "source_offset": Need("no", "the number of the row or line"),
}
"""The columns that are read; all others of ``tlps`` are found out anew."""

EXAMPLE: dict[str, object] = {
    "time_ps": 1_500_000, "direction": "upstream", "kind": "MWr", "requester_id": 0x0100, "tag": 0,
    "address": 0x1_0000_1000, "length_dw": 2, "first_be": 15, "last_be": 15, "payload": "0011223344556677",
}  # fmt: skip
EXAMPLE_DATA: dict[str, object] = {
    "time_ps": 1_500_000, "direction": "upstream", DATA: "60000002010000ff00000001000010000011223344556677",
}  # fmt: skip


def document() -> str:
    """Return the exchange format for people: columns, types, which are needed, an example in each form."""
    import json

    types = {one.name: (one.type, one.text) for one in TLPS.columns}
    rows = [(name, types[name][0], need.when, need.otherwise, types[name][1]) for name, need in NEEDS.items()]
    lines = [
        "TLPs as Parquet, CSV (first line: column names) or JSON lines (one object a line), in the order in which",
        "they crossed the link; text also .gz and .zst. The columns are those of the table tlps, in any order;",
        "columns that are not named here are ignored.",
        "Bytes are hexadecimal in CSV and JSON. Numbers may be written 4096, 0x1000 or 1000h, functions 01:00.0.",
        "",
        f"{'column':18} {'type':7} needed by",
    ]
    for name, kind, when, otherwise, text in rows:
        lines.append(f"{name:18} {kind:7} {when}")
        lines.append(f"{'':26} {text.replace('`', '')}")
        if otherwise:
            lines.append(f"{'':26} If missing: {otherwise}.")
    lines += [
        f"{DATA:18} {'bytes':7} instead of kind and all that follows it",
        f"{'':26} The TLP as on the wire: header big-endian, payload in memory order, without LCRC.",
        "",
        "A row as a line of JSON, and as CSV:",
        json.dumps(EXAMPLE),
        ",".join(EXAMPLE),
        ",".join(str(value) for value in EXAMPLE.values()),
        "",
        "The same TLP whole:",
        json.dumps(EXAMPLE_DATA),
        "",
        "A CSV with other column names, as a protocol analyzer exports it:",
        'lmtrace check export.csv --columns "time=Time:us,dir=Dir:Host/Device,data=Raw Data"',
        "    time=COLUMN:UNIT             time stamp in s, ms, us, ns or ps, counted from the first; no UNIT where",
        "                                 each has its own, as 1.5 us. Also 1.5e-6, 01:02:03.5 (hours, minutes,",
        "                                 seconds), digits in groups, and 1,5 where semicolons part the fields",
        "    dir=COLUMN:DOWN/UP           direction, and the words for towards the device and from it",
        "                                 (without them: downstream, down, ds; upstream, up, us)",
        "    data=COLUMN                  the whole TLP, hexadecimal; lines without one, as of DLLPs, are left out",
        "    header=COLUMN,payload=COLUMN the same in two columns",
        "    any column of tlps=COLUMN    as above; NAME=COLUMN:hex for hexadecimal without a mark",
        '    host=BDF                     the host\'s requester id, where no column tells the direction of "data"',
        "    offset=, dll, seq, lcrc, little, little-header   as with --framing, where TLPs lie in the data",
        "    A name with a comma or colon stands in double quotes.",
    ]
    return "\n".join(lines) + "\n"
