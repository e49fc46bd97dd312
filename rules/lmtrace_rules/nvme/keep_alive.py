"""nvme-checklist G19: Keep Alive and its timer."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, SetFeatures
from lmtrace.rule import Verdict, expect, rule
from lmtrace.session import Controller, Session
from lmtrace.spec.nvme import INVALID_FIELD, INVALID_OPCODE, Admin, Feature

SECTION = "G19 Abort, Cancel, Keep Alive"
PROFILE = ("nvme", "keep-alive")
MILLISECOND = 1_000_000_000
GRANULARITY = 100 * MILLISECOND
"""Unit of KAS in ps: the timer is rounded up to a multiple of KAS of them."""
TRAFFIC_BASED = 1 << 6
"""TBKAS of CTRATT: any command keeps the association alive."""


def _timeout(controller: Controller) -> int | None:
    """Return the Keep Alive Timeout in ps, 0 where the timer is off, None where it was not seen being set."""
    setting = controller.administration.settings.get((Feature.KEEP_ALIVE_TIMER, 0))
    if not setting or not all(one.succeeded for one in setting):
        return None
    return setting[-1].field("CDW11") * MILLISECOND


def _late(command: Command, controller: Controller) -> tuple[int, int] | None:
    """Return (time since the timer was started, the most it may be) in ps, None where one of them is not known."""
    timeout, attributes = _timeout(controller), controller.limit("CTRATT")
    started = controller.events.kept_alive
    if not timeout or attributes is None or attributes & TRAFFIC_BASED or started is None:
        return None
    rounding = (controller.limit("KAS") or 1) * GRANULARITY
    return command.fetch_time - started, timeout + rounding


@rule("NVM21-5.1.14-n1", spec="NVMe Base 2.1, 5.1.14", party="controller")
def keep_alive_refused(command: Command, session: Session) -> Iterator[Verdict]:
    """A Keep Alive succeeds where a Keep Alive Timeout was set.

    The host takes the controller for dead otherwise.

    Holds::

        1us set_features fid=0x0f cdw11=5000
        2us command opc=0x18

    Breaks::

        1us set_features fid=0x0f cdw11=5000
        2us command opc=0x18 status=0/01h

    Silent::

        2us command opc=0x18 status=0/01h

    Silent::

        1us set_features fid=0x0f cdw11=0
        2us command opc=0x18 status=0/01h

    Silent::

        1us set_features fid=0x0f cdw11=5000
        2us command opc=0x18 status=0/02h nsid=1
    """
    if command.sqid or command.opcode != Admin.KEEP_ALIVE or not command.completed:
        return
    if not _timeout(session.of_function(command.function)):
        return
    plain = not any(command.sqe[4:]) and command.sqe[1] == 0
    refused = command.status in (INVALID_OPCODE, INVALID_FIELD) and plain
    if command.succeeded or refused:
        yield expect(
            not refused, f"{command.title} was refused with {command.status}, though the timer is set", command
        )


@rule("NVM21-3.9-n1", spec="NVMe Base 2.1, 3.9", party="host", severity="warning")
def keep_alive_late(command: Command, session: Session) -> Iterator[Verdict]:
    """A host sends a Keep Alive before the Keep Alive Timeout has passed since the last one.

    The controller takes the host for dead otherwise, and stops.

    Holds::

        1us identify_controller
            data ctratt=0 kas=1
        2us set_features fid=0x0f cdw11=200
        150ms command opc=0x18

    Breaks::

        1us identify_controller
            data ctratt=0 kas=1
        2us set_features fid=0x0f cdw11=200
        450ms command opc=0x18

    Silent::

        1us identify_controller
            data ctratt=0x40 kas=1
        2us set_features fid=0x0f cdw11=200
        450ms command opc=0x18

    Silent::

        2us set_features fid=0x0f cdw11=200
        450ms command opc=0x18
    """
    if command.sqid or command.opcode != Admin.KEEP_ALIVE:
        return
    times = _late(command, session.of_function(command.function))
    if times is not None:
        passed, most = times
        yield expect(
            passed <= most,
            f"{command.title} came {passed / MILLISECOND:.0f} ms after the timer was started, which runs for "
            f"{most / MILLISECOND:.0f} ms at most",
            command,
        )  # fmt: skip


@rule("NVM21-3.9-n2", spec="NVMe Base 2.1, 3.9", party="controller", severity="warning")
def keep_alive_timer_ignored(command: Command, session: Session) -> Iterator[Verdict]:
    """A controller whose Keep Alive Timer has expired stops, and serves no Keep Alive that comes much too late.

    Commands of a host that is gone would go on otherwise.

    Holds::

        1us identify_controller
            data ctratt=0 kas=1
        2us set_features fid=0x0f cdw11=200
        150ms command opc=0x18

    Breaks::

        1us identify_controller
            data ctratt=0 kas=1
        2us set_features fid=0x0f cdw11=200
        650ms command opc=0x18

    Silent::

        1us identify_controller
            data ctratt=0 kas=1
        2us set_features fid=0x0f cdw11=200
        450ms command opc=0x18
    """
    if command.sqid or command.opcode != Admin.KEEP_ALIVE or not command.succeeded:
        return
    times = _late(command, session.of_function(command.function))
    if times is not None:
        passed, most = times
        yield expect(
            passed <= 2 * most,
            f"{command.title} succeeded {passed / MILLISECOND:.0f} ms after the timer was started, which runs for "
            f"{most / MILLISECOND:.0f} ms at most",
            command,
        )  # fmt: skip


@rule("NVM21-5.1.25-n14", spec="NVMe Base 2.1, 3.9 and 5.1.25.1.8", party="controller")
def keep_alive_switched_off(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """Over fabrics the Keep Alive Timer cannot be switched off: a timeout of 0 is refused.

    A controller would never notice that its host is gone.

    Holds::

        1us set_features fid=0x0f cdw11=0 status=0/1Ah function=0x10001

    Breaks::

        1us set_features fid=0x0f cdw11=0 function=0x10001

    Silent::

        1us set_features fid=0x0f cdw11=0 function=01:00.0
    """
    if command.fid != Feature.KEEP_ALIVE_TIMER or command.field("CDW11") or not command.over_fabrics:
        return
    if command.completed:
        yield expect(command.failed, f"{command.title} succeeded with a timeout of 0", command)
