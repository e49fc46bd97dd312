"""nvme-checklist G10: the M bit of completions, and what the Error Information log says then."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetLogPage
from lmtrace.rule import Verdict, answered_by, expect, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import Lid

SECTION = "G10 Completion queue entries"
PROFILE = ("nvme", "queues")


@rule("NVM21-4.2.3-n7", spec="NVMe Base 2.1, 4.2.3 and 5.1.12.1.2", party="controller", severity="warning")
def more_information_missing(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """A controller that says of an admin command that there is more in the error log has an entry there.

    The host reads the log to learn what was wrong. What a firmware commit or a reset did to the log is not said.

    Holds::

        1us command opc=0x0a status=0/02h more=yes
        2us get_log_page lid=1 numdl=15
            data raw=0x1 size=64

    Breaks::

        1us command opc=0x0a status=0/02h more=yes
        2us get_log_page lid=1 numdl=15
            data raw=0 size=64

    Silent::

        1us command opc=0x0a status=0/02h
        2us get_log_page lid=1 numdl=15
            data raw=0 size=64

    Silent::

        1us command opc=0x0a status=0/02h more=yes
        2us get_log_page lid=1 numdl=15
    """
    told = session.of_function(command.function).more_order
    count = command.part(0, 8) if command.lid == Lid.ERROR_INFORMATION and command.succeeded else None
    if told is not None and told < command.fetched and count is not None:
        yield expect(any(count), "the first entry of the error log is empty", command)


answered_by(
    "NVM21-T3.4.1-n3", "NVM21-4.1.1-n20", "NVM21-4.2.1-n1",
    reason="memory is followed by requester: what another function writes belongs to no command of this one, whose "
    "data or completion are then missing",
)  # fmt: skip
