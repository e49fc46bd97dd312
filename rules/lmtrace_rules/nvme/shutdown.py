"""nvme-checklist G04: how a controller is shut down, and what else CSTS tells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lmtrace.events import PropertyAccess
from lmtrace.known import Known
from lmtrace.rule import Broken, Verdict, broken, column_rule, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.registers import status
from lmtrace.spec.nvme import CAP, CSTS, Property
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.enabling import cc_written, fields_of
from lmtrace_rules.nvme.readiness import NO_OFFLINE, absent, csts_read
from lmtrace_rules.nvme.registers import TURNED

SECTION = "G04 Controller registers"
PROFILE = "nvme"

UNDERWAY, COMPLETE, RESERVED = 1, 2, 3
"""CSTS.SHST."""
NORMAL = 1
"""CC.SHN."""
MICROSECOND, SECOND = 1_000_000, 1_000_000_000_000
ABORTED = (0x05, 0x07, 0x08)
"""Generic status codes of commands that were given up."""


@rule("NVM21-3.1.4.6-n3", spec="NVMe Base 2.1, 3.1.4.6", party="controller", severity="warning")
def status_disordered(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """CSTS.SHST follows the shutdown that the host asked for: none, under way, complete, and a reset ends it.

    One that CSTS.ST tells to be of the whole NVM subsystem may have been asked for elsewhere, of a controller that
    supports it.

    Holds::

        0us property_access write=yes property=CC value=0
        1us property_access write=yes property=CC value=0x460001
        2us property_access property=CSTS value=1
        3us property_access write=yes property=CC value=0x464001
        4us property_access property=CSTS value=5
        5us property_access property=CSTS value=9

    Breaks::

        1us property_access property=CSTS value=0xd

    Breaks::

        3us property_access write=yes property=CC value=0x464001
        4us property_access property=CSTS value=9
        5us property_access property=CSTS value=5

    Breaks::

        0us property_access write=yes property=CC value=0
        1us property_access write=yes property=CC value=0x460001
        2us property_access property=CSTS value=9

    Breaks::

        1us property_access property=CAP value=0x00400020010107ff
        2us property_access property=CSTS value=0x41

    Silent::

        2us property_access property=CSTS value=9

    Silent::

        0us property_access write=yes property=CC value=0
        1us property_access write=yes property=CC value=0x460001
        2us property_access property=CSTS value=0x49

    Silent::

        3us property_access write=yes property=CC value=0x464001
        4us property_access property=CSTS value=9
        5us property_access write=yes property=CC value=0x460001
        6us property_access property=CSTS value=1
    """
    value, known = csts_read(event), session.registers.of(event.function)
    if value is None or absent(session, event.function) is Known.YES:
        return
    now, cap = CSTS.decode(value.to_bytes(4, "little")), known.constant(Property.CAP)
    before = known.statuses[-1] if known.statuses else None
    last_cc = known.written.get(Property.CC)
    steady = before is not None and not known.unclear and (last_cc is None or last_cc.order < before.order)
    wrong = ""
    if now["SHST"] == RESERVED:
        wrong = "SHST is 3, which is reserved"
    elif now["ST"] and cap is not None and not CAP["NSSS"].of(cap.to_bytes(8, "little")):
        wrong = "ST tells of a shutdown that CAP.NSSS does not have"
    elif before is not None and steady and now["RDY"] and status(before, "SHST") > now["SHST"]:
        wrong = f"SHST went from {status(before, 'SHST')} to {now['SHST']}"
    elif now["SHST"] and not now["ST"] and known.enable is not None and known.shutdown is None and now["RDY"]:
        asked = last_cc is not None and fields_of(last_cc.value)["SHN"]
        ended = known.shut_down_before
        wrong = "" if asked or ended else f"SHST is {now['SHST']}, and nobody asked for a shutdown"
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    else:
        yield expect(not wrong, f"CSTS is {value:X}h: {wrong}", event)


@rule("NVM21-3.1.4.6-n4", spec="NVMe Base 2.1, 3.1.4.6 and 9.5", party="controller")
def controller_failed(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A controller does not fail.

    CSTS.CFS tells that it did, and that nothing but a reset helps. A secondary controller that is offline shows the
    same, and so may one that is suspended.

    Holds::

        1us property_access property=CSTS value=1

    Breaks::

        1us property_access property=CSTS function=01:00.0 value=3

    Breaks::

        1us property_access property=CSTS function=01:00.1 value=1
        2us property_access property=CSTS function=01:00.1 value=3

    Silent::

        1us property_access property=CSTS function=01:00.0 value=0xFFFFFFFF

    Silent::

        1us virtualization_management function=01:00.0 cdw10=0x00010007
        2us property_access function=01:00.1 property=CSTS value=2

    Silent::

        0us midway
        2us property_access function=01:00.1 property=CSTS value=2

    Silent::

        1us suspend target=1 stype=1
        2us property_access function=01:00.1 property=CSTS value=3
    """
    value, known = csts_read(event), session.registers.of(event.function)
    controller = session.of_function(event.function)
    if value is None or absent(session, event.function) is Known.YES:
        return
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    elif not value & 2:
        yield held(event)
    elif known.statuses and status(known.statuses[-1], "CFS"):
        return
    elif controller.virtual is Known.NO or any(status(one, "RDY") for one in known.statuses):
        yield broken(f"CSTS is {value:X}h: the controller failed", event)
    else:
        yield not_observable(NO_OFFLINE, event)


@column_rule(
    "NVM21-3.6.1-n1", table="doorbells", columns=("kind", "qid", "value", "shutting_down"),
    spec="NVMe Base 2.1, 3.6.1", party="host", local=False,
)  # fmt: skip
def command_submitted_while_shutting_down(batch: pa.RecordBatch) -> Broken:
    """A host that asked for a shutdown submits no more I/O commands until it enabled the controller again.

    Whether they are done is open, and so is whether their data outlive the power.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 shutting_down=no

    Breaks::

        1us doorbells kind=SQ qid=1 value=3 shutting_down=yes

    Silent::

        1us doorbells kind=CQ qid=1 value=3 shutting_down=yes

    Silent::

        1us doorbells kind=SQ qid=0 value=3 shutting_down=yes

    Silent::

        1us doorbells kind=SQ qid=1 value=3
    """
    qid = numbers(batch, "qid")
    return found(
        words(batch, "kind", ("SQ",)) & (qid != 0) & there(batch, "value", "shutting_down"),
        numbers(batch, "shutting_down") != 0,
        lambda row: f"the tail of SQ {qid[row]} was moved though CC.SHN asks for a shutdown",
    )  # fmt: skip


@rule("NVM21-3.6.1-n2", spec="NVMe Base 2.1, 3.6.1 and Figure 312", party="controller", severity="warning")
def shutdown_endless(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A shutdown is complete within RTD3E, or within a second where that is not told.

    The power goes when the host has waited that long.

    Holds::

        1us identify_controller function=01:00.0
            data rtd3e=500000
        2us property_access write=yes property=CC value=0x464001
        100ms property_access property=CSTS value=5
        400ms property_access property=CSTS value=9

    Breaks::

        1us identify_controller function=01:00.0
            data rtd3e=500000
        2us property_access write=yes property=CC value=0x464001
        600ms property_access property=CSTS value=5

    Breaks::

        1us identify_controller function=01:00.0
            data rtd3e=0
        2us property_access write=yes property=CC value=0x464001
        1100ms property_access property=CSTS value=1

    Silent::

        2us property_access write=yes property=CC value=0x464001
        900s property_access property=CSTS value=5

    Silent::

        1us identify_controller function=01:00.0
            data rtd3e=500000
        2us property_access write=yes property=CC value=0x464001
        3us property_access write=yes property=CC value=0x460001
        600ms property_access property=CSTS value=1
    """
    value, known = csts_read(event), session.registers.of(event.function)
    asked, missing = known.shutdown, absent(session, event.function)
    if value is None or asked is None or missing is Known.YES or value & 2:
        return
    if any(status(one, "SHST") == COMPLETE and one.order > asked.order for one in known.statuses):
        return
    longest = session.of_function(event.function).limit("RTD3E")
    most, before = (longest or 0) * MICROSECOND or SECOND, known.read.get(Property.CSTS)
    if longest is not None and before is not None and before.access.time - asked.time > most:
        return  # it was too late already when the host looked before
    passed, reached = event.time - asked.time, CSTS["SHST"].of(value.to_bytes(4, "little")) == COMPLETE
    if session.registers.bytes_turned or longest is None or missing is Known.UNKNOWN:
        reason = TURNED if session.registers.bytes_turned else NO_OFFLINE
        yield not_observable("the capture does not show RTD3E" if longest is None else reason, event)
    elif passed <= most:
        if reached:
            yield held(event)
    elif reached:
        yield not_observable("the host looked only after the time that a shutdown may take", event)
    else:
        yield broken(
            f"CSTS is {value:X}h {passed / 1e12:.2f} s after a shutdown was asked for, and it takes "
            f"{most / 1e12:.2f} s at most", event,
        )  # fmt: skip


@rule("NVM21-3.6.1-n3", spec="NVMe Base 2.1, 3.6.1", party="host", severity="info")
def shutdown_with_queues(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A host that has the time deletes the I/O queues before it asks for a normal shutdown.

    Then no command is under way any more.

    Holds::

        0us queue_created kind=SQ qid=1
        1us queue_deleted kind=SQ qid=1
        2us property_access write=yes property=CC value=0x464001

    Breaks::

        0us queue_created kind=SQ qid=1
        2us property_access write=yes property=CC value=0x464001

    Silent::

        0us queue_created kind=SQ qid=1
        2us property_access write=yes property=CC value=0x468001

    Silent::

        0us queue_created kind=SQ qid=1
        2us property_access write=yes property=CC value=0x464000
    """
    written = cc_written(event, session)
    if written is None or not written[0] & 1 or fields_of(written[0])["SHN"] != NORMAL:
        return
    before = written[1]
    if before is not None and (not before & 1 or fields_of(before)["SHN"]):
        return
    controller = session.of_function(event.function)
    queues = [one for one in controller.io if not one.inferred and not one.restored]
    if queues:
        names = ", ".join(f"{one.kind} {one.qid}" for one in queues[:4])
        yield broken(f"a normal shutdown was asked for while there were queues: {names}", event)
    elif controller.complete_history:
        yield held(event)
    else:
        yield not_observable("the capture does not show which queues there were", event)


@column_rule(
    "NVM21-3.6.1-n4", table="transactions", columns=("sqid", "completed_after_shutdown", "sct", "sc"),
    spec="NVMe Base 2.1, 3.6.1", party="controller", severity="warning", local=False,
)  # fmt: skip
def completed_after_shutdown(batch: pa.RecordBatch) -> Broken:
    """A controller that has shut down completes no more commands until it is reset.

    Its host is not there any more. Commands that are given up are left out.

    Holds::

        1us transactions sqid=1 completed_after_shutdown=no sct=0 sc=0

    Breaks::

        1us transactions sqid=1 completed_after_shutdown=yes sct=0 sc=0

    Silent::

        1us transactions sqid=0 completed_after_shutdown=yes sct=0 sc=7

    Silent::

        1us transactions sqid=1 sct=0 sc=0
    """
    sqid, after = numbers(batch, "sqid"), numbers(batch, "completed_after_shutdown") != 0
    given_up = (numbers(batch, "sct") == 0) & np.isin(numbers(batch, "sc"), np.array(ABORTED))
    return found(
        there(batch, "completed_after_shutdown", "sct") & ~(after & given_up), after,
        lambda row: f"a command of SQ {sqid[row]} was completed after CSTS.SHST told that shutdown was complete",
    )  # fmt: skip
