"""nvme-checklist G23: Zone Management Send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Nvm
from lmtrace.spec.zones import (
    ACTION_STATES,
    INVALID_ZONE_STATE_TRANSITION,
    ZoneSend,
    ZoneState,
    states,
)
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.zone_rows import (
    COMMANDS,
    IN_FLUX,
    REPORTED,
    WHAT,
    ended,
    how,
    softened,
    state_name,
    state_names,
    surely,
    told,
)

SECTION = "G23 Zoned namespaces"
PROFILE = ("nvme", "zones")
SHOWN = ("zone", "state", "states", "cause", "of_all", "writer_id", "shared")
EMPTY, CLOSED = states(ZoneState.EMPTY), states(ZoneState.CLOSED)
OPENED = states(ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED)
EXPLICIT = states(ZoneState.EXPLICITLY_OPENED)
_ACTIONS: dict[int, str] = {
    ZoneSend.CLOSE: "Close", ZoneSend.FINISH: "Finish", ZoneSend.OPEN: "Open", ZoneSend.RESET: "Reset",
    ZoneSend.OFFLINE: "Offline", ZoneSend.SET_DESCRIPTOR_EXTENSION: "Set Zone Descriptor Extension",
    ZoneSend.FLUSH_RANDOM_WRITE_AREA: "Flush",
}  # fmt: skip


def sends(batch: pa.RecordBatch) -> np.ndarray:
    """Return which commands are Zone Management Sends."""
    return told(batch, Nvm.ZONE_MANAGEMENT_SEND)


def _of_one(batch: pa.RecordBatch) -> np.ndarray:
    return np.asarray(sends(batch) & there(batch, "select_all") & (numbers(batch, "select_all") == 0))


def asks(batch: pa.RecordBatch, *actions: int) -> np.ndarray:
    """Return which commands ask for one of some actions."""
    return np.isin(numbers(batch, "action"), np.array(actions))


def _called(batch: pa.RecordBatch, row: int) -> str:
    action = int(numbers(batch, "action")[row])
    return f"{_ACTIONS.get(action, f'zone action {action:02X}h')} at LBA {numbers(batch, 'slba')[row]}"


def shown(batch: pa.RecordBatch, applies: np.ndarray, bad: np.ndarray, says: Callable[[int], str]) -> Broken:
    """Return the reported zones that are not as they should be by a command that the message names."""
    writer = numbers(batch, "writer_id")
    return found(
        applies, bad,
        lambda row: (
            f"the zone at LBA {numbers(batch, 'zone')[row]} is reported {says(row)}"
            + (f" after transaction {writer[row]}" if there(batch, "writer_id")[row] else "")
        ),
        softened(batch),
    )  # fmt: skip


def by_cause(batch: pa.RecordBatch, *causes: str) -> np.ndarray:
    """Return the reported zones that were brought where they are by a command on one zone."""
    return np.asarray(words(batch, "cause", causes) & (numbers(batch, "of_all") == 0))


def other_state(batch: pa.RecordBatch) -> np.ndarray:
    """Return the reported zones that are in a state that none of what is known leads to."""
    return np.asarray(numbers(batch, "states") >> numbers(batch, "state") & 1 == 0)


def in_state(batch: pa.RecordBatch, row: int) -> str:
    """Return in which state a zone is reported, and in which it should be."""
    everything = int(numbers(batch, "states")[row])
    due = everything & ~states(ZoneState.READ_ONLY, ZoneState.OFFLINE) or everything
    return f"{state_name(int(numbers(batch, 'state')[row]))}, not {state_names(due)},"


def _after(batch: pa.RecordBatch, cause: str) -> Broken:
    return shown(batch, by_cause(batch, cause), other_state(batch), lambda row: in_state(batch, row))


@column_rule(
    "NVM21-Z3.4.3-n1", table=REPORTED, columns=SHOWN, spec="ZNS Command Set 1.2, 3.4.3.1", party="controller",
    local=False,
)  # fmt: skip
def zone_not_opened(batch: pa.RecordBatch) -> Broken:
    """A zone that the host opened is reported Explicitly Opened.

    Only such a zone stays open until the host says otherwise.

    Holds::

        1us reported_zones zone=256 state=3 states=0xa008 cause=opened

    Breaks::

        1us reported_zones zone=256 state=2 states=0xa008 cause=opened writer_id=9

    Silent::

        1us reported_zones zone=256 state=13 states=0xa008 cause=opened

    Silent::

        1us reported_zones zone=256 state=2 states=0xa008 cause=reported
    """
    return _after(batch, "opened")


@column_rule(
    "NVM21-Z3.4.3-n2", table=REPORTED, columns=SHOWN, spec="ZNS Command Set 1.2, 3.4.3.1", party="controller",
    local=False,
)  # fmt: skip
def zone_not_closed(batch: pa.RecordBatch) -> Broken:
    """A zone that the host closed is reported Closed, or Empty where nothing was written.

    The host closed it for the sake of another.

    Holds::

        1us reported_zones zone=256 state=4 states=0xa010 cause=closed

    Breaks::

        1us reported_zones zone=256 state=3 states=0xa010 cause=closed writer_id=9

    Breaks::

        1us reported_zones zone=256 state=1 states=0xa010 cause=closed writer_id=9

    Silent::

        1us reported_zones zone=256 state=1 states=0xa012 cause=closed
    """
    return _after(batch, "closed")


@column_rule(
    "NVM21-Z3.4.3-n3", table=REPORTED, columns=SHOWN, spec="ZNS Command Set 1.2, 3.4.3.1", party="controller",
    local=False,
)  # fmt: skip
def zone_not_finished(batch: pa.RecordBatch) -> Broken:
    """A zone that the host finished is reported Full.

    Nothing more shall be written to it.

    Holds::

        1us reported_zones zone=256 state=14 states=0xe000 cause=finished

    Breaks::

        1us reported_zones zone=256 state=4 states=0xe000 cause=finished writer_id=9

    Silent::

        1us reported_zones zone=256 state=13 states=0xe000 cause=finished
    """
    return _after(batch, "finished")


@column_rule(
    "NVM21-Z3.4.3-n4", table=REPORTED, columns=(*SHOWN, "wp", "wp_due"), spec="ZNS Command Set 1.2, 3.4.3.1",
    party="controller", local=False,
)  # fmt: skip
def zone_not_reset(batch: pa.RecordBatch) -> Broken:
    """A zone that the host reset is reported Empty, with the write pointer at its first block.

    What it held is deallocated; reads of it are compared with that (`data_checks`).

    Holds::

        1us reported_zones zone=256 state=1 states=0xa002 cause=reset wp=256 wp_due=256

    Breaks::

        1us reported_zones zone=256 state=14 states=0xa002 cause=reset writer_id=9

    Breaks::

        1us reported_zones zone=256 state=1 states=0xa002 cause=reset wp=260 wp_due=256 writer_id=9

    Silent::

        1us reported_zones zone=256 state=15 states=0xa002 cause=reset
    """
    pointer = there(batch, "wp", "wp_due") & (numbers(batch, "wp") != numbers(batch, "wp_due"))
    other = other_state(batch)
    return shown(
        batch, by_cause(batch, "reset"), other | pointer,
        lambda row: in_state(batch, row) if other[row] else f"with write pointer {numbers(batch, 'wp')[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.3-n5", table=COMMANDS, columns=(*WHAT, "action", "select_all"), spec="ZNS Command Set 1.2, 3.4.3.1",
    party="controller", local=False,
)  # fmt: skip
def illegal_transition_made(batch: pa.RecordBatch) -> Broken:
    """An action on a zone in a state from which it does not go is refused, and no other for that.

    A full zone has to be reset before it can be opened. A zone that failed without a word may be why a legal action is
    refused: then the rule only warns.

    Holds::

        1us zone_commands opcode=0x79 slba=256 zone=256 states=0x4000 action=3 select_all=no sct=1 sc=0xbf

    Breaks::

        1us zone_commands opcode=0x79 slba=256 zone=256 states=0x4000 action=3 select_all=no sc=0

    Breaks::

        1us zone_commands opcode=0x79 slba=256 zone=256 states=4 action=5 select_all=no sc=0

    Breaks::

        1us zone_commands opcode=0x79 slba=256 zone=256 states=0x14 action=1 select_all=no sct=1 sc=0xbf

    Silent::

        1us zone_commands opcode=0x79 slba=256 zone=256 states=0x4010 action=3 select_all=no sc=0

    Silent::

        1us zone_commands opcode=0x79 slba=256 zone=256 states=0x4000 action=3 select_all=yes sc=0

    Silent::

        1us zone_commands opcode=0x79 slba=256 zone=256 states=0x4000 action=3 select_all=no sct=1 sc=0xbe
    """
    legal = illegal = np.zeros(batch.num_rows, np.bool_)
    for action, fitting in ACTION_STATES.items():
        this = _of_one(batch) & asks(batch, action) & there(batch, "zone")
        legal = legal | (this & surely(batch, fitting))
        illegal = illegal | (this & surely(batch, ~fitting))
    asked = _of_one(batch) & asks(batch, *ACTION_STATES) & there(batch, "zone")
    bad = (illegal & ended(batch)) | (legal & ended(batch, INVALID_ZONE_STATE_TRANSITION))
    shared = softened(batch)
    answer = found(
        asked & (legal | illegal), bad,
        lambda row: (
            f"{_called(batch, row)} {how(batch, row)}, though the zone is "
            f"{state_names(int(numbers(batch, 'states')[row]))}"
        ),
        lambda row: "warning" if legal[row] else shared(row),
    )  # fmt: skip
    return replace(answer, unseen=int((asked & ~legal & ~illegal).sum()), reason=IN_FLUX)


@column_rule(
    "NVM21-Z3.4.3-n6", table=REPORTED, columns=SHOWN, spec="ZNS Command Set 1.2, 3.4.3", party="controller",
    severity="warning", local=False,
)  # fmt: skip
def action_not_done_to_all(batch: pa.RecordBatch) -> Broken:
    """An action on all zones is done to every zone in a state for it, and changes no other; SLBA means nothing.

    The host does not look at each zone before.

    Holds::

        1us reported_zones zone=256 state=1 states=0xa002 cause=reset of_all=yes

    Breaks::

        1us reported_zones zone=256 state=14 states=0xa002 cause=reset of_all=yes writer_id=9

    Silent::

        1us reported_zones zone=256 state=14 states=0xa002 cause=reset
    """
    everything = numbers(batch, "of_all") != 0
    answer = shown(batch, everything, other_state(batch), lambda row: in_state(batch, row))
    return replace(answer, severity=None)


@column_rule(
    "NVM21-Z3.4.3-n7", table=COMMANDS, columns=(*WHAT, "action", "select_all"), spec="ZNS Command Set 1.2, 3.4.3",
    party="controller", local=False,
)  # fmt: skip
def action_done_inside_a_zone(batch: pa.RecordBatch) -> Broken:
    """An action on one zone is refused where SLBA is not the first block of a zone.

    Which zone is meant is not certain, and a reset of the wrong one destroys it.

    Holds::

        1us zone_commands opcode=0x79 slba=261 zone=256 action=4 select_all=no sc=2

    Breaks::

        1us zone_commands opcode=0x79 slba=261 zone=256 action=4 select_all=no sc=0

    Silent::

        1us zone_commands opcode=0x79 slba=261 zone=256 action=4 select_all=yes sc=0

    Silent::

        1us zone_commands opcode=0x79 slba=261 action=4 select_all=no sc=0
    """
    beside = there(batch, "zone") & (numbers(batch, "slba") != numbers(batch, "zone"))
    return found(
        _of_one(batch) & beside,
        ended(batch),
        lambda row: f"{_called(batch, row)} succeeded, though no zone begins there",
    )


@column_rule(
    "NVM21-Z3.4.3-n8", table=COMMANDS, columns=(*WHAT, "action", "select_all"), spec="ZNS Command Set 1.2, 3.4.3",
    party="controller", local=False,
)  # fmt: skip
def reserved_action_done(batch: pa.RecordBatch) -> Broken:
    """A Zone Management Send with a reserved action is refused.

    Nobody knows what was done.

    Holds::

        1us zone_commands opcode=0x79 slba=256 action=0x42 select_all=no sc=2

    Holds::

        1us zone_commands opcode=0x79 slba=256 action=4 select_all=no sc=0

    Breaks::

        1us zone_commands opcode=0x79 slba=256 action=0x42 select_all=no sc=0
    """
    return found(
        sends(batch) & there(batch, "action"), ~asks(batch, *ZoneSend) & ended(batch),
        lambda row: f"{_called(batch, row)} succeeded",
    )  # fmt: skip


@column_rule(
    "NVM21-Z3.4.3-n9", table=REPORTED, columns=(*SHOWN, "extension_differs"), spec="ZNS Command Set 1.2, 3.4.3.1.6",
    party="controller", local=False,
)  # fmt: skip
def extension_not_kept(batch: pa.RecordBatch) -> Broken:
    """A zone whose descriptor extension was set is reported Closed, and an extended report shows that extension.

    The host keeps there what it wants to know of the zone. From which states it is set, and whether all of it is read,
    the rules of transitions and of data lengths tell.

    Holds::

        1us reported_zones zone=256 state=4 states=0xa010 cause=extended extension_differs=no

    Breaks::

        1us reported_zones zone=256 state=1 states=0xa010 cause=extended writer_id=9

    Breaks::

        1us reported_zones zone=256 state=4 states=0xa010 cause=extended extension_differs=yes writer_id=9

    Silent::

        1us reported_zones zone=256 state=4 states=0xa010 cause=extended
    """
    extended, differs = by_cause(batch, "extended"), numbers(batch, "extension_differs") != 0
    other = extended & other_state(batch)
    return shown(
        batch, extended | there(batch, "extension_differs"), other | differs,
        lambda row: in_state(batch, row) if other[row] else "with another descriptor extension",
    )  # fmt: skip
