"""hmlm 6.12, Track Send: more than the controller or the subsystem can track, and how it is refused."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import TrackMemoryChanges
from lmtrace.known import Known
from lmtrace.rule import Verdict, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import (
    INVALID_FIELD,
)
from lmtrace_rules.hmlm.causes import cause, refused
from lmtrace_rules.hmlm.tracked_ranges import (
    NOT_IDENTIFIED,
    STRUCTURE_UNSEEN,
    beyond,
)

SECTION = "6.12 Memory change tracking"
PROFILE = "tracking"
PHASE = "track"


def announced_limit(command: TrackMemoryChanges, session: Session, name: str) -> int | None:
    """Return a limit by its name in Identify Controller data of who took a command; None where it was not seen."""
    return session.of_function(command.function).limit(name)


def _above(command: TrackMemoryChanges, one: int | None, other: int | None) -> Known:
    """Whether ``one`` is greater than ``other``, for a command that starts tracking."""
    if not command.starts:
        return Known.NO
    return Known.of(None if one is None or other is None else one > other)


@cause("HMLM-5.1.27.1.2-n1", TrackMemoryChanges, INVALID_FIELD, unseen=STRUCTURE_UNSEEN)
def _version(command: TrackMemoryChanges, session: Session) -> Known:
    return _above(command, command.request.header("VER"), 0)


@rule("HMLM-5.1.27.1.2-n1", spec="NVMe Base 2.1, Figure 468", party="controller")
def unknown_ranges_version_accepted(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A Track Memory Changes structure of a version that does not exist is refused.

    Its ranges lie where nobody defined them.

    Holds::

        5us track_memory_changes target=1 tact=1 status=0/02h
            header ver=1
            range saddr=0x10000

    Breaks::

        5us track_memory_changes target=1 tact=1
            header ver=1
            range saddr=0x10000

    Silent::

        5us track_memory_changes target=1 tact=0
            header ver=1

    Silent::

        5us track_memory_changes target=1 tact=1
    """
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n1", condition=f"VER is {command.request.header('VER')}"
    )  # fmt: skip


@cause("HMLM-5.1.27.1.2-n2", TrackMemoryChanges, INVALID_FIELD, unseen=NOT_IDENTIFIED)
def _too_coarse(command: TrackMemoryChanges, session: Session) -> Known:
    return _above(command, command.request.exponent, announced_limit(command, session, "MAXMRTG"))


@rule("HMLM-5.1.27.1.2-n2", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def too_coarse_tracking_accepted(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A granularity above MAXMRTG is refused.

    The controller said that it does not track so coarsely.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4 maxmrtg=3
        5us track_memory_changes target=1 tact=1 status=0/02h
            header rmrtg=4
            range saddr=0x10000

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4 maxmrtg=3
        5us track_memory_changes target=1 tact=1
            header rmrtg=4
            range saddr=0x10000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4 maxmrtg=3
        5us track_memory_changes target=1 tact=1
            header rmrtg=3
            range saddr=0x10000

    Silent::

        5us track_memory_changes target=1 tact=1
            header rmrtg=200
            range saddr=0x10000
    """
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n2",
        condition=f"RMRTG {command.request.exponent} is above MAXMRTG {announced_limit(command, session, 'MAXMRTG')}",
    )  # fmt: skip


@cause("HMLM-5.1.27.1.2-n3", TrackMemoryChanges, INVALID_FIELD, unseen=NOT_IDENTIFIED)
def _too_fine(command: TrackMemoryChanges, session: Session) -> Known:
    return _above(command, announced_limit(command, session, "MINMRTG"), command.request.exponent)


@rule("HMLM-5.1.27.1.2-n3", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def too_fine_tracking_accepted(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A granularity below MINMRTG is refused.

    The controller said that it cannot tell changes apart so finely.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4 minmrtg=1 maxmrtg=3
        5us track_memory_changes target=1 tact=1 status=0/02h
            range saddr=0x10000

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4 minmrtg=1 maxmrtg=3
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4 minmrtg=1 maxmrtg=3
        5us track_memory_changes target=1 tact=1
            header rmrtg=1
            range saddr=0x10000
    """
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n3",
        condition=f"RMRTG {command.request.exponent} is below MINMRTG {announced_limit(command, session, 'MINMRTG')}",
    )  # fmt: skip


@cause("HMLM-5.1.27.1.2-n4", TrackMemoryChanges, INVALID_FIELD, unseen="the capture does not show how many are in use")
def _too_many(command: TrackMemoryChanges, session: Session) -> Known:
    return beyond(command, session, announced_limit(command, session, "CMMRTD"), everywhere=False)


@rule("HMLM-5.1.27.1.2-n4", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def more_ranges_than_controller_tracks(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """More range descriptors than CMMRTD, those in use on the controller included, are refused.

    What does not fit would go untracked, and nobody would know which changes are missing.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=1 nmmrtd=9 maxmrtg=3
        5us track_memory_changes target=1 tact=1 status=0/02h
            range saddr=0x10000
            range saddr=0x20000

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=2 nmmrtd=9 maxmrtg=3
        2us track_memory_changes target=2 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
            range saddr=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=2 nmmrtd=9 maxmrtg=3
        2us track_memory_changes target=2 tact=1
            range saddr=0x10000
        3us track_memory_changes target=2 tact=0
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
            range saddr=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=2 nmmrtd=9 maxmrtg=3
        2us track_memory_changes target=2 tact=1
            range saddr=0x10000
        3us reset
        4us enabled
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
            range saddr=0x20000
    """
    limit = announced_limit(command, session, "CMMRTD")
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n4",
        condition=f"its {command.request.count} descriptors and those in use are more than CMMRTD {limit}",
    )  # fmt: skip


@cause("HMLM-5.1.27.1.2-n5", TrackMemoryChanges, INVALID_FIELD, unseen="the capture does not show how many are in use")
def _too_many_in_all(command: TrackMemoryChanges, session: Session) -> Known:
    return beyond(command, session, announced_limit(command, session, "NMMRTD"), everywhere=True)


@rule("HMLM-5.1.27.1.2-n5", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def more_ranges_than_subsystem_tracks(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """More range descriptors than NMMRTD, those in use in the whole subsystem included, are refused.

    The descriptors are shared; one controller would take away what another was promised.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=9 nmmrtd=1 maxmrtg=3
        5us track_memory_changes target=1 tact=1 status=0/02h
            range saddr=0x10000
            range saddr=0x20000

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=2 nmmrtd=2 maxmrtg=3
        2us track_memory_changes target=2 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
            range saddr=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=2 nmmrtd=3 maxmrtg=3
        2us track_memory_changes target=2 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
            range saddr=0x20000
    """
    limit = announced_limit(command, session, "NMMRTD")
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n5",
        condition=f"its {command.request.count} descriptors and those in use are more than NMMRTD {limit}",
    )  # fmt: skip
