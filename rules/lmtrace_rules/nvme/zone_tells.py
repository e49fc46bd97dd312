"""nvme-checklist G23: what Identify and the Changed Zone List tell of zones."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetLogPage, Identify
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import Cns, CommandSet
from lmtrace.spec.zones import (
    CHANGED_ZONE_LIST,
    MOST_FORMATS,
    ZONE_CHANGED,
    ZONED_FORMAT,
    ZONED_FORMATS,
    ZONED_NAMESPACE,
)

SECTION = "G23 Zoned namespaces"
PROFILE = ("nvme", "zones")


@rule("NVM21-Z4.1.3-n1", spec="ZNS Command Set 1.2, 4.1.5.1", party="controller", severity="warning", local=True)
def zone_limits_impossible(command: Identify, session: Session) -> Iterator[Verdict]:
    """MOR is not greater than MAR, and the formats of a zoned namespace have zones of some size.

    Every open zone is an active one.

    Holds::

        1us identify cns=5 csi=2 nsid=1
            data raw=0x0000000200000004 at=4
            data raw=64 at=2816
            data raw=0 at=4095

    Breaks::

        1us identify cns=5 csi=2 nsid=1
            data raw=0x0000000400000002 at=4
            data raw=64 at=2816
            data raw=0 at=4095

    Breaks::

        1us identify cns=5 csi=2 nsid=1
            data raw=0x0000000200000004 at=4
            data raw=0 at=4095

    Silent::

        1us identify cns=5 csi=1 nsid=1
            data raw=0x0000000400000002 at=4

    Silent::

        1us identify cns=5 csi=2 nsid=1
    """
    if command.cns != Cns.IO_NAMESPACE or command.field("CSI") != CommandSet.ZONED or not command.succeeded:
        return
    data = command.data
    active = None if data is None else data.field(ZONED_NAMESPACE, "MAR")
    opened = None if data is None else data.field(ZONED_NAMESPACE, "MOR")
    if data is None or active is None or opened is None:
        yield not_observable("MAR and MOR were not seen", command)
        return
    if opened > active:
        yield broken(f"MOR is {opened} and MAR is {active}", command)
        return
    places = [ZONED_FORMATS + ZONED_FORMAT.size * number for number in range(MOST_FORMATS)]
    sizes = [data.field(ZONED_FORMAT, "ZSZE", place) for place in places]
    if None not in sizes and not any(sizes):
        yield broken("ZSZE of every format is 0", command)
    else:
        yield held(command)


@rule("NVM21-Z4.1.2-n1", spec="ZNS Command Set 1.2, 4.1.2", party="controller", severity="warning")
def changed_zone_not_listed(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """After a Zone Descriptor Changed event the Changed Zone List names a zone.

    The host reads again only what is listed. Whether a zone changed by itself is seen in reports alone.

    Holds::

        2us command opc=0x0c dw0=0xbfef02 dw1=1
        3us get_log_page lid=0xbf nsid=1
            data raw=1
            data raw=64 at=8 size=4096

    Breaks::

        2us command opc=0x0c dw0=0xbfef02 dw1=1
        3us get_log_page lid=0xbf nsid=1
            data raw=0 size=4096

    Silent::

        2us command opc=0x0c dw0=0xbfef02 dw1=1
        3us get_log_page lid=0xbf nsid=2
            data raw=0 size=4096

    Silent::

        3us get_log_page lid=0xbf nsid=1
            data raw=0 size=4096

    Silent::

        2us command opc=0x0c dw0=0xbfef02 dw1=1
        3us get_log_page lid=0xbf nsid=1
            data raw=1
            data raw=64 at=8 size=4096
        4us get_log_page lid=0xbf nsid=1
            data raw=0 size=4096
    """
    if command.lid != CHANGED_ZONE_LIST or command.failed or not command.succeeded:
        return
    event = session.of_function(command.function).events.notices.get(ZONE_CHANGED)
    if event is None or event.order > command.fetched or event.dw1 != command.field("NSID"):
        return
    head = None if command.data is None else command.data.bytes(0, 2)
    if head is None:
        yield not_observable("the Changed Zone List was not seen", command)
        return
    count = int.from_bytes(head, "little")
    yield expect(count > 0, "the Changed Zone List is empty after an event that tells of it", command)
