"""nvme-checklist G19: Abort and Cancel, and what becomes of the commands that they name."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from lmtrace.events import Aborted, AbortRequested, Command
from lmtrace.rule import Broken, Verdict, broken, column_rule, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import ABORT_LIMIT_EXCEEDED, ABORT_REQUESTED, ABORTED_BY_DELETION, Admin, Nvm
from lmtrace_rules.columns import found, numbers, there

SECTION = "G19 Abort, Cancel, Keep Alive"
PROFILE = ("nvme", "abort")
RETURNS_DATA = 2
"""Opcode bits 1:0 of a command whose data go to the host."""


def _is_event_request(event: Aborted) -> bool:
    return event.sqid == 0 and event.opcode == Admin.ASYNC_EVENT_REQUEST


@rule("NVM21-5.1.1-n2", spec="NVMe Base 2.1, 5.1.1", party="controller")
def aborted_command_completed(event: Aborted, session: Session) -> Iterator[Verdict]:
    """A command whose Abort says that it was aborted completes with 0/07h.

    The host gives it up, and uses its buffer for something else.

    Holds::

        1us aborted sqid=1 cid=5 status=0/07h

    Breaks::

        1us aborted sqid=1 cid=5 status=0/00h

    Silent::

        1us aborted sqid=1 cid=5 status=0/00h immediate=no

    Silent::

        1us aborted sqid=1 cid=5 status=none ended=yes

    Silent::

        1us aborted sqid=1 cid=5 status=0/00h targets=2
    """
    if not event.immediate or event.targets != 1 or event.status is None or _is_event_request(event):
        return
    yield expect(
        event.status in (ABORT_REQUESTED, ABORTED_BY_DELETION),
        f"{event.title} completed with {event.status} though its Abort said that it was aborted",
        event,
    )  # fmt: skip


@rule("NVM21-5.1.1-n4", spec="NVMe Base 2.1, 5.1.1", party="controller")
def unknown_command_aborted(event: Aborted, session: Session) -> Iterator[Verdict]:
    """An Abort of a command that is not outstanding does not say that it was aborted.

    The host waits for a completion that cannot come.

    Holds::

        1us aborted sqid=1 cid=5 targets=0 immediate=no

    Breaks::

        1us aborted sqid=1 cid=5 targets=0

    Silent::

        1us aborted sqid=1 cid=5 targets=none

    Silent::

        1us aborted sqid=1 cid=5 targets=1 status=0/07h
    """
    if event.targets is None:
        yield not_observable("the capture does not show every command of the queue that the Abort names", event)
    elif event.targets == 0:
        yield expect(
            not event.immediate,
            f"an Abort of {event.place} said that CID {event.cid} of SQ {event.sqid} was aborted, which was not "
            "outstanding",
            event,
        )  # fmt: skip


@rule("NVM21-5.1.1-n7", spec="NVMe Base 2.1, 5.1.1", party="controller")
def aborted_command_moves_data(event: Aborted, session: Session) -> Iterator[Verdict]:
    """A command whose Abort says that it was aborted moves no more data.

    The host may have put something else into its buffer.

    Holds::

        1us aborted sqid=1 cid=5 status=0/07h

    Holds::

        2us aborted sqid=1 cid=5 status=0/07h abort_time=1000000 last_write=900000

    Breaks::

        2us aborted sqid=1 cid=5 status=0/07h abort_time=1000000 last_write=1100000

    Silent::

        2us aborted sqid=1 cid=5 status=0/00h immediate=no abort_time=1000000 last_write=1100000
    """
    if not event.immediate or event.targets != 1 or event.opcode & 3 != RETURNS_DATA:
        return
    yield expect(
        event.last_write is None or event.last_write <= event.abort_time,
        f"{event.title} wrote data to the host after its Abort had said that it was aborted",
        event,
    )  # fmt: skip


@rule("NVM21-5.1.1-n8", spec="NVMe Base 2.1, 5.1.1", party="controller", severity="warning")
def aborted_without_request(event: AbortRequested, session: Session) -> Iterator[Verdict]:
    """A command ends as aborted on request only where the host sent an Abort or a Cancel.

    The host takes it for the answer to something that it never asked for.

    Holds::

        1us abort_requested sqid=1 cid=5 asked=yes

    Breaks::

        1us abort_requested sqid=1 cid=5 asked=no

    Silent::

        0us midway
        1us abort_requested sqid=1 cid=5 asked=no
    """
    if event.asked:
        yield held(event)
    elif session.of_function(event.function).complete_history:
        yield broken(
            f"CID {event.cid} of SQ {event.sqid} of {event.place} completed with {ABORT_REQUESTED}, though no Abort or "
            "Cancel was seen",
            event,
        )  # fmt: skip
    else:
        yield not_observable("an Abort may have been sent before the capture began", event)


def _aborts(command: Command, session: Session) -> tuple[int | None, int | None, int | None]:
    """Return (Aborts before this one at its fetch, other Aborts of its life, how many there may be); None unknown."""
    controller = session.of_function(command.function)
    limit = controller.limit("ACL")
    counts = controller.events.aborts.get(command.fetched)
    if counts is None:
        return None, None, None
    return counts.before, counts.most, None if limit is None else limit + 1


@rule("NVM21-5.1.1-n5", spec="NVMe Base 2.1, 5.1.1", party="controller", severity="warning")
def abort_refused_for_its_number(command: Command, session: Session) -> Iterator[Verdict]:
    """An Abort is refused for its number, with 1/03h, only where more than ACL allows were outstanding.

    The host was promised that so many are taken.

    Holds::

        1us identify_controller
            data acl=0
        5us command opc=0x08 dw0=1 fetch=2us cid=1
        4us command opc=0x08 status=1/03h fetch=3us cid=2

    Breaks::

        1us identify_controller
            data acl=3
        5us command opc=0x08 dw0=1 fetch=2us cid=1
        4us command opc=0x08 status=1/03h fetch=3us cid=2

    Silent::

        4us command opc=0x08 status=1/03h fetch=3us cid=2
    """
    if command.sqid or command.opcode != Admin.ABORT or command.status != ABORT_LIMIT_EXCEEDED:
        return
    _, others, most = _aborts(command, session)
    if others is None or most is None or not session.of_function(command.function).complete_history:
        yield not_observable("the capture does not show how many Aborts there may be", command)
    else:
        yield expect(
            others >= most,
            f"{command.title} was refused for its number though no more than {others} others were outstanding, of "
            f"{most} there may be",
            command,
        )  # fmt: skip


@rule("NVM21-5.1.1-n6", spec="NVMe Base 2.1, 5.1.1", party="host", severity="warning")
def too_many_aborts(command: Command, session: Session) -> Iterator[Verdict]:
    """No more Aborts are outstanding than the controller takes: ACL, which is 0's based.

    The one too many may be refused, and the command that it names goes on.

    Holds::

        1us identify_controller
            data acl=1
        5us command opc=0x08 dw0=1 fetch=2us cid=1
        4us command opc=0x08 dw0=1 fetch=3us cid=2

    Breaks::

        1us identify_controller
            data acl=0
        5us command opc=0x08 dw0=1 fetch=2us cid=1
        4us command opc=0x08 dw0=1 fetch=3us cid=2

    Silent::

        5us command opc=0x08 dw0=1 fetch=2us cid=1
        4us command opc=0x08 dw0=1 fetch=3us cid=2
    """
    if command.sqid or command.opcode != Admin.ABORT:
        return
    before, _, most = _aborts(command, session)
    if before is not None and most is not None:
        yield expect(
            before < most,
            f"{command.title} was submitted while {before} Aborts were outstanding, of {most} there may be",
            command,
        )  # fmt: skip


not_a_rule(
    "NVM21-5.1.1-n3", "a command that an Abort did not stop at once may end in any way and at any time, aborted or not"
)


@column_rule(
    "NVM21-7.1-n1", table="transactions", columns=("sqid", "opcode", "csi", "cdw10", "sct", "sc"),
    spec="NVMe Base 2.1, 7.1", party="controller", severity="warning",
)  # fmt: skip
def cancel_of_another_queue(batch: pa.RecordBatch) -> Broken:
    """A Cancel names the submission queue that it is in; another one is refused.

    It acts on the commands of its own queue.

    Holds::

        1us transactions sqid=2 opcode=0x18 cdw10=0x50002 sct=0 sc=0

    Holds::

        1us transactions sqid=2 opcode=0x18 cdw10=0x50003 sct=0 sc=2

    Breaks::

        1us transactions sqid=2 opcode=0x18 cdw10=0x50003 sct=0 sc=0

    Silent::

        1us transactions sqid=0 opcode=0x18 cdw10=0x50003 sct=0 sc=0
    """
    sqid, named = numbers(batch, "sqid"), numbers(batch, "cdw10") & 0xFFFF
    succeeded = (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    return found(
        _cancels(batch), (named != sqid) & succeeded,
        lambda row: f"a Cancel in SQ {sqid[row]} succeeded though it names SQ {named[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-7.1-n2", table="transactions", columns=("sqid", "opcode", "csi", "cdw10", "cdw11", "cid", "sct", "sc"),
    spec="NVMe Base 2.1, 7.1", party="controller", severity="info",
)  # fmt: skip
def cancel_of_itself(batch: pa.RecordBatch) -> Broken:
    """A Cancel of itself is refused.

    It cannot both be canceled and succeed.

    Holds::

        1us transactions sqid=2 opcode=0x18 cid=5 cdw10=0x50002 sct=1 sc=0x84

    Breaks::

        1us transactions sqid=2 opcode=0x18 cid=5 cdw10=0x50002 sct=0 sc=0

    Silent::

        1us transactions sqid=2 opcode=0x18 cid=5 cdw10=0x50002 cdw11=1 sct=0 sc=0
    """
    cid, named = numbers(batch, "cid"), numbers(batch, "cdw10")
    one = numbers(batch, "cdw11") & 3 == 0
    itself = (named & 0xFFFF == numbers(batch, "sqid")) & (named >> 16 == cid)
    succeeded = (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    return found(
        _cancels(batch) & one & itself, succeeded, lambda row: f"the Cancel with CID {cid[row]} canceled itself"
    )


def _cancels(batch: pa.RecordBatch):  # type: ignore[no-untyped-def]
    """Return the rows of completed Cancel commands."""
    known = there(batch, "sqid", "opcode", "cdw10", "sct")
    return known & (numbers(batch, "sqid") != 0) & (numbers(batch, "opcode") == int(Nvm.CANCEL))
