"""Structures that commands carry: state formats, feature 21h, events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from lmtrace import describe
from lmtrace.pieces import Pieces
from lmtrace.report.words import clean, who
from lmtrace.show.fields import rows_of
from lmtrace.show.sheet import Fields, Grid, Part
from lmtrace.show.sheet import Row as Cell
from lmtrace.spec import migration
from lmtrace.spec.layout import Field
from lmtrace.spec.nvme import Admin, Cns, Feature
from lmtrace.units import count, exact

if TYPE_CHECKING:
    from lmtrace.run import Run
    from lmtrace.show.options import Options

Row = dict[str, Any]
_EVENT_TYPES = {
    0: "error", 1: "SMART / health", 2: "notice", 3: "immediate", 4: "one-shot", 6: "I/O command set specific",
    7: "vendor specific",
}  # fmt: skip
_ONE_SHOT = {0: "Controller Data Queue Tail Pointer", 1: "Controller Data Queue Full Error"}


def admin_commands(run: Run, opcode: int, options: Options) -> list[Row]:
    """Return the admin commands of an opcode in order, as the options choose."""
    where = [("sqid", "==", 0), ("opcode", "==", opcode), *options.window("fetch_ps")]
    if options.transactions:
        where.append(("id", "in", sorted(options.transactions)))
    found: list[Row] = run.table("transactions", where=where).to_pylist()
    return found


def data_of(run: Run, commands: list[Row]) -> dict[int, Pieces]:
    """Return the data buffers of commands, as far as they were seen."""
    if not commands:
        return {}
    where = [("transaction_id", "in", sorted({one["id"] for one in commands}))]
    rows = run.table("command_data", where=where).to_pylist()
    return {row["transaction_id"]: Pieces.of(row["data"], row["seen"]) for row in rows}


def _title(row: Row, several: bool) -> str:
    place = f" in {clean(row['capture'])}" if several else ""
    return f"{describe.operation(row)}, transaction {row['id']} of {who(row)}{place}, {exact(row['fetch_ps'])}"


def _ended(row: Row) -> str:
    return str(row["status"] or row["outcome"])


# -- Identify CNS 20h -----------------------------------------------------------------------------------------


def state_formats(run: Run, options: Options) -> Iterator[Fields]:
    """Supported Controller State Formats, as Identify (CNS 20h) told them (Base 2.1, 5.1.13.2.21)."""
    commands = [
        one for one in admin_commands(run, Admin.IDENTIFY, options)
        if (one["cdw10"] or 0) & 0xFF == Cns.CONTROLLER_STATE_FORMATS
    ]  # fmt: skip
    buffers = data_of(run, commands)
    for one in commands:
        pieces = buffers.get(one["id"], Pieces())
        yield Fields(_title(one, options.several), [_ended(one)], formats_parts(pieces) if pieces.ranges else [])


def formats_parts(pieces: Pieces) -> list[Part]:
    """Return the structure's counts and its two lists."""

    def number(first: int, size: int) -> int | None:
        raw = pieces.bytes(first, first + size)
        return None if raw is None else int.from_bytes(raw, "little")

    versions, uuids = number(0, 1), number(1, 1)
    parts = [
        Part("Counts", [
            Cell("0", "NV", versions, "versions of the NVMe Controller State"),
            Cell("1", "NUUID", uuids, "UUIDs of vendor formats"),
        ])
    ]  # fmt: skip
    if versions:
        rows = [
            Cell(f"{3 + 2 * at}:{2 + 2 * at}", "VERS", number(2 + 2 * at, 2), f"CSVI {at + 1}")
            for at in range(versions)
        ]  # fmt: skip
        parts.append(Part("Versions", rows))
    if versions is not None and uuids:
        rows = []
        for at in range(uuids):
            first = 2 + 2 * versions + 16 * at
            raw = pieces.bytes(first, first + 16)
            rows.append(
                Cell(
                    f"{first + 15}:{first}", "UUID", None if raw is None else str(UUID(bytes=raw)), f"CSUUIDI {at + 1}"
                )
            )
        parts.append(Part("UUIDs", rows))
    return parts


# -- feature 21h ----------------------------------------------------------------------------------------------


def feature_21h(run: Run, options: Options) -> Iterator[Fields]:
    """Set and Get Features of the Controller Data Queue feature (Base 2.1, 5.1.25.1.23)."""
    commands = [
        one for opcode in (Admin.SET_FEATURES, Admin.GET_FEATURES) for one in admin_commands(run, opcode, options)
        if (one["cdw10"] or 0) & 0xFF == Feature.CONTROLLER_DATA_QUEUE
        and options.cdq in (None, (one["cdw11"] or 0) & 0xFFFF)
    ]  # fmt: skip
    buffers = data_of(run, [one for one in commands if one["opcode"] == Admin.GET_FEATURES])
    for one in sorted(commands, key=lambda one: one["id"]):
        yield Fields(
            _title(one, options.several), [_ended(one)], list(_feature_parts(one, buffers.get(one["id"], Pieces())))
        )


def _feature_parts(row: Row, data: Pieces) -> Iterator[Part]:
    sent = row["opcode"] == Admin.SET_FEATURES
    layout = migration.SET_FEATURES_CDQ if sent else migration.GET_FEATURES_CDQ
    raw = describe.entry(row)
    names = ("SV", "CDQID", "ETPT", "HP", "TPT") if sent else ("SELECT", "CDQID")
    armed = bool(migration.SET_FEATURES_CDQ["ETPT"].of(raw))
    texts = {
        "SV": "", "CDQID": "controller data queue", "HP": "new head slot", "SELECT": "",
        "ETPT": "tail pointer event armed" if armed else "no tail pointer event",
        "TPT": "slot that raises the event" if armed else "ignored, as ETPT is 0",
    }  # fmt: skip
    yield Part("Command", [Cell(_cdw(layout[name]), name, layout[name].of(raw), texts[name]) for name in names])
    if not sent and row["sct"] == 0 and row["sc"] == 0:
        dw0 = row["dw0"]
        rows = [
            Cell("DW0 [15:0]", "CDQID", None if dw0 is None else dw0 & 0xFFFF),
            Cell("DW0 [31]", "ETPT", None if dw0 is None else dw0 >> 31, "tail pointer event armed" if dw0 else ""),
        ]
        yield Part("Completion", rows)
        yield Part("Data", rows_of(migration.CDQ_FEATURE_DATA, data, 0, {
            "HP": lambda _: "head slot", "TPT": lambda _: "tail pointer trigger slot",
        }))  # fmt: skip


def _cdw(field: Field) -> str:
    low, high = field.lo % 32, (field.lo + field.width - 1) % 32
    return f"CDW{field.lo // 32} [{low}]" if low == high else f"CDW{field.lo // 32} [{high}:{low}]"


# -- events ---------------------------------------------------------------------------------------------------


def events(run: Run, options: Options) -> Iterator[Grid]:
    """Asynchronous events reported, the one-shot events of data queues decoded (Base 2.1, 5.1.2)."""
    commands = [
        one for one in admin_commands(run, Admin.ASYNC_EVENT_REQUEST, options)
        if one["cqe_ps"] is not None and one["dw0"] is not None and not one["sct"] and not one["sc"]
    ]  # fmt: skip
    if options.cdq is not None:
        commands = [one for one in commands if one["dw0"] & 7 == 4 and (one["dw1"] or 0) & 0xFFFF == options.cdq]
    records = [event_record(one) for one in sorted(commands, key=lambda one: one["id"])]
    kept = records[: options.limit]
    cells = [
        [
            exact(one["time_ps"]), "?" if one["controller"] is None else str(one["controller"]),
            str(one["transaction_id"]), f"{one['dw0']:08X}h", f"{one['dw1'] or 0:08X}h", event_words(one),
        ]
        for one in kept
    ]  # fmt: skip
    yield Grid(
        f"{count(len(records), 'asynchronous event')} reported",
        ("time", "ctrl", "command", "DW0", "DW1", "event"), cells, kept, left_out=len(records) - len(kept),
        right=frozenset(("time", "ctrl", "command")),
    )  # fmt: skip


def event_record(row: Row) -> Row:
    """Return an event from the row of the command that reported it."""
    dw0 = row["dw0"]
    kind, information = dw0 & 7, dw0 >> 8 & 0xFF
    return {
        "time_ps": row["cqe_ps"], "capture": row["capture"], "controller": row["controller"],
        "transaction_id": row["id"], "dw0": dw0, "dw1": row["dw1"], "type": kind, "information": information,
        "log_page": dw0 >> 16 & 0xFF, "cdqid": (row["dw1"] or 0) & 0xFFFF if kind == 4 and information <= 1 else None,
    }  # fmt: skip


def event_words(event: Row) -> str:
    """Return what an event says: ``one-shot: Controller Data Queue Full Error, CDQ 3``."""
    kind = _EVENT_TYPES.get(event["type"], "reserved")
    if event["type"] == 4:
        what = _ONE_SHOT.get(event["information"], f"information {event['information']:02X}h")
        return f"{kind}: {what}" + (f", CDQ {event['cdqid']}" if event["cdqid"] is not None else "")
    return f"{kind}: information {event['information']:02X}h, log page {event['log_page']:02X}h"
