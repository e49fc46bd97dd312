"""What the rules about memory tracking have in common: who tracks whom, how much is tracked, and what a range is."""

from __future__ import annotations

import numpy as np

from lmtrace.events import Command, Resume, TrackMemoryChanges, TrackReceive
from lmtrace.known import Known
from lmtrace.session import Controller, MemoryTracking, Session
from lmtrace_rules.hmlm.data_queues import same_subsystem

TRACKED_UNSEEN = "the capture does not show whether that controller was tracked"
STRUCTURE_UNSEEN = "the capture does not show the ranges that the host asked for"
NOT_IDENTIFIED = "the capture does not show the Identify data of the controller"
CP = frozenset({2})
"""The byte of a Controller State that tells of the read rather than of the controller."""
MOST_LOOKED_AT = 4096
"""Ranges of one command that are compared with the controller's own memory."""


def tracked_by(command: TrackMemoryChanges | TrackReceive, session: Session) -> Known:
    """Whether the controller that takes a command tracked its target throughout the command."""
    found = Known.NO
    for one, known in session.trackings.during(command, command.target):
        if one.owner == command.function:
            found = found | known
    if found is Known.NO and not session.of_function(command.function).complete_history:
        return Known.UNKNOWN
    return found


def period_of(command: TrackReceive, session: Session) -> MemoryTracking | None:
    """Return the period of tracking that a report is about, if it certainly lasted throughout the command."""
    for one, known in session.trackings.during(command, command.target):
        if one.owner == command.function and known is Known.YES:
            return one
    return None


def trackers_known(session: Session, function: int) -> bool:
    """Whether every tracking of the subsystem is known: each controller that may track was seen from its start."""
    if session.all_identifiers is None or not session.of_function(function).complete_history:
        return False
    for cntlid in session.all_identifiers:
        one = session.identifiers.get(cntlid)
        if one is None or one.function is None:
            return False
        if not one.complete_history and one.mmc() is not Known.NO:
            return False
    return True


def tracked_already(command: TrackMemoryChanges, session: Session) -> Known:
    """Whether some controller of the subsystem tracked the target throughout the command."""
    found = Known.NO
    for one, known in session.trackings.during(command, command.target):
        found = found | known & same_subsystem(session, one.owner, command.function)
    if found is Known.NO and not trackers_known(session, command.function):
        return Known.UNKNOWN
    return found


def beyond(command: TrackMemoryChanges, session: Session, limit: int | None, everywhere: bool) -> Known:
    """Whether the descriptors asked for and those in use are more than a limit, of the controller or of all."""
    asked = command.request.count
    if not command.starts:
        return Known.NO
    if asked is None or limit is None:
        return Known.UNKNOWN
    least = most = asked
    sure = trackers_known(session, command.function) if everywhere else _complete(command, session)
    for one, known in session.trackings.during(command):
        if not everywhere and one.owner != command.function:
            continue
        known = known & same_subsystem(session, one.owner, command.function)
        count = one.descriptors
        if known is Known.NO:
            continue
        if one.target == command.target and one.owner == command.function:
            known = Known.UNKNOWN  # a start that is accepted although it runs may replace it
        if count is None:
            sure = False
            continue
        least += count if known is Known.YES else 0
        most += count
    if least > limit:
        return Known.YES
    return Known.of(False if sure and most <= limit else None)


def _complete(command: Command, session: Session) -> bool:
    return session.of_function(command.function).complete_history


def bytes_of_unit(exponent: int) -> int:
    """Return the bytes of a unit of a granularity."""
    return 4096 << exponent


def misaligned(command: TrackMemoryChanges) -> np.ndarray:
    """Return the descriptors seen whose address is no multiple of the granularity."""
    found = command.request.descriptors()
    shift = min(12 + (command.request.exponent or 0), 63)
    wrong: np.ndarray = found[found["address"] & np.uint64((1 << shift) - 1) != 0]
    return wrong


def odd_lengths(command: TrackMemoryChanges) -> np.ndarray:
    """Return the descriptors seen whose length is no power of two; the granularity always is one."""
    found = command.request.descriptors()
    length = found["length"]
    odd: np.ndarray = found[(length == 0) | (length & (length - np.uint64(1)) != 0)]
    return odd


def source_of(command: Resume, session: Session) -> Controller | None:
    """Return the suspended controller whose very state a Resume puts to work elsewhere, None if several may be."""
    state = session.controller(command.target).committed
    if state is None or not state.complete:
        return None
    found: set[int] = set()
    for read in session.every_read():
        suspended = session.controller(read.target).suspended.now is Known.YES
        if read.target != command.target and suspended and read.state.complete:
            same = read.pieces.differs(state.pieces, CP) is None and read.state.size == state.size
            found |= {read.target} if same else set()
    return session.controller(found.pop()) if len(found) == 1 else None
