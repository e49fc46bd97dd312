"""nvme-checklist G23: how many zones may be open and active."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Nvm, Status
from lmtrace.spec.zones import (
    ACTIVE,
    NO_LIMIT,
    TOO_MANY_ACTIVE_ZONES,
    TOO_MANY_OPEN_ZONES,
    ZoneSend,
)
from lmtrace_rules.columns import numbers, there
from lmtrace_rules.nvme.zone_actions import CLOSED, EMPTY, EXPLICIT, asks, sends
from lmtrace_rules.nvme.zone_rows import (
    COMMANDS,
    WHAT,
    WRITES,
    ended,
    judged,
    surely,
    told,
)

SECTION = "G23 Zoned namespaces"
PROFILE = ("nvme", "zones")


@column_rule(
    "NVM21-Z2.1.1-n9", table=COMMANDS, columns=(*WHAT, "action", "select_all", "open_least", "open_most", "open_limit"),
    spec="ZNS Command Set 1.2, 2.1.1.4", party="controller", local=False,
)  # fmt: skip
def opened_beyond_the_limit(batch: pa.RecordBatch) -> Broken:
    """A zone is opened while MOR allows one more, or one can be closed for it; else the command is refused.

    Zones that were opened implicitly may be closed by the controller, others not.

    Holds::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 open_least=3 open_most=3 open_limit=3 sct=1 sc=0xbe

    Holds::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 open_least=2 open_most=2 open_limit=3 sc=0

    Breaks::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 open_least=3 open_most=3 open_limit=3 sc=0

    Breaks::

        1us zone_commands opcode=0x79 action=3 select_all=no slba=0 states=2 open_most=2 open_limit=3 sct=1 sc=0xbe

    Breaks::

        1us zone_commands opcode=0x7d slba=0 zone=0 states=2 open_limit=0x100000000 sct=1 sc=0xbe

    Breaks::

        1us zone_commands opcode=1 slba=0 zone=0 states=8 open_limit=3 sct=1 sc=0xbe

    Silent::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 open_limit=3 sct=1 sc=0xbe

    Silent::

        1us zone_commands opcode=1 slba=0 zone=0 states=8 open_least=3 open_most=3 open_limit=3 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 open_least=2 open_most=3 open_limit=3 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 open_least=3 open_most=3 open_limit=3 sct=1 sc=0xbd
    """
    return _resources(batch, "open", EMPTY | CLOSED, EXPLICIT, TOO_MANY_OPEN_ZONES, "open", (ZoneSend.OPEN,))


@column_rule(
    "NVM21-Z2.1.1-n10", table=COMMANDS,
    columns=(*WHAT, "action", "select_all", "active_least", "active_most", "active_limit"),
    spec="ZNS Command Set 1.2, 2.1.1.4", party="controller", local=False,
)  # fmt: skip
def activated_beyond_the_limit(batch: pa.RecordBatch) -> Broken:
    """An empty zone becomes active while MAR allows one more; else the command is refused.

    No other zone can make room: the host has to finish or reset one.

    Holds::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 active_least=5 active_most=5 active_limit=5 sct=1 sc=0xbd

    Breaks::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 active_least=5 active_most=5 active_limit=5 sc=0

    Breaks::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 active_least=3 active_most=4 active_limit=5 sct=1 sc=0xbd

    Breaks::

        1us zone_commands opcode=1 slba=0 zone=0 states=0x10 active_limit=5 sct=1 sc=0xbd

    Silent::

        1us zone_commands opcode=1 slba=0 zone=0 states=0x10 active_least=5 active_most=5 active_limit=5 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 active_least=3 active_most=5 active_limit=5 sc=0

    Silent::

        1us zone_commands opcode=1 slba=0 zone=0 states=2 active_limit=5 sct=1 sc=0xbd
    """
    needing = (ZoneSend.OPEN, ZoneSend.SET_DESCRIPTOR_EXTENSION)
    return _resources(batch, "active", EMPTY, ACTIVE, TOO_MANY_ACTIVE_ZONES, "active", needing)


def _resources(
    batch: pa.RecordBatch, name: str, needs: int, has: int, refusal: Status, text: str, actions: tuple[int, ...]
) -> Broken:  # fmt: skip
    """Judge commands that need an open or active zone more: in states ``needs``, and not in states ``has``."""
    least, most, limit = (numbers(batch, f"{name}_{one}") for one in ("least", "most", "limit"))
    known = there(batch, f"{name}_limit")
    one = there(batch, "select_all") & (numbers(batch, "select_all") == 0)
    asked = told(batch, *WRITES, Nvm.ZONE_APPEND) | (sends(batch) & one & asks(batch, *actions))
    spent = known & there(batch, f"{name}_least") & surely(batch, needs) & (least >= limit)
    free = known & ((limit > NO_LIMIT) | (there(batch, f"{name}_most") & (most < limit)) | surely(batch, has))

    def says(row: int) -> str:
        if spent[row]:
            return f"{least[row]} other zones are {text} and there may be {limit[row]}"
        if limit[row] > NO_LIMIT:
            return f"any number of zones may be {text}"
        if there(batch, f"{name}_most")[row] and most[row] < limit[row]:
            return f"at most {most[row]} other zones are {text} and there may be {limit[row]}"
        return f"the zone is {text} already"

    counted = asked & (there(batch, f"{name}_most") | ended(batch, refusal))
    return judged(batch, counted & (spent | free | ended(batch, refusal)), spent, free, (refusal,), says)
