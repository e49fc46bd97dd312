"""hmlm 6.11: Resume, and the behaviour of the controller after it."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Resume
from lmtrace.known import Known
from lmtrace.rule import Verdict, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import CONTROLLER_NOT_SUSPENDED

from lmtrace_rules.hmlm.causes import cause, refused

SECTION = "6.11 Resume and the behaviour after it"
PROFILE = "resume"


@cause(
    "HMLM-5.1.17.1.2-n1", Resume, CONTROLLER_NOT_SUSPENDED,
    unseen="the capture does not show whether the target was suspended",
)  # fmt: skip
def _not_suspended(command: Resume, session: Session) -> Known:
    return ~session.suspended(command.target, command)


@rule("HMLM-5.1.17.1.2-n1", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller")
def running_controller_resumed(command: Resume, session: Session) -> Iterator[Verdict]:
    """Resume of a controller that is not suspended is refused.

    Resuming a running controller would restart queues that never stopped.

    Holds::

        5us resume target=1 status=1/3Ah

    Silent::

        1us suspend target=1 stype=1
        5us resume target=1

    Silent::

        0us midway
        5us resume target=1

    Breaks::

        5us resume target=1 status=0/00h
    """
    yield from refused(command, session, "HMLM-5.1.17.1.2-n1", condition="the target is not suspended")
