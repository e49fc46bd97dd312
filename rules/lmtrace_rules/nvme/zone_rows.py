"""What the rules about zones share: rows by command, status and states, and how one that ended wrongly is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Severity
from lmtrace.spec.nvme import CommandSet, Nvm, Status, command_name
from lmtrace.spec.zones import ANY_STATE, ZoneState
from lmtrace_rules.columns import found, numbers, there

COMMANDS, REPORTED = "zone_commands", "reported_zones"
WHAT = ("opcode", "slba", "sct", "sc", "zone", "states", "shared")
WRITES = (Nvm.WRITE, Nvm.WRITE_ZEROES)
IN_FLUX = "the state of the zone is not known, or other commands on it were in flight"


def told(batch: pa.RecordBatch, *opcodes: int) -> np.ndarray:
    """Return the rows of some commands."""
    return np.isin(numbers(batch, "opcode"), np.array(opcodes))


def ended(batch: pa.RecordBatch, *statuses: Status) -> np.ndarray:
    """Return the commands that ended with one of these; none means success."""
    sct, sc = numbers(batch, "sct"), numbers(batch, "sc")
    return np.isin(sct << 8 | sc, np.array([one.sct << 8 | one.sc for one in statuses or (Status(0, 0),)]))


def may(batch: pa.RecordBatch, states: int) -> np.ndarray:
    """Return the rows whose zone may be in one of some states."""
    return np.asarray(~there(batch, "states") | (numbers(batch, "states") & states != 0))


def surely(batch: pa.RecordBatch, states: int) -> np.ndarray:
    """Return the rows whose zone is in one of some states for certain."""
    return np.asarray(there(batch, "states") & (numbers(batch, "states") & (ANY_STATE & ~states) == 0))


def end_of(batch: pa.RecordBatch) -> np.ndarray:
    """Return the block behind the last one of each command."""
    return np.asarray(numbers(batch, "slba").astype(np.int64) + numbers(batch, "blocks"))


def name_of(batch: pa.RecordBatch, row: int) -> str:
    """Return which command a row is, for people."""
    name = command_name(1, int(numbers(batch, "opcode")[row]), CommandSet.ZONED)
    return f"{name} at LBA {numbers(batch, 'slba')[row]}"


def how(batch: pa.RecordBatch, row: int) -> str:
    """Return how a command ended, for people."""
    status = Status(int(numbers(batch, "sct")[row]), int(numbers(batch, "sc")[row]))
    return "succeeded" if status.ok else f"ended with {status.name}"


def state_name(number: int) -> str:
    """Return a zone state, for people."""
    try:
        return ZoneState(number).name.replace("_", " ").capitalize()
    except ValueError:
        return f"{number:X}h"


def state_names(states: int) -> str:
    """Return several states, for people."""
    return " or ".join(state_name(one) for one in ZoneState if states >> one & 1)


def softened(batch: pa.RecordBatch, severity: Severity = "error") -> Callable[[int], Severity]:
    """Return the severity of each row: where somebody else may have changed the zone it is a warning."""
    shared = numbers(batch, "shared") != 0
    return lambda row: "warning" if shared[row] else severity


def judged(
    batch: pa.RecordBatch, asked: np.ndarray, wrong: np.ndarray, right: np.ndarray, refusals: tuple[Status, ...],
    says: Callable[[int], str], severity: Severity = "error", reason: str = IN_FLUX,
) -> Broken:  # fmt: skip
    """Return the commands that succeeded though they must not, and those that were refused without that reason.

    ``wrong`` are commands that have to be refused, ``right`` those of which the reason is known not to hold; of others
    it is open, for a ``reason``. ``says`` tells how things stood.
    """
    applies = asked & (wrong | right)
    bad = (wrong & ended(batch)) | (right & ended(batch, *refusals)) if refusals else wrong & ended(batch)
    answer = found(
        applies, bad, lambda row: f"{name_of(batch, row)} {how(batch, row)}, though {says(row)}",
        softened(batch, severity),
    )  # fmt: skip
    return replace(answer, unseen=int((asked & ~applies).sum()), reason=reason)
