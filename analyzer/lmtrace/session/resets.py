"""What a Controller Level Reset ends in the session (hmlm 4.5)."""

from __future__ import annotations

from lmtrace.events import Reset
from lmtrace.known import Known
from lmtrace.session.controller import Controller, LostSuspension
from lmtrace.session.data_queue import end_queue
from lmtrace.session.session import Session
from lmtrace.session.transfer import Phase


def reset(session: Session, event: Reset) -> None:
    """Apply a Controller Level Reset (hmlm 4.5); what an inferred one did stays unknown."""
    certain = event.how != "behaved as reset" and not event.inferred
    owners = list(session.functions) if event.how == "NSSR" else [event.function]
    for owner in owners:
        controller = session.of_function(owner)
        _suspensions_lost(session, event, owner, certain)
        doubt_logs(session, controller, event.order)
        how = "NSSR" if event.how == "NSSR" else "reset of its owner"
        session.trackings.owner_reset(owner, event.order, how, certain)
        if controller.cntlid is not None:
            session.trackings.target_reset(controller.cntlid, event.order)
        controller.on_reset(event.order, certain)
        controller.reset_time = event.time
        for queue in session.data_queues:
            if queue.owner == owner:
                end_queue(queue, event.order, how, certain)
        for (function, cntlid), transfer in session.transfers.items():
            if function == owner or cntlid == controller.cntlid:
                transfer.end(event.order, Phase.UNKNOWN)
        for other in session.identifiers.values():
            if other.suspension is not None and other.suspension.command.function == owner:
                other.suspension = None
                other.suspended.set(event.order, Known.UNKNOWN)
            if other.primary == owner and other.offline.now is not Known.YES:
                other.offline.set(event.order, Known.UNKNOWN)
    for key in [key for key in session.reads if key[0] in owners or session.controller(key[1]).function in owners]:
        session.past_reads.append(session.reads.pop(key))


def _suspensions_lost(session: Session, event: Reset, owner: int, certain: bool) -> None:
    """Note the suspensions that the reset of ``owner`` ends."""
    for one in session.identifiers.values():
        if one.suspension is None:
            continue
        how = "own reset" if one.function == owner else "reset of the MMC"
        if how == "own reset" or one.suspension.command.function == owner:
            how = "NSSR" if event.how == "NSSR" else how
            one.lost_suspension = LostSuspension(one.suspension.command, event.order, how) if certain else None


def doubt_logs(session: Session, target: Controller, order: int) -> None:
    """What becomes of the log of a controller that is reset or goes offline is not said."""
    for queue in session.data_queues:
        if target.cntlid is not None and queue.target == target.cntlid and queue.live.now is not Known.NO:
            queue.periods.uncertain(order)
            if queue.logging.now is Known.YES:
                queue.logging.set(order, Known.UNKNOWN)
