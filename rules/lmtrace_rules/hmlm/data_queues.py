"""What the rules about controller data queues have in common: pages, memory ranges, and which queues are live."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lmtrace.events import Command, CreateCdq, Stray
from lmtrace.known import Known, throughout
from lmtrace.session import DataQueue, Session

SMALLEST_PAGE, LARGEST_PAGE = 1 << 12, 1 << 27
"""CC.MPS reaches from 4 KiB to 128 MiB."""

USER_DATA = 0
"""QT of a User Data Migration Queue."""


def misaligned(address: int, page_size: int | None) -> Known:
    """Return whether an address has an offset within its memory page; offsets below 4 KiB show in any page size."""
    if address % (page_size or SMALLEST_PAGE):
        return Known.YES
    return Known.of(False if page_size or address % LARGEST_PAGE == 0 else None)


def list_length(command: CreateCdq, session: Session) -> int | None:
    """Return the entries of the PRP list that a queue needs; None where the page size is not known."""
    page_size = session.of_function(command.function).page_size
    return None if page_size is None else -(-4 * command.field("CDQSIZE") // page_size)


def list_seen(command: CreateCdq, session: Session) -> bool:
    """Whether the whole PRP list of a queue was seen."""
    length = list_length(command, session)
    return length is not None and command.pages is not None and len(command.pages) >= length


def ranges(command: CreateCdq, session: Session) -> tuple[int, int | None]:
    """Return the least and the most memory ranges of a queue; the most is None where its list was not seen whole.

    Pages that follow one another are one range at least; a controller may as well count every page.
    """
    if command.field("PC"):
        return 1, 1
    page_size, pages = session.of_function(command.function).page_size, command.pages or ()
    if page_size is None:
        return 1, None
    runs = 1 + sum(after != page + page_size for page, after in pairwise(pages))
    return runs, len(pages) if list_seen(command, session) else None


def same_subsystem(session: Session, one: int, other: int) -> Known:
    """Whether two functions are controllers of one subsystem, by their NQNs or by a list that holds both."""
    if one == other:
        return Known.YES
    first, second = session.of_function(one), session.of_function(other)
    if first.identity is not None and second.identity is not None:
        names = first.identity.subnqn, second.identity.subnqn
        if all(names):
            return Known.of(names[0] == names[1])
    everyone = session.all_identifiers
    if everyone is not None and first.cntlid in everyone and second.cntlid in everyone:
        return Known.YES
    return Known.UNKNOWN


def others_known(session: Session, function: int) -> bool:
    """Whether every CDQ of the subsystem is known: each controller that may own one was seen from its start."""
    if session.all_identifiers is None or not session.of_function(function).complete_history:
        return False
    for cntlid in session.all_identifiers:
        one = session.identifiers.get(cntlid)
        if one is None or one.function is None:
            return False
        if one.function != function and one.mmc() is not Known.NO and not one.complete_history:
            return False
    return not session.unseen_creates


def other_queues(command: CreateCdq, session: Session) -> Iterator[tuple[DataQueue, Known]]:
    """Yield the queues of the subsystem beside the one a command creates, with whether they lived throughout it."""
    for queue in session.data_queues:
        if queue.created is command:
            continue
        known = throughout(queue.live, command.fetched, command.order)
        known = known & same_subsystem(session, queue.owner, command.function)
        if known is not Known.NO:
            yield queue, known


def logs(queue: DataQueue, command: Command) -> Known:
    """Whether a queue existed and logged throughout a command."""
    live = throughout(queue.live, command.fetched, command.order)
    return live & throughout(queue.logging, command.fetched, command.order)


def writes_for(queue: DataQueue, event: Stray, session: Session) -> bool:
    """Whether a request comes from the owner of a queue or from the controller that it logs."""
    return event.function in (queue.owner, session.controller(queue.target).function)
