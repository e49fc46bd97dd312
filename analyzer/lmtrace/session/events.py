"""What each event changes in the session, after the rules were asked about it."""

from __future__ import annotations

from lmtrace.events import (
    CdqEntry,
    Command,
    CommandFailed,
    CqePosted,
    Doorbell,
    Enabled,
    Event,
    FunctionConfig,
    Initiated,
    Interrupt,
    InvalidDoorbell,
    PropertyAccess,
    QueueCreated,
    QueueDeleted,
    Reset,
    SqeFetch,
    Stray,
)  # fmt: skip
from lmtrace.known import Known
from lmtrace.session.completed import complete
from lmtrace.session.data_queue import end_queue
from lmtrace.session.resets import reset
from lmtrace.session.session import Session
from lmtrace.spec.nvme import Admin

MOST_MESSAGES = 4096
"""Addresses of interrupt messages of one controller that are kept."""


def observe(session: Session, event: Event) -> None:
    """Take note of an event, after the rules were asked about it."""
    watched = session.of_function(event.function) if event.over_fabrics else session.functions.get(event.function)
    if watched is not None:
        watched.watch(event)
    match event:
        case Command():
            if event.completed or event.opcode != Admin.ASYNC_EVENT_REQUEST:
                session.in_flight.pop(event.fetched, None)
            complete(session, event)
            session.registers.committed(event)
        case SqeFetch():
            session.of_function(event.function).on_fetch(event)
        case CqePosted():
            session.of_function(event.function).on_cqe(event)
        case Doorbell():
            session.of_function(event.function).on_doorbell(event)
        case Initiated():
            session.of_function(event.function).initiated.append(event)
        case PropertyAccess():
            controller = session.of_function(event.function)
            controller.memory.note(event)
            session.upkeep.property_accessed(event)
            session.registers.note(event)
            controller.administration.property_accessed(event)
            controller.answers |= not event.write and event.completion is not None
            if event.write:
                controller.property_writes.append(event.order)
                controller.last_property_order = event.order
        case CommandFailed():
            session.of_function(event.function).administration.failed(event)
        case FunctionConfig():
            session.of_function(event.function).config = event
        case InvalidDoorbell():
            session.of_function(event.function).events.doorbell(event)
        case Stray():
            session.strays.append(event)
        case Interrupt():
            messages = session.of_function(event.function).messages
            if event.address is not None and not event.inferred and len(messages) < MOST_MESSAGES:
                messages.add(event.address)
        case Enabled():
            controller = session.of_function(event.function)
            controller.enabled.set(event.order, Known.YES)
            controller.enabled_order = event.order
            controller.administration.enabled(event.order, not event.inferred)
            controller.events.reset()
            controller.page_size = event.page_size or controller.page_size
            for one in session.data_queues:
                if one.owner == event.function:
                    end_queue(one, event.order, "reset of its owner", certain=not event.inferred)
            session.trackings.owner_reset(event.function, event.order, "reset of its owner", not event.inferred)
            if controller.suspended.now is Known.YES:
                # Only a controller that was reset unseen, or suspended while disabled, is enabled here.
                controller.suspended.set(event.order, Known.UNKNOWN)
                controller.suspension = None
            elif not controller.reset_uncertain and controller.suspended.now is Known.UNKNOWN:
                controller.suspended.set(event.order, Known.NO)
            if controller.io_queues.now is Known.UNKNOWN and not controller.io:
                controller.io_queues.set(event.order, Known.NO)
            controller.complete_history = True
        case Reset():
            reset(session, event)
            session.registers.reset(event)
            if event.how == "FLR" and session.of_function(event.function).virtual is not Known.YES:
                # That of a physical function resets its virtual ones, which are told where they are known.
                others = [one for one, known in session.functions.items() if known.virtual is not Known.NO]
                session.registers.doubt(set(others) - {event.function}, event.order, "reset of its primary")
            session.upkeep.reset(event)
        case QueueCreated():
            session.of_function(event.function).on_created(event)
        case QueueDeleted():
            session.of_function(event.function).on_deleted(event.kind, event.qid, event.order)
        case CdqEntry():
            queue = session.live_queue(event.owner, event.cdqid)
            if queue is not None:
                queue.on_entry(event)
