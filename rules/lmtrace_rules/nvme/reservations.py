"""nvme-checklist G20: reservations, which keep hosts from the blocks of others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Nvm, command_name
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G20 NVM command set"
PROFILE = ("nvme", "reservations")
CONFLICT = 0x83
LARGEST_ACTION, RESERVED_PERSISTENCE = 2, 1
FLAWS = {
    "type": "another type of reservation than there is", "missing": "not every host that is registered",
    "stranger": "a host that is not registered", "key": "another key than a host has registered",
    "holder": "another holder than there is",
}  # fmt: skip


@column_rule(
    "NVM21-7.5-7.8-n1", table="reservation_commands", columns=("opcode", "nsid", "sct", "sc", "report_flaw"),
    spec="NVMe Base 2.1, 7.8", party="controller", severity="warning", local=False,
)  # fmt: skip
def reservation_misreported(batch: pa.RecordBatch) -> Broken:
    """A Reservation Report tells what the reservation commands before it have made.

    Hosts decide by it who has failed and must be shut out.

    Holds::

        1us reservation_commands opcode=0x0e nsid=1 sct=0 sc=0

    Breaks::

        1us reservation_commands opcode=0x0e nsid=1 sct=0 sc=0 report_flaw=holder

    Silent::

        1us reservation_commands opcode=0x0d nsid=1 sct=0 sc=0
    """
    nsid, flaws = numbers(batch, "nsid"), there(batch, "report_flaw")
    kinds = {name: words(batch, "report_flaw", (name,)) for name in FLAWS}
    reports = (numbers(batch, "opcode") == Nvm.RESERVATION_REPORT) & (numbers(batch, "sct") == 0)

    def message(row: int) -> str:
        what = next(FLAWS[name] for name, rows in kinds.items() if rows[row])
        return f"a Reservation Report of namespace {nsid[row]} tells {what}"

    return found(reports & (numbers(batch, "sc") == 0), flaws, message)


@column_rule(
    "NVM21-7.6-n1", table="reservation_commands", columns=("opcode", "nsid", "action", "persistence"),
    spec="NVMe Base 2.1, 7.6", party="host", severity="warning",
)  # fmt: skip
def register_without_action(batch: pa.RecordBatch) -> Broken:
    """A Reservation Register names an action that there is, and no reserved change of persistence.

    RREGA is 0, 1 or 2: register, unregister, replace.

    Holds::

        1us reservation_commands opcode=0x0d nsid=1 action=2 persistence=3

    Breaks::

        1us reservation_commands opcode=0x0d nsid=1 action=3

    Breaks::

        1us reservation_commands opcode=0x0d nsid=1 action=0 persistence=1

    Silent::

        1us reservation_commands opcode=0x11 nsid=1 action=3
    """
    nsid, action, persistence = (numbers(batch, name) for name in ("nsid", "action", "persistence"))
    return found(
        numbers(batch, "opcode") == Nvm.RESERVATION_REGISTER,
        (action > LARGEST_ACTION) | (persistence == RESERVED_PERSISTENCE),
        lambda row: f"a Reservation Register for namespace {nsid[row]} has RREGA {action[row]} and CPTPL "
        f"{persistence[row]:02b}b",
    )  # fmt: skip


@column_rule(
    "NVM21-7.5-n1", table="transactions", columns=("opcode", "nsid", "sct", "sc", "reserved_away"),
    spec="NVMe Base 2.1, 8.1.22", party="controller", local=False,
)  # fmt: skip
def reservation_disregarded(batch: pa.RecordBatch) -> Broken:
    """A command that a reservation of another host stands in the way of fails, and no other one for that.

    Only hosts are told apart that have set their identifiers, of a subsystem without further ports.

    Holds::

        1us transactions sqid=1 opcode=1 nsid=1 reserved_away=yes sct=0 sc=0x83

    Breaks::

        1us transactions sqid=1 opcode=1 nsid=1 reserved_away=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 opcode=1 nsid=1 reserved_away=no sct=0 sc=0x83

    Silent::

        1us transactions sqid=1 opcode=1 nsid=1 sct=0 sc=0x83
    """
    opcode, nsid, generic, code = (numbers(batch, name) for name in ("opcode", "nsid", "sct", "sc"))
    away = numbers(batch, "reserved_away") != 0
    bad = np.where(away, code == 0, code == CONFLICT) & (generic == 0)

    def message(row: int) -> str:
        name = f"{command_name(1, int(opcode[row]))} for namespace {nsid[row]}"
        if away[row]:
            return f"{name} succeeded, though another host has reserved the namespace"
        return f"{name} failed for a reservation that does not stand in its way"

    return found(there(batch, "reserved_away", "sct"), bad, message)
