"""nvme-checklist G23: zone reports, by themselves and against what the commands before them did."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Severity, column_rule
from lmtrace.spec.nvme import Nvm
from lmtrace.spec.zones import (
    ACTIVE,
    ZoneReceive,
    ZoneState,
)
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.zone_actions import SHOWN, by_cause, in_state, other_state, shown
from lmtrace_rules.nvme.zone_rows import COMMANDS, REPORTED, WHAT, ended, name_of, told

SECTION = "G23 Zoned namespaces"
PROFILE = ("nvme", "zones")
FULL = ZoneState.FULL
LARGEST_TLP = 4096
FLAWS = {
    "order": "is listed behind a later one", "spacing": "is not the one behind the zone listed before it",
    "place": "begins where no zone begins", "type": "has a zone type that does not exist",
    "state": "is in a state that does not exist",
    "capacity": "has a greater capacity than size", "pointer": "has a write pointer outside itself",
}  # fmt: skip
"""What is wrong with a zone descriptor."""


def _receives(batch: pa.RecordBatch) -> np.ndarray:
    return told(batch, Nvm.ZONE_MANAGEMENT_RECEIVE)


@column_rule(
    "NVM21-Z2.1.1-n6", table=REPORTED, columns=(*SHOWN, "wp", "wp_due"), spec="ZNS Command Set 1.2, 2.1.1",
    party="controller", local=False,
)  # fmt: skip
def write_pointer_elsewhere(batch: pa.RecordBatch) -> Broken:
    """The write pointer of a zone is where the writes to it ended.

    The host writes on where it believes the zone to end. Zones that were reset have a rule of their own.

    Holds::

        1us reported_zones zone=256 state=2 states=0xa014 cause=written wp=264 wp_due=264

    Breaks::

        1us reported_zones zone=256 state=2 states=0xa014 cause=written wp=260 wp_due=264 writer_id=9

    Breaks::

        1us reported_zones zone=256 state=4 states=0xa010 cause=reported wp=260 wp_due=264 writer_id=9

    Silent::

        1us reported_zones zone=256 state=2 states=0xa014 cause=written wp=260

    Silent::

        1us reported_zones zone=256 state=14 states=0xa014 cause=written wp_due=264
    """
    wp, due = numbers(batch, "wp"), numbers(batch, "wp_due")
    applies = there(batch, "wp", "wp_due") & ~words(batch, "cause", ("reset",)) & ~other_state(batch)
    return shown(batch, applies, wp != due, lambda row: f"with write pointer {wp[row]}, not {due[row]},")


@column_rule(
    "NVM21-Z2.1.1-n7", table=REPORTED, columns=(*SHOWN, "wp", "capacity", "full_due"),
    spec="ZNS Command Set 1.2, 2.1.1", party="controller", local=False,
)  # fmt: skip
def written_zone_not_full(batch: pa.RecordBatch) -> Broken:
    """A zone is full when all of its capacity was written, and by writes no sooner.

    A full zone needs no resources; one that is not full takes more data.

    Holds::

        1us reported_zones zone=256 state=14 states=0xe000 cause=written full_due=yes

    Breaks::

        1us reported_zones zone=256 state=2 states=0xe000 cause=written full_due=yes writer_id=9

    Breaks::

        1us reported_zones zone=256 state=14 states=0xa014 cause=written full_due=no writer_id=9

    Breaks::

        1us reported_zones zone=256 state=4 states=0xa01e cause=written wp=304 capacity=48

    Silent::

        1us reported_zones zone=256 state=14 states=0xe014 cause=written full_due=no

    Silent::

        1us reported_zones zone=256 state=1 states=0xa014 cause=written full_due=no
    """
    state, due = numbers(batch, "state"), numbers(batch, "full_due") != 0
    by_writes = by_cause(batch, "written") & (due | (state == FULL))
    end = numbers(batch, "zone").astype(np.int64) + numbers(batch, "capacity").astype(np.int64)
    at_end = (
        there(batch, "wp", "capacity") & (ACTIVE >> state & 1 != 0) & (numbers(batch, "wp").astype(np.int64) >= end)
    )
    other = by_writes & other_state(batch)
    return shown(
        batch, by_writes | at_end, other | at_end,
        lambda row: in_state(batch, row) if other[row] else "with a write pointer at its end, and not Full,",
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n8", table=REPORTED, columns=(*SHOWN, "full_due"), spec="ZNS Command Set 1.2, 2.1.1",
    party="controller", local=False,
)  # fmt: skip
def written_zone_not_open(batch: pa.RecordBatch) -> Broken:
    """A write opens an empty or closed zone implicitly; the controller may close it again, and nothing else.

    The host counts the zones that it has open.

    Holds::

        1us reported_zones zone=256 state=2 states=0xa014 cause=written full_due=no

    Holds::

        1us reported_zones zone=256 state=4 states=0xa014 cause=written full_due=no

    Breaks::

        1us reported_zones zone=256 state=1 states=0xa014 cause=written full_due=no writer_id=9

    Breaks::

        1us reported_zones zone=256 state=3 states=0xa014 cause=written full_due=no writer_id=9

    Silent::

        1us reported_zones zone=256 state=13 states=0xa014 cause=written full_due=no

    Silent::

        1us reported_zones zone=256 state=3 states=0xa01c cause=written full_due=no
    """
    applies = by_cause(batch, "written") & (numbers(batch, "full_due") == 0) & (numbers(batch, "state") != FULL)
    return shown(batch, applies, other_state(batch), lambda row: in_state(batch, row))


@column_rule(
    "NVM21-Z2.1.1-n11", table=COMMANDS,
    columns=(*WHAT, "reported_open", "reported_active", "open_limit", "active_limit"),
    spec="ZNS Command Set 1.2, 2.1.1.4", party="controller", local=False,
)  # fmt: skip
def too_many_zones_reported(batch: pa.RecordBatch) -> Broken:
    """No report shows more open zones than MOR allows, or more active ones than MAR does.

    The limits are of what the device has; beyond them it loses data when power fails.

    Holds::

        1us zone_commands opcode=0x7a slba=0 reported_open=3 reported_active=5 open_limit=3 active_limit=5

    Breaks::

        1us zone_commands opcode=0x7a slba=0 reported_open=4 reported_active=5 open_limit=3 active_limit=5

    Breaks::

        1us zone_commands opcode=0x7a slba=0 reported_open=3 reported_active=6 open_limit=3 active_limit=5

    Silent::

        1us zone_commands opcode=0x7a slba=0 open_limit=3 active_limit=5
    """
    opened, active = numbers(batch, "reported_open"), numbers(batch, "reported_active")
    most_open, most_active = numbers(batch, "open_limit"), numbers(batch, "active_limit")
    return found(
        _receives(batch) & there(batch, "reported_open", "open_limit", "active_limit"),
        (opened > most_open) | (active > most_active),
        lambda row: (
            f"a report shows {opened[row]} open and {active[row]} active zones; "
            f"{most_open[row]} and {most_active[row]} are allowed"
        ),
    )  # fmt: skip


@column_rule(
    "NVM21-Z2.1.1-n14", table=REPORTED, columns=SHOWN, spec="ZNS Command Set 1.2, 2.1.1.3", party="controller",
    local=False,
)  # fmt: skip
def state_changed_without_cause(batch: pa.RecordBatch) -> Broken:
    """A zone is in the state of the report before, unless a command, a lack of resources or a failure changed it.

    A full zone that is empty all of a sudden has lost its data.

    Holds::

        1us reported_zones zone=256 state=14 states=0xe000 cause=reported

    Breaks::

        1us reported_zones zone=256 state=1 states=0xe000 cause=reported writer_id=9

    Breaks::

        1us reported_zones zone=256 state=13 states=0x8000 cause=offline writer_id=9

    Silent::

        1us reported_zones zone=256 state=13 states=0xe000 cause=reported
    """
    applies = by_cause(batch, "reported", "offline")
    return shown(batch, applies, other_state(batch), lambda row: in_state(batch, row))


@column_rule(
    "NVM21-Z3.4.2-n1", table=COMMANDS, columns=(*WHAT, "action", "bytes", "moved", "listed_bytes"),
    spec="ZNS Command Set 1.2, 3.4.2", party="controller", local=False,
)  # fmt: skip
def report_not_returned_whole(batch: pa.RecordBatch) -> Broken:
    """A Zone Management Receive fills its buffer: header, descriptors, and zeroes behind them.

    Where all descriptors are there and no more than what lies behind them is missing, the rule only warns; so it does
    where no more is missing than one TLP carries, which the recorder may have lost.

    Holds::

        1us zone_commands opcode=0x7a slba=0 action=0 bytes=4096 moved=4096 listed_bytes=960 sc=0

    Breaks::

        1us zone_commands opcode=0x7a slba=0 action=0 bytes=4096 moved=960 listed_bytes=960 sc=0

    Breaks::

        1us zone_commands opcode=0x7a slba=0 action=0 bytes=16384 moved=512 sc=0

    Silent::

        1us zone_commands opcode=0x7a slba=0 action=0 bytes=4096 sc=0

    Silent::

        1us zone_commands opcode=0x7a slba=0 action=0x42 bytes=4096 moved=0 sc=2
    """
    size, moved = numbers(batch, "bytes").astype(np.int64), numbers(batch, "moved").astype(np.int64)
    listed = numbers(batch, "listed_bytes").astype(np.int64)
    mild = (moved < size) & ((there(batch, "listed_bytes") & (moved >= listed)) | (size - moved <= LARGEST_TLP))
    applies = _receives(batch) & ended(batch) & there(batch, "bytes", "moved")

    def severity(row: int) -> Severity:
        return "warning" if mild[row] else "error"

    return found(
        applies & (numbers(batch, "action") <= ZoneReceive.EXTENDED_REPORT), moved != size,
        lambda row: f"{name_of(batch, row)} moved {moved[row]:,} bytes of {size[row]:,}", severity,
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.2-n2", table=COMMANDS,
    columns=(*WHAT, "action", "partial", "filter", "zones_counted", "zones_fit", "zones_due"),
    spec="ZNS Command Set 1.2, 3.4.2.2", party="controller", local=False,
)  # fmt: skip
def zones_miscounted(batch: pa.RecordBatch) -> Broken:
    """A report counts all zones from SLBA on that it is asked for, a partial one those that it lists.

    The host makes room by the one number and reads on by the other.

    Holds::

        1us zone_commands opcode=0x7a slba=0 zone=0 partial=yes filter=0 zones_counted=4 zones_fit=4 zones_due=14

    Holds::

        1us zone_commands opcode=0x7a slba=0 zone=0 partial=no filter=0 zones_counted=14 zones_fit=4 zones_due=14

    Breaks::

        1us zone_commands opcode=0x7a slba=0 zone=0 partial=yes filter=0 zones_counted=14 zones_fit=4 zones_due=14

    Breaks::

        1us zone_commands opcode=0x7a slba=0 zone=0 partial=no filter=0 zones_counted=4 zones_fit=4 zones_due=14

    Breaks::

        1us zone_commands opcode=0x7a slba=0 zone=0 partial=yes filter=5 zones_counted=9 zones_fit=4

    Silent::

        1us zone_commands opcode=0x7a slba=0 zone=0 partial=no filter=5 zones_counted=9 zones_fit=4

    Silent::

        1us zone_commands opcode=0x7a slba=3 zone=0 partial=no filter=0 zones_counted=13 zones_fit=20 zones_due=14
    """
    count, fit = numbers(batch, "zones_counted").astype(np.int64), numbers(batch, "zones_fit").astype(np.int64)
    total, partial = numbers(batch, "zones_due").astype(np.int64), numbers(batch, "partial") != 0
    exact = there(batch, "zones_due", "zone") & (numbers(batch, "slba") == numbers(batch, "zone"))
    due = np.where(partial, np.minimum(total, fit), total)
    bad = (exact & (count != due)) | (partial & (count > fit))
    return found(
        _receives(batch) & there(batch, "zones_counted", "zones_fit") & (exact | partial), bad,
        lambda row: (
            f"a report counts {count[row]} zones; "
            + (f"it has room for {fit[row]}" if count[row] > fit[row] and partial[row] else f"there are {due[row]}")
        ),
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.2-n3", table=COMMANDS, columns=(*WHAT, "zones_counted", "report_flaw", "report_zone"),
    spec="ZNS Command Set 1.2, 3.4.2.2", party="controller", local=False,
)  # fmt: skip
def zone_descriptor_impossible(batch: pa.RecordBatch) -> Broken:
    """A report lists zones in their order, each where a zone begins, with a write pointer and a capacity inside it.

    The host finds the zones by them.

    Holds::

        1us zone_commands opcode=0x7a slba=0 zones_counted=14

    Breaks::

        1us zone_commands opcode=0x7a slba=0 zones_counted=14 report_flaw=order report_zone=64

    Breaks::

        1us zone_commands opcode=0x7a slba=0 zones_counted=14 report_flaw=pointer report_zone=64

    Silent::

        1us zone_commands opcode=0x7a slba=0
    """
    names = {name: words(batch, "report_flaw", (name,)) for name in FLAWS}

    def message(row: int) -> str:
        what = next(text for name, text in FLAWS.items() if names[name][row])
        return f"the zone that a report lists at LBA {numbers(batch, 'report_zone')[row]} {what}"

    return found(_receives(batch) & there(batch, "zones_counted"), there(batch, "report_flaw"), message)


@column_rule(
    "NVM21-Z3.4.2-n4", table=COMMANDS, columns=(*WHAT, "filter", "zones_counted", "unwanted"),
    spec="ZNS Command Set 1.2, 3.4.2.2", party="controller", local=False,
)  # fmt: skip
def unwanted_zone_reported(batch: pa.RecordBatch) -> Broken:
    """A report of the zones in one state lists no others.

    The host takes every zone that is listed for one in that state.

    Holds::

        1us zone_commands opcode=0x7a slba=0 filter=5 zones_counted=2

    Breaks::

        1us zone_commands opcode=0x7a slba=0 filter=5 zones_counted=2 unwanted=64

    Silent::

        1us zone_commands opcode=0x7a slba=0 filter=0 zones_counted=2
    """
    return found(
        _receives(batch) & there(batch, "zones_counted") & (numbers(batch, "filter") != 0), there(batch, "unwanted"),
        lambda row: (
            f"a report of zones by filter {numbers(batch, 'filter')[row]} lists the zone at LBA "
            f"{numbers(batch, 'unwanted')[row]}, which is in another state"
        ),
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.2-n5", table=COMMANDS, columns=(*WHAT, "action"), spec="ZNS Command Set 1.2, 3.4.2",
    party="controller", local=False,
)  # fmt: skip
def reserved_report_returned(batch: pa.RecordBatch) -> Broken:
    """A Zone Management Receive with a reserved action is refused.

    Nobody knows what it returned.

    Holds::

        1us zone_commands opcode=0x7a slba=0 action=0x42 sc=2

    Holds::

        1us zone_commands opcode=0x7a slba=0 action=1 sc=0

    Breaks::

        1us zone_commands opcode=0x7a slba=0 action=0x42 sc=0
    """
    action = numbers(batch, "action")
    return found(
        _receives(batch) & there(batch, "action"), ~np.isin(action, np.array(list(ZoneReceive))) & ended(batch),
        lambda row: f"{name_of(batch, row)} with action {action[row]:02X}h succeeded",
    )  # fmt: skip
