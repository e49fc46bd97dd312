"""hmlm 6.14: the order of a whole migration, from its source to its destination."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    GetFeaturesCdq,
    Handover,
    MigrationCommand,
    Resume,
    SetFeaturesCdq,
    StateItem,
)  # fmt: skip
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import Phase, Session

SECTION = "6.14 End-to-end order and data continuity"
PROFILE = "end-to-end"
PHASE = ("state-set", "resume", "after-resume")

ONE_END = "the captures show only one end of the migration"
LOSSY_SOURCE = "the capture of the source itself shows that something was lost"

not_a_rule(
    "HMLM-8.1.12.1-n12", "a downtime is a number and breaks nothing: the table migrations holds the times it is made of"
)


@rule("HMLM-8.1.12.1-n7", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def state_moved_out_of_order(event: Resume | StateItem, session: Session) -> Iterator[Verdict]:
    """State is set after it was read, and its destination is resumed after it was committed.

    What is set before it was read can only be guessed; what is not committed gives the destination no queues.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=1 numd=26
            sq qid=1
            cq qid=1
        3us set_controller_state target=2 csvi=1 seqind=2 numd=0
        4us resume target=2

    Holds::

        5us state_item comparison="order of reading and setting" item="bytes 0 to 103" first=read second=set

    Silent::

        1us suspend target=2 stype=1
        4us resume target=2

    Silent::

        5us state_item comparison="order of reading and setting" item="bytes 0 to 103" judgement=unknown

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=1 numd=26
            sq qid=1
            cq qid=1
        4us resume target=2 status=0/0Ch

    Breaks::

        5us state_item comparison="order of reading and setting" item="bytes 0 to 103" judgement=differs
    """
    if isinstance(event, StateItem):
        if event.comparison != "order of reading and setting":
            return
        if event.judgement == "unknown":
            yield not_observable(event.reason or ONE_END, event)
        else:
            yield expect(
                event.judgement == "equal", f"{event.item} of the state were set before anything read them", event
            )
        return
    phase = session.phase(event)
    if phase is Phase.OPEN:
        yield broken(f"{event.title} comes while the state sent to CNTLID {event.target:X}h is not committed", event)
    elif phase is Phase.COMMITTED:
        yield held(event)


@rule("HMLM-8.1.12.1-n8", spec="NVMe Base 2.1, 5.1.17.1.2 and 8.1.12.1", party="host")
def running_destination_resumed(command: Resume, session: Session) -> Iterator[Verdict]:
    """A destination that received state is suspended when it is resumed.

    Resume starts only what is suspended; the tenant's queues would stand still.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1
            cq qid=1
        4us resume target=2

    Silent::

        4us resume target=2 status=1/3Ah

    Silent::

        0us midway
        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1
            cq qid=1
        4us resume target=2

    Breaks::

        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1
            cq qid=1
        4us resume target=2 status=1/3Ah
    """
    received = any(
        target == command.target and transfer.phase.now in (Phase.OPEN, Phase.COMMITTED)
        for (_, target), transfer in session.transfers.items()
    )
    if not received:
        return
    match session.suspended(command.target, command):
        case Known.NO:
            yield broken(
                f"{command.title} is for CNTLID {command.target:X}h, which received state and is not suspended", command
            )
        case Known.YES:
            yield held(command)
        case Known.UNKNOWN:
            # One that is resumed was suspended before its Resume; throughout it is not.
            if command.succeeded:
                yield held(command)
            else:
                yield not_observable("the capture does not show whether the target was suspended", command)


@rule("HMLM-8.1.12.1-n9", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def destination_resumed_before_last_report(event: Handover, session: Session) -> Iterator[Verdict]:
    """The last report on the source's memory says that it is suspended and that nothing is left, before the Resume.

    Pages that changed and were not reported are old at the destination.

    Holds::

        9us handover source=1 destination=2 tracked=1 final_report=1

    Silent::

        9us handover source=1 destination=2

    Silent::

        9us handover source=1 destination=1 outcome="rolled back" tracked=1

    Silent::

        9us handover source=1 destination=2 tracked=1 source_capture_lossy=1

    Breaks::

        9us handover source=1 destination=2 tracked=1
    """
    if event.outcome != "resumed" or event.source is None or not event.tracked:
        return
    if event.final_report:
        yield held(event)
    elif event.source_capture_lossy:
        yield not_observable(LOSSY_SOURCE, event)
    else:
        yield broken(
            f"controller {event.destination} was resumed although no report on the memory of controller "
            f"{event.source} said SUSP=1 and MTR=0", event,
        )  # fmt: skip


@rule("HMLM-8.1.12.1-n10", spec="NVMe Base 2.1, 8.1.12", party="host", severity="warning")
def destination_has_less(event: StateItem, session: Session) -> Iterator[Verdict]:
    """The destination can do what the source could: queues, transfer size, namespaces and their formats.

    The tenant goes on as it learnt to do at the source; what the destination lacks fails.

    Holds::

        5us state_item comparison=capability item=CAP.MQES number=1023 other_number=1023

    Holds::

        5us state_item comparison=capability item=CAP.MQES number=255 other_number=1023 judgement=differs

    Silent::

        5us state_item comparison=capability item=MDTS judgement=unknown

    Breaks::

        5us state_item comparison=capability item=CAP.MQES number=1023 other_number=255 judgement=differs

    Breaks::

        5us state_item comparison=capability item="namespace 1 block size" first=512 second=4096 judgement=differs
    """
    if event.comparison != "capability":
        return
    if event.judgement == "unknown":
        yield not_observable("the captures do not show what both ends can do", event)
        return
    more = event.number is not None and event.other_number is not None and event.other_number > event.number
    same = event.judgement == "equal"
    yield expect(
        same or (more and not event.item.endswith("block size")),
        f"{event.item} is {event.first} at the source and {event.second} at the destination", event,
    )  # fmt: skip


@rule("HMLM-8.1.12.1-n11", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def source_goes_on(event: Handover, _: Session) -> Iterator[Verdict]:
    """Once its destination was resumed the source stays silent until it is reset.

    Two controllers that run with one state do the same commands twice. What a source sends by itself, suspended as it
    is, is the controller's fault (5.1.17.1.1-n6).

    Holds::

        9us handover source=1 destination=2

    Silent::

        9us handover source=1 destination=1 outcome="rolled back" source_resumed=1

    Silent::

        9us handover source=1 destination=2 source_resumed=1 source_capture_lossy=1

    Breaks::

        9us handover source=1 destination=2 source_resumed=1
    """
    if event.outcome != "resumed" or event.source is None:
        return
    if not event.source_resumed:
        yield held(event)
    elif event.source_capture_lossy:
        yield not_observable(LOSSY_SOURCE, event)
    else:
        yield broken(
            f"controller {event.destination} was resumed with the state of controller {event.source}, which was "
            "resumed too", event,
        )  # fmt: skip


@rule("HMLM-8.1.12.1-n13", spec="NVMe Base 2.1, 8.1.12.1", party="both", severity="info")
def migration_incomplete(event: Handover, session: Session) -> Iterator[Verdict]:
    """A migration goes all the way: Suspend, Get, Set, Resume; or it turns back, or its source is reset.

    A capture that ends on the way shows a tenant that stands still.

    Holds::

        9us handover

    Holds::

        9us handover source=1 destination=1 outcome="rolled back" steps=suspend+resume

    Holds::

        9us handover source=1 destination=none outcome=reset steps=suspend

    Silent::

        9us handover source=none destination=2 steps=set+resume

    Silent::

        9us handover source=1 destination=none outcome=suspended steps=suspend+get

    Breaks::

        9us handover source=1 destination=2 outcome=suspended steps=suspend+get+set

    Breaks::

        9us handover source=1 destination=2 outcome=reset steps=suspend+get+set
    """
    given_up = event.outcome == "rolled back" or (event.outcome == "reset" and event.destination is None)
    if given_up or event.steps == "suspend+get+set+resume":
        yield held(event)
    elif event.source is None or event.destination is None:
        yield not_observable(ONE_END, event)
    else:
        missing = [one for one in ("suspend", "get", "set", "resume") if one not in event.steps.split("+")]
        yield broken(
            f"of the migration of controller {event.source} to {event.destination} the capture shows no "
            f"{', '.join(missing)}", event,
        )  # fmt: skip


@rule("HMLM-3.10-n1", spec="NVMe Base 2.1, 3.10", party="host", severity="warning")
def migration_command_of_a_tenant(command: MigrationCommand, session: Session) -> Iterator[Verdict]:
    """Live-migration commands are the managing host's; none goes to a secondary controller, which a tenant owns.

    Who may suspend another's controller and read its state may do anything to it. Which host owns a queue no capture
    shows; a secondary controller is there for a tenant.

    Holds::

        1us suspend target=1 stype=1

    Silent::

        1us get_features_cdq function=01:00.1 cdqid=1 status=0/02h

    Silent::

        0us midway
        1us suspend function=01:00.1 target=2 stype=1 status=0/01h

    Breaks::

        1us suspend function=01:00.1 target=2 stype=1 status=0/01h
    """
    if isinstance(command, SetFeaturesCdq | GetFeaturesCdq) or command.sqid:
        return
    match session.of_function(command.function).virtual:
        case Known.YES:
            yield broken(f"{command.title} was sent to a secondary controller", command)
        case Known.NO:
            yield held(command)
        case Known.UNKNOWN:
            yield not_observable("the capture does not show whether the controller is a secondary one", command)
