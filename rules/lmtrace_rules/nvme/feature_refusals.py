"""nvme-checklist G17: what Set Features and Get Features are refused for."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import FeatureCommand, GetFeatures, SetFeatures
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import (
    BROADCAST,
    CHANGEABLE,
    NAMESPACE_SPECIFIC,
    SAVEABLE,
    UNIQUE_TO_VENDOR,
    Lid,
    Select,
    reserved_feature,
)
from lmtrace.spec.nvme import (
    FEATURE_NOT_CHANGEABLE,
    FEATURE_NOT_SAVEABLE,
    INVALID_FIELD,
    Feature,
)
from lmtrace_rules.nvme.versions import by_version

SECTION = "G17 Set / Get Features"
PROFILE = ("nvme", "features")
OF_CONTROLLER = frozenset((
    Feature.ARBITRATION, Feature.POWER_MANAGEMENT, Feature.TEMPERATURE_THRESHOLD, Feature.VOLATILE_WRITE_CACHE,
    Feature.NUMBER_OF_QUEUES, Feature.INTERRUPT_COALESCING, Feature.INTERRUPT_VECTOR_CONFIGURATION,
    Feature.WRITE_ATOMICITY, Feature.ASYNC_EVENT_CONFIGURATION, Feature.AUTONOMOUS_POWER_STATES,
    Feature.HOST_MEMORY_BUFFER, Feature.TIMESTAMP, Feature.KEEP_ALIVE_TIMER, Feature.HOST_THERMAL_MANAGEMENT,
    Feature.NON_OPERATIONAL_POWER_STATES, Feature.HOST_BEHAVIOR_SUPPORT, Feature.SOFTWARE_PROGRESS_MARKER,
    Feature.HOST_IDENTIFIER,
))  # fmt: skip
NAMED_BY_OAES = 0x8800FB00
"""Bits of AEC and of OAES that stand for the same event."""
SELECTS = 1 << 4
"""ONCS: Set Features takes SV, and Get Features takes SEL."""
EVERY_QUEUE = 0xFFFF


def selects(session: Session, function: int) -> Known:
    """Whether a controller takes SV and SEL."""
    optional = session.of_function(function).limit("ONCS")
    return Known.of(None if optional is None else bool(optional & SELECTS))


@rule("NVM21-5.1.25-n1", spec="NVMe Base 2.1, 5.1.25 and Figure 385", party="controller")
def unknown_feature_accepted(command: SetFeatures | GetFeatures, session: Session) -> Iterator[Verdict]:
    """A feature that is reserved, or that the controller lists as not supported, is refused with Invalid Field.

    A host would believe in a setting that nothing obeys. A code of a version that lmtrace does not know is only warned
    of, and so is what contradicts the log page, which may be what is wrong.

    Holds::

        1us set_features fid=0x42 status=0/02h

    Breaks::

        1us get_features fid=0x42

    Breaks::

        1us get_log_page lid=0x12
            data raw=0 size=1024
        2us set_features fid=6 cdw11=1

    Breaks::

        1us set_features fid=0x42 status=1/0eh

    Silent::

        1us get_features fid=0xc0

    Silent::

        1us get_log_page lid=0x12
            data raw=1 at=24 size=1024
        2us set_features fid=6 cdw11=1
    """
    if not command.completed:
        return
    controller = session.of_function(command.function)
    reserved, listed = reserved_feature(command.fid), None
    page = controller.administration.pages.get((Lid.FEATURES_SUPPORTED, 0))
    if page is not None and not page.field("UIDX") and not command.field("UIDX"):
        raw = page.part(4 * command.fid, 4 * command.fid + 1)
        listed = None if raw is None or page.order < controller.administration.changed_order else bool(raw[0] & 1)
    if not reserved and listed is not False:
        return
    what = "is reserved" if reserved else "is not supported by the log of features"
    if command.succeeded:
        text = f"feature {command.fid:02X}h {what}, and {command.title} succeeded"
        yield broken(text, command, by_version(controller) if reserved else "warning")
    else:
        text = f"feature {command.fid:02X}h {what}, and the command was refused with {command.status}"
        yield expect(command.status == INVALID_FIELD, text, command, "info")


@rule("NVM21-5.1.25-n2", spec="NVMe Base 2.1, 5.1.25", party="controller")
def unsaveable_feature_saved(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A feature that the controller says it can't save is not saved.

    A host would expect the value to outlive a power cycle.

    Holds::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=6 sel=3 dw0=4
        3us set_features fid=6 sv=1 cdw11=1 status=1/0dh

    Breaks::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=6 sel=3 dw0=4
        3us set_features fid=6 sv=1 cdw11=1

    Silent::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=6 sel=3 dw0=5
        3us set_features fid=6 sv=1 cdw11=1

    Silent::

        1us identify_controller
            data oncs=0
        2us get_features fid=6 sel=3 dw0=0
        3us set_features fid=6 sv=1 cdw11=1
    """
    if not command.completed or not command.saves or selects(session, command.function) is not Known.YES:
        return
    told = session.of_function(command.function).administration.capability(command.fid, SAVEABLE)
    if told is Known.NO:
        yield expect(command.failed, f"feature {command.fid:02X}h was saved, which it says it can't be", command)
    elif told is Known.UNKNOWN:
        yield not_observable("the capture does not show whether the feature can be saved", command)


@rule("NVM21-5.1.25-n3", spec="NVMe Base 2.1, 5.1.25", party="controller")
def fixed_feature_changed(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A feature that the controller says can't be changed is not changed.

    A host would believe in a setting that nothing obeys.

    Holds::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=1 sel=3 dw0=0
        3us set_features fid=1 cdw11=1 status=1/0eh

    Breaks::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=1 sel=3 dw0=0
        3us set_features fid=1 cdw11=1

    Silent::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=1 sel=3 dw0=4
        3us set_features fid=1 cdw11=1

    Silent::

        2us get_features fid=1 sel=3 dw0=0
        3us set_features fid=1 cdw11=1
    """
    if not command.completed or selects(session, command.function) is not Known.YES:
        return
    told = session.of_function(command.function).administration.capability(command.fid, CHANGEABLE)
    if told is Known.NO:
        yield expect(command.failed, f"feature {command.fid:02X}h was set, which it says it can't be", command)


@rule("NVM21-5.1.25-n4", spec="NVMe Base 2.1, 5.1.25 and Figure 385", party="controller", severity="warning")
def namespace_of_controller_feature(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A feature of the controller is not set for one namespace.

    A host would believe that the other namespaces keep theirs.

    Holds::

        1us set_features fid=6 nsid=1 cdw11=1 status=1/0fh

    Breaks::

        1us set_features fid=6 nsid=1 cdw11=1

    Silent::

        1us set_features fid=6 nsid=0xffffffff cdw11=1

    Silent::

        1us set_features fid=5 nsid=1 cdw11=1

    Silent::

        1us get_features fid=6 sel=3 dw0=6
        2us set_features fid=6 nsid=1 cdw11=1
    """
    nsid = command.field("NSID")
    if not command.completed or command.fid not in OF_CONTROLLER or nsid in (0, BROADCAST):
        return
    told = session.of_function(command.function).administration.capability(command.fid, NAMESPACE_SPECIFIC)
    if told is not Known.YES:
        text = f"feature {command.fid:02X}h of the controller was set for namespace {nsid:X}h"
        yield expect(command.failed, text, command)


@rule(
    "NVM21-5.1.25.1.5-n1", spec="NVMe Base 2.1, 5.1.25.1.5 and Figure 312", party="controller", severity="info"
)  # fmt: skip
def unsupported_events_enabled(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """Events that OAES does not name are not enabled.

    A host would wait for what never comes.

    Holds::

        1us identify_controller
            data oaes=0x100
        2us set_features fid=0x0b cdw11=0x11f

    Breaks::

        1us identify_controller
            data oaes=0x100
        2us set_features fid=0x0b cdw11=0x300

    Silent::

        2us set_features fid=0x0b cdw11=0x300
    """
    if command.fid != Feature.ASYNC_EVENT_CONFIGURATION or not command.completed:
        return
    events = session.of_function(command.function).limit("OAES")
    if events is None:
        yield not_observable("the capture does not show which events the controller has", command)
        return
    more = command.field("CDW11") & NAMED_BY_OAES & ~events
    text = f"AEC {command.field('CDW11'):X}h was taken, of which OAES {events:X}h lacks {more:X}h"
    yield expect(not more or command.failed, text, command)


@rule("NVM21-5.1.25.2.1-n2", spec="NVMe Base 2.1, 5.1.25.2.1", party="host")
def too_many_queues_asked_for(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A host does not ask for 65,536 queues.

    The value is reserved. A host that only tries it, and is refused, is not accused.

    Holds::

        1us set_features fid=7 cdw11=0x00030003 dw0=0x00030003

    Breaks::

        1us set_features fid=7 cdw11=0xffff0003 dw0=0x00030003

    Breaks::

        1us set_features fid=7 cdw11=0x0003ffff status=0/02h
    """
    if command.fid != Feature.NUMBER_OF_QUEUES:
        return
    asked = command.field("CDW11")
    wrong = EVERY_QUEUE in (asked & 0xFFFF, asked >> 16)
    text = f"NSQR {asked & 0xFFFF:X}h and NCQR {asked >> 16:X}h were asked for, FFFFh is reserved"
    yield expect(not wrong, text, command, None if command.succeeded else "info")


@rule("NVM21-5.1.25.2.1-n3", spec="NVMe Base 2.1, 5.1.25.2.1", party="host", severity="info")
def queues_negotiated_late(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """The number of queues is set before there are any I/O queues.

    Holds where none was there when the command was fetched.

    Holds::

        1us set_features fid=7 cdw11=0x00030003 dw0=0x00030003

    Breaks::

        1us queue_created qid=1
        2us set_features fid=7 cdw11=0x00030003 status=0/0ch

    Silent::

        0us midway
        2us set_features fid=7 cdw11=0x00030003 dw0=0x00030003
    """
    if command.fid != Feature.NUMBER_OF_QUEUES:
        return
    there = session.of_function(command.function).io_queues.at(command.fetched)
    if there is Known.UNKNOWN:
        yield not_observable("the capture does not show which I/O queues there were", command)
    else:
        yield expect(there is Known.NO, "the number of queues was set when I/O queues were there", command)


@rule("NVM21-5.1.25-n6", spec="NVMe Base 2.1, 5.1.11 and Figure 196", party="controller", severity="info")
def capabilities_contradicted(command: SetFeatures | GetFeatures, session: Session) -> Iterator[Verdict]:
    """What a feature says it can is what Set Features shows it can.

    A host goes by what it says.

    Holds::

        1us identify_controller
            data oncs=0x10
        2us set_features fid=6 cdw11=1
        3us get_features fid=6 sel=3 dw0=4

    Breaks::

        1us identify_controller
            data oncs=0x10
        2us set_features fid=6 cdw11=1
        3us get_features fid=6 sel=3 dw0=0

    Breaks::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=6 sel=3 dw0=0xf

    Breaks::

        1us identify_controller
            data oncs=0x10
        2us get_features fid=6 sel=3 dw0=5
        3us set_features fid=6 sv=1 status=1/0dh

    Silent::

        2us set_features fid=6 cdw11=1
        3us get_features fid=6 sel=3 dw0=0
    """
    if selects(session, command.function) is not Known.YES or command.fid >= UNIQUE_TO_VENDOR:
        return
    administration = session.of_function(command.function).administration
    if isinstance(command, SetFeatures):
        saves = administration.capability(command.fid, SAVEABLE)
        changes = administration.capability(command.fid, CHANGEABLE)
        if saves is Known.YES and command.status == FEATURE_NOT_SAVEABLE:
            yield broken(f"feature {command.fid:02X}h can't be saved, which it says it can be", command)
        if changes is Known.YES and command.status == FEATURE_NOT_CHANGEABLE:
            yield broken(f"feature {command.fid:02X}h can't be changed, which it says it can be", command)
        return
    if command.select != Select.SUPPORTED_CAPABILITIES or not command.succeeded:
        return
    before, told = administration.capabilities.get(command.fid), command.dw0
    wrong = "reserved bits are set" if told >> 3 else ""
    for shown, bit, word in (
        (before and before.saves, SAVEABLE, "saved"), (before and before.changes, CHANGEABLE, "changed"),
    ):  # fmt: skip
        if shown is not None and shown != bool(told & bit):
            wrong = f"a value was {'' if shown else 'not '}{word}"
    yield expect(not wrong, f"feature {command.fid:02X}h tells capabilities {told:X}h, but {wrong}", command)


@rule("NVM21-5.1.25-n8", spec="NVM Command Set 1.2, 4.1.3.1", party="controller")
def range_types_of_all_namespaces(command: FeatureCommand, session: Session) -> Iterator[Verdict]:
    """LBA range types are those of one namespace.

    Ranges that fit one namespace may lie beyond the end of another.

    Holds::

        1us set_features fid=3 nsid=0xffffffff status=0/02h

    Breaks::

        1us set_features fid=3 nsid=0xffffffff

    Silent::

        1us set_features fid=3 nsid=1

    Silent::

        1us get_features fid=3 sel=3 nsid=0xffffffff
    """
    if command.fid != Feature.LBA_RANGE_TYPE or command.field("NSID") != BROADCAST or not command.completed:
        return
    if isinstance(command, GetFeatures) and command.select == Select.SUPPORTED_CAPABILITIES:
        return
    yield expect(command.failed, f"{command.title} succeeded for NSID FFFFFFFFh", command)


# -- vectors ----------------------------------------------------------------------------------------------------


def _without_queue(command: SetFeatures, session: Session) -> bool | None:
    """Whether no I/O CQ had the vector all the time of a command; None where not all were known."""
    vector, controller = command.field("CDW11") & 0xFFFF, session.of_function(command.function)
    before, after = controller.administration.vectors.get(command.fetched), controller.vectors()
    return None if before is None or after is None else vector not in before and vector not in after


@rule("NVM21-5.1.25.2.3-n2", spec="NVMe over PCIe Transport 1.2", party="controller", severity="warning")
def vector_without_queue_configured(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """An interrupt vector that no I/O completion queue has is not configured.

    What becomes of the setting when a queue takes the vector is not told.

    Holds::

        1us queue_created kind=CQ qid=1 vector=1
        2us set_features fid=9 cdw11=2 status=0/02h

    Breaks::

        1us queue_created kind=CQ qid=1 vector=1
        2us set_features fid=9 cdw11=0x10002

    Silent::

        1us queue_created kind=CQ qid=1 vector=1
        2us set_features fid=9 cdw11=0x10001

    Silent::

        0us midway
        2us set_features fid=9 cdw11=0x10002
    """
    if command.fid != Feature.INTERRUPT_VECTOR_CONFIGURATION or not command.completed:
        return
    wrong = _without_queue(command, session)
    if wrong is None:
        yield not_observable("the capture does not show which I/O completion queues there are", command)
    elif wrong:
        vector = command.field("CDW11") & 0xFFFF
        yield expect(command.failed, f"vector {vector}, which no I/O completion queue has, was configured", command)


@rule("NVM21-5.1.25.2.3-n3", spec="NVMe over PCIe Transport 1.2", party="host", severity="warning")
def vector_configured_early(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A host configures an interrupt vector after it created an I/O completion queue with it.

    Before that the controller refuses.

    Holds::

        1us queue_created kind=CQ qid=1 vector=1
        2us set_features fid=9 cdw11=0x10001

    Breaks::

        2us set_features fid=9 cdw11=0x10001 status=0/02h

    Silent::

        0us midway
        2us set_features fid=9 cdw11=0x10001 status=0/02h
    """
    if command.fid != Feature.INTERRUPT_VECTOR_CONFIGURATION:
        return
    wrong = _without_queue(command, session)
    if wrong is None:
        yield not_observable("the capture does not show which I/O completion queues there are", command)
    else:
        vector = command.field("CDW11") & 0xFFFF
        text = f"vector {vector} was configured, which no I/O completion queue has"
        yield expect(not wrong, text, command)
