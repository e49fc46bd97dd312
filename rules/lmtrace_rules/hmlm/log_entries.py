"""hmlm 6.7: what stands in an entry of an LBA Migration Queue."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry
from lmtrace.known import Known
from lmtrace.rule import Verdict, expect, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.migration import EntrySequence
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.hmlm.data_queues import USER_DATA

SECTION = "6.7 LBA Migration Queue entries"
PROFILE = "tracking"
PHASE = ("track", "pre-copy")
RANGE, WHOLE_NAMESPACE, NO_RANGE, RESERVED_RANGE = range(4)
"""LBACIR."""
SPEC = "NVM Command Set 1.2, 5.6, Figure 177"


def place(event: CdqEntry) -> str:
    """Name an entry, for messages."""
    return f"the entry in slot {event.slot} of CDQ {event.cdqid} of {bdf_text(event.owner)}"


def is_type_0(event: CdqEntry, session: Session) -> bool:
    """Whether an entry is a Type 0 entry of a User Data Migration Queue that lives, and not one of a vendor's.

    The memory of a queue that was deleted, or whose owner may have been reset, may serve something else by now.
    """
    queue = session.live_queue(event.owner, event.cdqid)
    if queue is not None:
        gone = queue.live.now is Known.NO or queue.ended_by is not None
        if gone or queue.created.field("QT") != USER_DATA:
            return False
    return session.of_function(event.owner).entry_format in (None, 0)


@rule("HMLM-NCS.5.6-n1", spec=SPEC, party="controller")
def reserved_entry_bytes_set(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """The reserved bytes and bits of an entry are zero.

    A later revision may give them a meaning that a host then reads out of them.

    Holds::

        2us cdq_entry slot=0 esa=1 lbacir=2

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us delete_cdq cdqid=1
        3us cdq_entry slot=0 data=FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF

    Breaks::

        2us cdq_entry slot=0 data=0000000000000000000000000000000001000000000000000000000000000083

    Breaks::

        2us cdq_entry slot=0 data=0000000000000000000000000000000000000000000000000000000000000013
    """
    if not is_type_0(event, session):
        return
    data = event.data
    what = [f"byte {at} is {data[at]:X}h" for at in range(16, 31) if data[at]]
    if data[31] & 0x10:
        what.append("bit 4 of LBAMQA is set")
    yield expect(not what, f"of {place(event)} {', '.join(what)}", event)


@rule("HMLM-NCS.5.6-n2", spec=SPEC, party="controller")
def reserved_sequence_code(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """Where an entry stands in the log is told by a code that is not reserved.

    The host could not tell whether the log goes on.

    Holds::

        2us cdq_entry slot=0 esa=7 lbacir=2

    Breaks::

        2us cdq_entry slot=0 esa=5
    """
    if is_type_0(event, session):
        known = event.esa in EntrySequence._value2member_map_
        yield expect(known, f"{place(event)} has the reserved ESA {event.esa:03b}b", event)


@rule("HMLM-NCS.5.6-n3", spec=SPEC, party="controller")
def reserved_range_code(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """What an entry says about its range is told by a code that is not reserved.

    The host could not tell which blocks to copy again.

    Holds::

        2us cdq_entry slot=0 esa=1 lbacir=2

    Breaks::

        2us cdq_entry slot=0 esa=1 lbacir=3
    """
    if is_type_0(event, session):
        yield expect(event.lbacir != RESERVED_RANGE, f"{place(event)} has the reserved LBACIR 11b", event)


@rule("HMLM-NCS.5.6-n4", spec=SPEC, party="controller")
def ordinary_entry_without_range(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """An ordinary entry names a range of blocks.

    That is all it is for; a mere marker has a sequence code of its own.

    Holds::

        2us cdq_entry slot=1 nsid=1 slba=64 nlb=7

    Breaks::

        2us cdq_entry slot=1 lbacir=2

    Silent::

        2us cdq_entry slot=0 esa=1 lbacir=2
        3us cdq_entry slot=1 lbacir=3
    """
    if event.esa != EntrySequence.ORDINARY or event.lbacir == RESERVED_RANGE or not is_type_0(event, session):
        return
    yield expect(event.lbacir == RANGE, f"{place(event)} has ESA 000b and LBACIR {event.lbacir:02b}b", event)


@rule("HMLM-NCS.5.6-n5", spec=SPEC, party="controller")
def marker_with_a_range(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """An entry that holds no range names no namespace and no blocks.

    A host that reads the fields would copy what did not change, or take a marker for a change.

    Holds::

        2us cdq_entry slot=0 esa=1 lbacir=2 nsid=0

    Breaks::

        2us cdq_entry slot=0 esa=1 lbacir=2 nsid=1

    Breaks::

        2us cdq_entry slot=0 esa=3 lbacir=2 nsid=0 slba=64
    """
    if event.lbacir != NO_RANGE or not is_type_0(event, session):
        return
    yield expect(
        not (event.nsid or event.nlb or event.slba),
        f"{place(event)} holds no range and has NSID {event.nsid}, SLBA {event.slba}, NLB {event.nlb}", event,
    )  # fmt: skip


@rule("HMLM-NCS.5.6-n6", spec=SPEC, party="controller")
def whole_namespace_with_a_start(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """An entry that stands for a whole namespace names that namespace and no first block.

    A host could take it for a range that begins there.

    Holds::

        2us cdq_entry slot=0 esa=1 lbacir=1 nsid=1

    Breaks::

        2us cdq_entry slot=0 esa=1 lbacir=1 nsid=1 slba=64

    Breaks::

        2us cdq_entry slot=0 esa=1 lbacir=1 nsid=0
    """
    if event.lbacir != WHOLE_NAMESPACE or not is_type_0(event, session):
        return
    yield expect(
        event.slba == 0 and event.nsid != 0,
        f"{place(event)} stands for a whole namespace and has NSID {event.nsid}, SLBA {event.slba}", event,
    )  # fmt: skip


@rule("HMLM-NCS.5.6-n7", spec="NVMe Base 2.1, 5.1.27.1.1; NVM Command Set 1.2, 5.6", party="controller")
def unattached_namespace_logged(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """A range lies in a namespace that is attached to the controller whose changes are logged.

    It can change no other one.

    Holds::

        0us identify function=01:00.1 cdw10=2
            data raw=0x0000000200000001
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1 nsid=2

    Breaks::

        0us identify function=01:00.1 cdw10=2
            data raw=0x0000000200000001
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1 nsid=3

    Breaks::

        0us identify function=01:00.1 cdw10=0 nsid=3
            data raw=0
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1 lbacir=1 nsid=3

    Silent::

        0us identify function=01:00.0 cdw10=2
            data raw=1
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1 nsid=3

    Silent::

        0us identify function=01:00.1 cdw10=2
            data raw=1
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us command opc=0x15 nsid=3
        3us cdq_entry slot=0 esa=1 nsid=3
    """
    queue = session.live_queue(event.owner, event.cdqid)
    if event.lbacir not in (RANGE, WHOLE_NAMESPACE) or queue is None or not is_type_0(event, session):
        return
    if event.nsid == 0 and event.lbacir == WHOLE_NAMESPACE:
        return
    known = session.namespaces.attached(session.controller(queue.target).function, event.nsid)
    if known is Known.UNKNOWN or elsewhere(session, event.owner):
        yield not_observable("the capture does not show which namespaces are attached to the logged controller", event)
        return
    yield expect(
        known is Known.YES,
        f"{place(event)} names namespace {event.nsid}, which is not attached to controller {queue.target}", event,
    )  # fmt: skip


def elsewhere(session: Session, function: int) -> bool:
    """Whether a controller of the subsystem may be managed through a link that this one does not show."""
    ports = session.of_function(function).limit("CMIC")
    if ports is not None and ports & 1:
        return True
    for cntlid in session.all_identifiers or ():
        one = session.identifiers.get(cntlid)
        if one is None or (one.function is None and one.mmc() is not Known.NO):
            return True
    return False


@rule("HMLM-NCS.5.6-n8", spec="NVM Command Set 1.2, 5.6", party="controller")
def range_beyond_namespace(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """A range ends within its namespace.

    There is nothing behind the end that could have changed.

    Holds::

        0us identify function=01:00.1 cdw10=0 nsid=1
            data raw=128
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1 nsid=1 slba=120 nlb=7

    Breaks::

        0us identify function=01:00.0 cdw10=0 nsid=1
            data raw=128
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1 nsid=1 slba=120 nlb=8

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1 nsid=1 slba=120 nlb=8
    """
    queue = session.live_queue(event.owner, event.cdqid)
    if event.lbacir != RANGE or queue is None or not is_type_0(event, session):
        return
    blocks = session.namespaces.size(event.nsid, session.controller(queue.target).function, event.owner)
    if blocks is None or elsewhere(session, event.owner):
        yield not_observable("the capture does not show the size of the namespace", event)
        return
    yield expect(
        event.slba + event.nlb < blocks,
        f"{place(event)} names blocks {event.slba} to {event.slba + event.nlb} of namespace {event.nsid}, which has "
        f"{blocks}", event,
    )  # fmt: skip
