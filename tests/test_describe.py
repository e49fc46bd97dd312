from __future__ import annotations

from typing import Any

import pytest

from lmtrace import describe
from lmtrace.spec.migration import SUSPEND
from lmtrace.tables import TRANSACTIONS


def row(**values: Any) -> dict[str, Any]:
    return dict.fromkeys(TRANSACTIONS.names) | {"sqid": 0} | values


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"opcode": 0x41, "name": "Migration Send", "cdw10": 0, "cdw11": 0x80010001},
         "Migration Send: Suspend CNTLID 1 STYPE 1 Suspend DUDMQ 1"),
        ({"opcode": 0x41, "name": "Migration Send", "cdw10": 0, "cdw11": 0x00050001},
         "Migration Send: Suspend CNTLID 1 STYPE 5 reserved DUDMQ 0"),
        ({"opcode": 0x41, "name": "Migration Send", "cdw10": 9}, "Migration Send"),
        ({"opcode": 0x09, "name": "Set Features", "cdw10": 0x21, "cdw11": 3, "cdw12": 8},
         "Set Features: Controller Data Queue SV 0 CDQID 3 ETPT 0 HP 8 TPT 0"),
        ({"opcode": 0x06, "name": "Identify", "cdw10": 0x20, "dptr1": 0x1000},
         "Identify CNS 20h controller state formats PRP1 1000h"),
        ({"opcode": 0x02, "sqid": 1, "name": "Read", "nsid": 1, "cdw10": 8, "cdw11": 1, "cdw12": 7, "dptr1": 0},
         "Read NSID 1 SLBA 4294967304 blocks 8"),
        ({"opcode": 0xC1, "name": "Vendor C1h", "cdw13": 0x10}, "Vendor C1h CDW13 10h"),
    ],
)  # fmt: skip
def test_commands_in_words(values: dict[str, Any], text: str) -> None:
    assert describe.text(row(**values)) == text


def test_an_entry_comes_back_with_its_reserved_bits() -> None:
    raw = bytearray(SUSPEND.encode(OPC=0x41, CID=7, CNTLID=1))
    raw[1] |= 0x3C
    columns = row(
        opcode=0x41, cid=7, cdw0=int.from_bytes(raw[:4], "little"), cdw10=0, cdw11=int.from_bytes(raw[44:48], "little")
    )  # fmt: skip
    assert describe.entry(columns) == bytes(raw)
