"""hmlm 6.13: memory tracking that outlives the reset of the controller that tracks."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import TrackMemoryChanges, TrackReceive
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, held, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import INVALID_CONTROLLER_IDENTIFIER
from lmtrace_rules.hmlm.causes import excused
from lmtrace_rules.hmlm.tracked_ranges import tracked_already, tracked_by

SECTION = "6.13 Resets, sanitize, virtualization"
PROFILE = "reset"
PHASE = "reset"


def tracking_outlived(
    command: TrackMemoryChanges | TrackReceive, session: Session, how: str, name: str
) -> Iterator[Verdict]:
    """Judge what shows that a tracking goes on that a reset had ended."""
    period = session.trackings.latest(command.function, command.target)
    if period is not None and period.command is command:
        return
    ended = period is not None and period.ended_by == how and period.on.since < command.fetched
    if not ended or not command.completed:
        return
    if isinstance(command, TrackReceive):
        if tracked_by(command, session) is not Known.NO:
            return
        count = command.report.count
        if command.succeeded and count:
            yield broken(
                f"{command.title} reported {count} changes of CNTLID {command.target:X}h, {name} had ended its "
                "tracking", command,
            )  # fmt: skip
        elif command.failed:
            yield held(command)
    elif command.starts and command.status == INVALID_CONTROLLER_IDENTIFIER:
        alone = tracked_already(command, session) is Known.NO and session.exists(command.target) is Known.YES
        if alone and not excused(command, session, "HMLM-5.1.27.1.2-n6"):
            yield broken(
                f"{command.title} was refused with {command.status} as if CNTLID {command.target:X}h were tracked, "
                f"{name} had ended its tracking", command,
            )  # fmt: skip


@rule("HMLM-8.1.12-n3", spec="NVMe Base 2.1, 8.1.12", party="controller")
def tracking_outlived_the_manager(
    command: TrackMemoryChanges | TrackReceive, session: Session
) -> Iterator[Verdict]:  # fmt: skip
    """A reset of a managing controller stops all its memory tracking.

    Its host starts anew; what was tracked for the host before is no answer to the one after.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset
        3us enabled
        5us track_receive target=1 status=1/1Fh

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset
        3us enabled
        5us track_receive target=1
            range saddr=0x10000

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset
        3us enabled
        5us track_memory_changes target=1 tact=1 status=1/1Fh
            range saddr=0x10000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset
        3us enabled
        4us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us track_receive target=1
            range saddr=0x10000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset function=01:00.1
        5us track_receive target=1
            range saddr=0x10000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset how="behaved as reset"
        5us track_receive target=1
            range saddr=0x10000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset
        3us enabled
        5us track_receive target=1
            header susp=0
    """
    yield from tracking_outlived(command, session, "reset of its owner", "a reset of the controller that tracks")
