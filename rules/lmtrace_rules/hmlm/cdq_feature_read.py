"""hmlm 6.5: feature 21h as Get Features returns it."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetFeaturesCdq
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, rule
from lmtrace.session import DataQueue, Session
from lmtrace.spec.migration import CDQ_FEATURE_DATA
from lmtrace_rules.hmlm.cdq_feature import (
    CURRENT,
    FEATURE_BYTES,
    alone,
)

SECTION = "6.5 Feature 21h and asynchronous events"
PROFILE = "cdq"
PHASE = ("track", "pre-copy")


@rule("HMLM-5.1.25.1.23-n8", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller")
def wrong_head_told(command: GetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """Get Features tells the head and the trigger that were last accepted.

    A host that lost them would otherwise read from the wrong slot on.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=4
        5us get_features_cdq cdqid=3 dw0=0x80000003
            data raw=0x0000000400000000 size=512

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us set_features_cdq cdqid=3 hp=1
        5us get_features_cdq cdqid=3 dw0=3
            data raw=0 size=512

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us get_features_cdq cdqid=3 dw0=4

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us get_features_cdq cdqid=3 dw0=3
            data raw=1 at=300 size=512

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us get_features_cdq cdqid=3 dw0=3 bytes_from_device=8
            data raw=0 size=8

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us get_features_cdq cdqid=3 dw0=3
            data raw=0 size=8

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        5us get_features_cdq cdqid=3 dw0=3
            data raw=0 size=512

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us get_features_cdq cdqid=3 dw0=3 fetch=3us
            data raw=0 size=512
        6us set_features_cdq cdqid=3 hp=1 fetch=4us
    """
    queue = session.live_queue(command.function, command.cdqid)
    if (
        not command.succeeded
        or command.field("SELECT") != CURRENT
        or queue is None
        or session.cdq_exists(command.function, command.cdqid, command) is not Known.YES
    ):
        return
    wrong = list(_wrong_parts(command, queue, alone(command, queue, session)))
    if not wrong and 0 < command.bytes_from_device < FEATURE_BYTES:
        yield broken(f"{command.title} returned {command.bytes_from_device} of {FEATURE_BYTES} bytes", command, "info")
        return
    yield expect(not wrong, f"{command.title} told of {queue.title}: {', '.join(wrong)}", command)


def _wrong_parts(command: GetFeaturesCdq, queue: DataQueue, settled: bool) -> Iterator[str]:
    """Name what differs; the head and the trigger are judged only where no Set Features was under way."""
    armed = command.dw0 >> 31
    if command.dw0 & 0xFFFF != command.cdqid or command.dw0 >> 16 & 0x7FFF:
        yield f"DW0 {command.dw0:08X}h"
    if settled and queue.trigger is None and armed:
        yield "ETPT 1, which nothing set"
    if settled and queue.trigger is not None and not queue.trigger.possible and not queue.trigger.reports and not armed:
        yield f"ETPT 0 though slot {queue.trigger.slot} was not posted since ETPT was set"
    if command.data is None:
        return
    head, slot = (command.data.field(CDQ_FEATURE_DATA, name) for name in ("HP", "TPT"))
    if settled and None not in (head, queue.head) and head != queue.head:
        yield f"HP {head} rather than {queue.head}"
    if slot is not None and not armed and slot:
        yield f"TPT {slot} with ETPT 0"
    if slot is not None and armed and settled and queue.trigger is not None and slot != queue.trigger.slot:
        yield f"TPT {slot} rather than {queue.trigger.slot}"
    if any(any(command.data.data[max(first, CDQ_FEATURE_DATA.size) : end]) for first, end in command.data.ranges):
        yield "reserved bytes that are not 0"


@rule("HMLM-5.1.25.1.23-n11", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller")
def trigger_still_set(command: GetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """A tail pointer trigger is gone once its event was generated.

    A host that finds it set waits for an event that it already has.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
        6us get_features_cdq cdqid=3 dw0=3

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
        6us get_features_cdq cdqid=3 dw0=0x80000003

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
        5us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=4
        6us get_features_cdq cdqid=3 dw0=0x80000003
    """
    queue = session.live_queue(command.function, command.cdqid)
    trigger = None if queue is None else queue.trigger
    if (
        queue is None
        or trigger is None
        or not command.succeeded
        or command.field("SELECT") != CURRENT
        or not trigger.reports
        or trigger.reported_order > command.fetched
        or trigger.doubtful
        or not alone(command, queue, session)
    ):
        return
    yield expect(
        not command.dw0 >> 31, f"{command.title} told ETPT 1 for {queue.title} after the event of its trigger", command
    )  # fmt: skip
