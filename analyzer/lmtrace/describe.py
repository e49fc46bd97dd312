"""Commands in words: the operation a command asks for and its fields, by the specification's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmtrace.spec.fabrics import FABRICS_LAYOUTS, FABRICS_OPCODE
from lmtrace.spec.layout import Field, Layout
from lmtrace.spec.migration import sqe_layout
from lmtrace.spec.nvme import SQE, Admin, Cns, Feature, Nvm, command_name

_ENVELOPE = frozenset(("OPC", "FUSE", "PSDT", "CID", "SEL", "FID", "FCTYPE", "SGL1"))
_SELDOM = frozenset(("PRP2", "UIDX", "OU", "CSOU", "CSUIDXP"))
"""Fields that are worth showing only where they are not 0."""
_BLOCKS = frozenset((
    Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.WRITE_ZEROES, Nvm.WRITE_UNCORRECTABLE, Nvm.VERIFY, Nvm.ZONE_APPEND,
))  # fmt: skip


def entry(row: Mapping[str, Any]) -> bytes:
    """Return the 64 bytes of a submission queue entry from a row of ``transactions``; nulls are 0."""
    if row.get("cdw0") is not None:
        first = row["cdw0"]
    else:
        first = (row["opcode"] or 0) | (row["fuse"] or 0) << 8 | (row["psdt"] or 0) << 14 | (row["cid"] or 0) << 16
    values = {name: row[name.lower()] or 0 for name in ("NSID", "CDW2", "CDW3", "MPTR")}
    values |= {"PRP1": row["dptr1"] or 0, "PRP2": row["dptr2"] or 0}
    values |= {f"CDW{n}": row[f"cdw{n}"] or 0 for n in range(10, 16)}
    dword: bytes = int(first).to_bytes(4, "little")
    return dword + SQE.encode(**values)[4:]


def layout_of(row: Mapping[str, Any]) -> Layout | None:
    """Return the layout of a live-migration or Fabrics command, None for any other."""
    if row["opcode"] == FABRICS_OPCODE and row["nsid"] is not None:
        return FABRICS_LAYOUTS.get(row["nsid"] & 0xFF)
    if row["sqid"] != 0 or row["opcode"] is None:
        return None
    return sqe_layout(row["opcode"], row["cdw10"] or 0)


def operation(row: Mapping[str, Any]) -> str:
    """Return what a command asks for: its name, and the operation where its opcode has several."""
    layout = layout_of(row)
    if layout is not None and layout.name != row["name"]:
        return (
            layout.name
            if row["opcode"] in (Admin.SET_FEATURES, Admin.GET_FEATURES)
            else f"{row['name']}: {layout.name}"
        )
    return str(row["name"] or command_name(row["sqid"], row["opcode"]))


def fields(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a command's own fields as (name, value); coded values are followed by their word."""
    layout, cdw10, cdw11 = layout_of(row), row["cdw10"] or 0, row["cdw11"] or 0
    if layout is not None:
        raw = entry(row)
        used = [one for one in layout.fields if one.used and one.name not in _ENVELOPE]
        return [(one.name, _value(one, raw)) for one in used if one.name not in _SELDOM or one.of(raw)]
    found: list[tuple[str, str]] = [("NSID", str(row["nsid"]))] if row["nsid"] else []
    if row["sqid"]:
        if row["opcode"] in _BLOCKS:
            blocks = ((row["cdw12"] or 0) & 0xFFFF) + 1
            return [*found, ("SLBA", str(cdw11 << 32 | cdw10)), ("blocks", str(blocks)), _prp1(row)]
    elif row["opcode"] == Admin.IDENTIFY:
        cns = cdw10 & 0xFF
        word = f" {Cns(cns).name.replace('_', ' ').lower()}" if cns in Cns._value2member_map_ else ""
        return [*found, ("CNS", f"{cns:02X}h{word}"), _prp1(row)]
    elif row["opcode"] in (Admin.SET_FEATURES, Admin.GET_FEATURES):
        fid = cdw10 & 0xFF
        word = f" {Feature(fid).name.replace('_', ' ').lower()}" if fid in Feature._value2member_map_ else ""
        return [*found, ("FID", f"{fid:02X}h{word}"), ("CDW11", f"{cdw11:X}h")]
    elif row["opcode"] in (Admin.CREATE_IO_SQ, Admin.CREATE_IO_CQ):
        last = ("CQID", str(cdw11 >> 16)) if row["opcode"] == Admin.CREATE_IO_SQ else ("IV", str(cdw11 >> 16))
        return [("QID", str(cdw10 & 0xFFFF)), ("entries", str((cdw10 >> 16) + 1)), last, _prp1(row)]
    elif row["opcode"] in (Admin.DELETE_IO_SQ, Admin.DELETE_IO_CQ):
        return [("QID", str(cdw10 & 0xFFFF))]
    dwords = [(f"CDW{n}", row[f"cdw{n}"] or 0) for n in range(10, 16)]
    return [*found, *((name, f"{value:X}h") for name, value in dwords if value), _prp1(row)]


def text(row: Mapping[str, Any]) -> str:
    """Return a command in one line: ``Migration Send: Suspend CNTLID 1 STYPE 1 Suspend DUDMQ 1``."""
    return " ".join([operation(row), *(f"{name} {value}" for name, value in fields(row) if value)])


def _prp1(row: Mapping[str, Any]) -> tuple[str, str]:
    return "SGL1" if row["psdt"] else "PRP1", f"{row['dptr1']:X}h" if row["dptr1"] else ""


def _value(field: Field, raw: bytes) -> str:
    value = field.of(raw)
    if field.width > 32:
        return f"{value:X}h"
    if field.codes is not None:
        return f"{value} {field.codes.get(value, 'reserved' if field.reserved_code(value) else 'vendor')}"
    return str(value)
