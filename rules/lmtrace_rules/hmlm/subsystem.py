"""hmlm 6.13: what reaches beyond one controller: the reset of a primary controller, and sanitize."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, MigrationCommand, Reset, Sanitize, SqeFetch
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, held, not_observable, rule
from lmtrace.session import Controller, Session
from lmtrace.spec.nvme import CONTROLLER_SUSPENDED, SANITIZE_IN_PROGRESS
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.hmlm.causes import cause, refused

SECTION = "6.13 Resets, sanitize, virtualization"
PROFILE = "reset"
PHASE = "reset"


# -- primary and secondary controllers --------------------------------------------------------------------------


@rule("HMLM-8.2.6.3-n1", spec="NVMe Base 2.1, 8.2.6.3", party="controller")
def secondary_outlived_its_primary(event: SqeFetch, session: Session) -> Iterator[Verdict]:
    """When a primary controller is reset, its secondary controllers go offline.

    They live on resources that the primary controller hands out.

    Holds::

        1us virtualization_management cdw10=10009h
        2us reset
        4us enabled
        5us virtualization_management cdw10=10009h
        6us enabled function=01:00.1
        9us sqe_fetch function=01:00.1

    Silent::

        2us reset
        5ms sqe_fetch function=01:00.1

    Silent::

        1us virtualization_management cdw10=10009h
        2us reset
        3us sqe_fetch function=01:00.1

    Breaks::

        1us virtualization_management cdw10=10009h
        2us reset
        4us enabled
        4ms doorbell function=01:00.1 qid=1 value=1
        5ms sqe_fetch function=01:00.1
    """
    controller = session.of_function(event.function)
    primary = session.functions.get(controller.primary) if controller.primary is not None else None
    if primary is None or not primary.reset_orders or primary.reset_uncertain:
        return
    reset = primary.reset_orders[-1]
    if controller.enabled_order > reset:
        if controller.offline.since > reset and controller.offline.now is Known.NO:
            yield held(event)
        return
    if controller.reset_orders and controller.reset_orders[-1] >= reset:
        return
    late = event.time - primary.reset_time > session.options.window_ps
    first = controller.last_fetch_time - primary.reset_time <= session.options.window_ps
    if late and first and controller.last_doorbell_order > reset and controller.enabled.now is Known.YES:
        yield broken(
            f"{bdf_text(event.function)} fetched an entry of SQ {event.sqid} although its primary controller "
            f"{bdf_text(controller.primary or 0)} was reset and nothing set it online again",
            event,
        )


@rule("HMLM-8.2.6.3-n2", spec="NVMe Base 2.1, 8.2.6.3", party="host", severity="warning")
def manager_reset_during_migration(event: Reset, session: Session) -> Iterator[Verdict]:
    """The host does not reset a managing controller while a secondary controller of it is suspended for a migration.

    The reset takes the secondary controller offline, and what it was suspended with is lost.

    Holds::

        1us virtualization_management cdw10=10009h
        2us suspend target=1 stype=1
        3us resume target=1
        5us reset

    Silent::

        1us virtualization_management cdw10=10009h
        2us suspend target=1 stype=1
        3us get_controller_state target=1 csvi=1 csup=1
            header cp=1
            cq qid=1
        5us reset

    Silent::

        2us suspend target=1 stype=1
        5us reset

    Breaks::

        1us virtualization_management cdw10=10009h
        2us suspend target=1 stype=1
        5us reset
    """
    if event.how == "behaved as reset":
        return
    secondaries = [one for one in session.identifiers.values() if one.primary == event.function]
    suspended = [
        one
        for one in secondaries
        if one.suspension is not None and one.suspension.command.function == event.function
    ]  # fmt: skip
    for one in suspended:
        if _migrated(one, session):
            continue
        if one.committed is None and any(read.target == one.cntlid for read in session.reads.values()):
            yield not_observable("the capture does not show whether the migration was over", event)
        else:
            yield broken(
                f"{bdf_text(event.function)} was reset while CNTLID {one.cntlid or 0:X}h, suspended through it, had "
                + ("its state set and was not resumed" if one.committed is not None else "no state read"),
                event,
            )
    if not suspended and any(one.resumed_order >= 0 for one in secondaries):
        yield held(event)


def _migrated(source: Controller, session: Session) -> bool:
    """Whether another controller took over: it was resumed with a state that was set after the source was suspended."""
    assert source.suspension is not None
    return any(
        one is not source and one.resumed_state is not None and one.resumed_order > source.suspension.posted
        for one in session.identifiers.values()
    )


# -- sanitize ---------------------------------------------------------------------------------------------------


@cause(
    "HMLM-5.1.22-n1", Sanitize, CONTROLLER_SUSPENDED,
    unseen="the capture does not show whether a controller was suspended",
)  # fmt: skip
def _somebody_suspended(command: Sanitize, session: Session) -> Known:
    every = [*session.functions.values(), *session.identifiers.values()]
    if not any(one.mmc() is Known.YES or one.suspension is not None for one in every):
        return Known.NO
    return Known.any(one.suspended_during(command.fetched, command.order) for one in every)


@rule("HMLM-5.1.22-n1", spec="NVMe Base 2.1, 5.1.22", party="controller")
def sanitized_under_a_suspended_controller(command: Sanitize, session: Session) -> Iterator[Verdict]:
    """Sanitize is refused while a controller of the subsystem is suspended.

    It would erase what is being migrated.

    Holds::

        1us suspend target=1 stype=1
        5us sanitize cdw10=2 status=1/39h

    Silent::

        5us sanitize cdw10=2

    Silent::

        1us suspend target=1 stype=0
        5us sanitize cdw10=2

    Breaks::

        1us suspend target=1 stype=1
        5us sanitize cdw10=2
    """
    yield from refused(command, session, "HMLM-5.1.22-n1", condition="a controller of the subsystem is suspended")


@rule("HMLM-8.1.24.4-n1", spec="NVMe Base 2.1, 8.1.24.4, Figure 142", party="controller", severity="warning")
def served_during_sanitize(command: Command, session: Session) -> Iterator[Verdict]:
    """No live-migration command is served while a sanitize operation is in progress.

    It is none of the commands that may run beside one. What proves that the operation was still in progress is a later
    command that is refused because of it.

    Holds::

        2us sanitize cdw10=2
        5us suspend target=1 stype=1 status=0/1Dh

    Silent::

        2us sanitize cdw10=2
        5us suspend target=1 stype=1

    Silent::

        2us sanitize cdw10=2
        3us suspend target=1 stype=1
        4us sanitize cdw10=2
        5us command opc=10h status=0/1Dh

    Breaks::

        2us sanitize cdw10=2
        3us suspend target=1 stype=1
        5us command opc=10h status=0/1Dh
    """
    if command.status != SANITIZE_IN_PROGRESS or command.sqid != 0:
        return
    served = [one for one in session.sanitize.served if one.order < command.fetched]
    for one in served:
        yield broken(
            f"{one.title} succeeded between a Sanitize and a command that was refused because it was still in progress",
            one,
        )
    if isinstance(command, MigrationCommand) and not served:
        yield held(command)
