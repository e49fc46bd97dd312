"""What is still known behind a loss: what cannot have changed, and what is in flight."""

from __future__ import annotations

from lmtrace.session.controller import Controller
from lmtrace.session.fetched import begin
from lmtrace.session.session import Session


def renew(old: Session, new: Session, order: int) -> Session:
    """Return ``new``, which knows who is who, as the session behind a loss in which anything may have happened.

    What a controller is stays: Identify data, version, configuration. Everything that commands and registers change
    is to be seen again.
    """
    new.options, new.loss_order, new.renewed_order = old.options, old.loss_order, order
    new.formats, new.formats_read = old.formats, old.formats_read
    new.entry_formats_read, new.lists, new.all_identifiers = old.entry_formats_read, old.lists, old.all_identifiers
    for cntlid, known in old.identifiers.items():
        if known.function is not None and cntlid not in new.identifiers:
            new.bind(known.function, cntlid)
        _carry(known, new.controller(cntlid))
    for function, known in old.functions.items():
        _carry(known, new.of_function(function))
    for command in list(old.in_flight.values()):
        begin(new, command)
    return new


def _carry(known: Controller, one: Controller) -> None:
    one.hmlms, one.virtual, one.primary, one.config = known.hmlms, known.virtual, known.primary, known.config
    one.identity, one.entry_format, one.page_size = known.identity, known.entry_format, known.page_size
    one.administration.version = known.administration.version
    one.reset_uncertain = True
