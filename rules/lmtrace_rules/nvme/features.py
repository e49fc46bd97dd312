"""nvme-checklist G17: the values of features, what is set and what is returned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.events import FeatureCommand, GetFeatures, SetFeatures
from lmtrace.rule import Broken, Verdict, broken, column_rule, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import Controller, Session
from lmtrace.spec.admin_data import (
    FEATURE_BYTES,
    HOST_BEHAVIOR_DATA,
    TIMESTAMP_DATA,
    Select,
)
from lmtrace.spec.nvme import INVALID_FIELD, Admin, Feature
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.feature_refusals import NAMED_BY_OAES

SECTION = "G17 Set / Get Features"
PROFILE = ("nvme", "features")
VALUES: dict[int, int] = {
    Feature.ARBITRATION: 0xFFFFFF07, Feature.TEMPERATURE_THRESHOLD: 0xFFFF, Feature.ERROR_RECOVERY: 0x1FFFF,
    Feature.VOLATILE_WRITE_CACHE: 1, Feature.INTERRUPT_COALESCING: 0xFFFF,
    Feature.INTERRUPT_VECTOR_CONFIGURATION: 0x10000, Feature.WRITE_ATOMICITY: 1,
    Feature.AUTONOMOUS_POWER_STATES: 1, Feature.HOST_THERMAL_MANAGEMENT: 0xFFFFFFFF,
    Feature.NON_OPERATIONAL_POWER_STATES: 1, Feature.NAMESPACE_WRITE_PROTECTION: 7,
    Feature.SOFTWARE_PROGRESS_MARKER: 0xFF,
}  # fmt: skip
"""Bits of CDW11 that Get Features returns as they were set; others round, are what there is, or move by themselves."""
CRITICAL_WARNINGS = 0x1F
DATA = (Feature.AUTONOMOUS_POWER_STATES, Feature.HOST_IDENTIFIER)
"""Features whose data are returned as they were set."""
EVERY_SENSOR, POWER_STATE = 0xF, 0x1F
MS, HOST_CLOCK, SLACK_MS, DRIFT = 10**9, 1, 1000, 0.01
"""ps in a ms; TO of a timestamp that Set Features set; how far a clock may be off, fixed and by time."""
TIMESTAMP_RANGE = 1 << 48
LARGEST_TLP = 4096
"""Bytes of payload that one TLP carries at most (PCIe Base 5.0, 2.2.2)."""
WIDE_IDENTIFIER = 1
"""CTRATT bit 0: host identifiers of 128 bits; CDW11.EXHID asks for one."""


def _compared(command: GetFeatures, controller: Controller) -> int:
    """Return the bits of a feature's value that must be those that were set."""
    cdw11 = command.field("CDW11")
    if command.fid == Feature.TEMPERATURE_THRESHOLD and cdw11 >> 16 & EVERY_SENSOR:
        return 0  # sensors that there are not
    if command.fid == Feature.ASYNC_EVENT_CONFIGURATION:
        return CRITICAL_WARNINGS | NAMED_BY_OAES & (controller.limit("OAES") or 0)
    return VALUES.get(command.fid, 0)


@rule("NVM21-5.1.25-n5", spec="NVMe Base 2.1, 5.1.11 and 5.1.25", party="controller", severity="warning")
def other_value_returned(command: GetFeatures, session: Session) -> Iterator[Verdict]:
    """Get Features returns the current value as the last successful Set Features left it.

    Only values are compared that nothing but Set Features and a reset changes.

    Holds::

        1us set_features fid=6 cdw11=1
        2us get_features fid=6 dw0=1

    Holds::

        1us set_features fid=0x81
            data raw=0x1234 size=8
        2us get_features fid=0x81
            data raw=0x1234 size=8

    Breaks::

        1us set_features fid=6 cdw11=1
        2us get_features fid=6 dw0=0

    Breaks::

        1us set_features fid=0x81
            data raw=0x1234 size=8
        2us get_features fid=0x81
            data raw=0x1235 size=8

    Silent::

        1us set_features fid=6 cdw11=1
        2us reset
        3us get_features fid=6 dw0=0

    Silent::

        1us set_features fid=6 cdw11=1
        2us set_features fid=6 cdw11=0 status=0/06h
        3us set_features fid=6 cdw11=0 fetch=4us
        5us get_features fid=6 fetch=3500ns dw0=0

    Silent::

        1us set_features fid=6 cdw11=1
        2us get_features fid=6 sel=1 dw0=0

    Silent::

        1us set_features fid=5 nsid=1 cdw11=0x10000
        2us get_features fid=5 nsid=2 dw0=0

    Silent::

        1us set_features fid=8 cdw11=0x0105 status=none
        2us get_features fid=8 dw0=0
    """
    if command.select != Select.CURRENT or not command.succeeded:
        return
    controller = session.of_function(command.function)
    bits = _compared(command, controller)
    if not bits and command.fid not in DATA:
        return
    setting = controller.administration.setting(command)
    if setting is None:
        yield not_observable("the capture does not show what was set last", command)
        return
    given, got = setting.field("CDW11") & bits, command.dw0 & bits
    if given != got:
        yield broken(f"feature {command.fid:02X}h returned {got:X}h where {given:X}h was set", command)
        return
    if command.fid in DATA and setting.data is not None and command.data is not None:
        place = setting.data.differs(command.data)
        text = f"byte {place} of feature {command.fid:02X}h is not as it was set"
        yield expect(place is None, text, command)
    elif bits:
        yield held(command)


@rule("NVM21-5.1.25.2.1-n1", spec="NVMe Base 2.1, 5.1.25.2.1", party="controller", severity="warning")
def allocated_queues_changed(command: FeatureCommand, session: Session) -> Iterator[Verdict]:
    """The number of queues that a controller allocated stays the same until it is reset.

    It may be more or less than was asked for.

    Holds::

        1us set_features fid=7 cdw11=0x00070007 dw0=0x00030003
        2us get_features fid=7 dw0=0x00030003

    Breaks::

        1us set_features fid=7 cdw11=0x00070007 dw0=0x00030003
        2us get_features fid=7 dw0=0x00070007

    Breaks::

        1us set_features fid=7 cdw11=0x00070007 dw0=0x00030003
        2us set_features fid=7 cdw11=0x00010001 dw0=0x00010001

    Silent::

        1us get_features fid=7 dw0=0x00070007
        2us set_features fid=7 cdw11=0x00010001 dw0=0x00010001

    Silent::

        1us set_features fid=7 cdw11=0x00070007 dw0=0x00030003
        2us reset
        3us set_features fid=7 cdw11=0x00070007 dw0=0x00070007

    Silent::

        1us set_features fid=7 cdw11=0x00070007 dw0=0x00030003
        2us get_features fid=7 sel=1 dw0=0x00070007
    """
    if command.fid != Feature.NUMBER_OF_QUEUES or not command.succeeded:
        return
    first = session.of_function(command.function).administration.allocated
    current = not isinstance(command, GetFeatures) or command.select == Select.CURRENT
    if first is not None and current and command.fetched > first.order:
        text = f"NSQA and NCQA are {command.dw0:X}h, they were {first.dw0:X}h"
        yield expect(command.dw0 == first.dw0, text, command)


@column_rule(
    "NVM21-5.1.25-n7", table="transactions",
    columns=(
        "function", "sqid", "opcode", "cdw10", "sct", "sc", "bytes_expected", "bytes_to_device", "bytes_from_device",
        "data_decoded",
    ),
    spec="NVMe Base 2.1, Figure 385", party="controller", local=False,
)  # fmt: skip
def feature_of_other_length(batch: pa.RecordBatch) -> Broken:
    """Set Features and Get Features move exactly the data that the feature has.

    What is missing was left in the host's buffer as it was, or not taken; what is too much belongs to somebody else.
    Less than a TLP carries may have been lost by the recorder, and a controller may read what it likes twice, or not
    at all, which is only warned of. Over fabrics the buffer may be filled up, so that nothing is judged there.

    Holds::

        1us transactions function=1 opcode=10 cdw10=14 sct=0 sc=0 bytes_expected=8 bytes_from_device=8 data_decoded=yes

    Breaks::

        1us transactions function=1 opcode=10 cdw10=14 sct=0 sc=0 bytes_expected=8 bytes_from_device=16 data_decoded=yes

    Breaks::

        1us transactions function=1 opcode=10 cdw10=14 sct=0 sc=0 bytes_expected=8 bytes_from_device=4 data_decoded=yes

    Silent::

        1us transactions function=1 opcode=10 cdw10=14 sct=0 sc=2 bytes_expected=8 bytes_from_device=0 data_decoded=yes

    Silent::

        1us transactions function=1 opcode=9 cdw10=192 sct=0 sc=0 bytes_from_device=8 data_decoded=yes
    """
    admin = (numbers(batch, "sqid") == 0) & there(batch, "function")
    if not admin.any():
        return Broken(0, np.zeros(0, np.int64), str)
    opcode, feature = numbers(batch, "opcode"), numbers(batch, "cdw10") & 0xFF
    told = np.isin(feature, np.array([*FEATURE_BYTES, Feature.HOST_MEMORY_BUFFER, Feature.HOST_IDENTIFIER]))
    done = there(batch, "sct", "sc", "bytes_expected") & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    applies = (
        admin & np.isin(opcode, (Admin.SET_FEATURES, Admin.GET_FEATURES)) & told & done
        & (numbers(batch, "data_decoded") != 0) & (numbers(batch, "bytes_expected") > 0)
    )  # fmt: skip
    expected = numbers(batch, "bytes_expected").astype(np.int64)
    moved = (numbers(batch, "bytes_to_device") + numbers(batch, "bytes_from_device")).astype(np.int64)
    answer = found(
        applies, moved != expected,
        lambda row: f"{moved[row]:,} bytes moved of feature {feature[row]:02X}h, which has {expected[row]:,}",
    )  # fmt: skip
    certain = (moved > expected) & (opcode == Admin.GET_FEATURES)
    return replace(answer, severity=lambda row: "error" if certain[row] else "warning")


@rule("NVM21-5.1.25.1.14-n1", spec="NVMe Base 2.1, 5.1.25.1.14", party="controller", severity="info")
def reserved_behavior_refused(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """Host behaviors that a controller does not know are no reason to refuse those it knows.

    A host of a later version says more about itself than the controller can use.

    Holds::

        1us set_features fid=0x16
            data acre=1 raw=0xff at=64

    Breaks::

        1us set_features fid=0x16 status=0/02h
            data acre=1 raw=0xff at=64

    Silent::

        1us set_features fid=0x16 status=0/02h
            data acre=1
    """
    if command.fid != Feature.HOST_BEHAVIOR_SUPPORT or not command.completed or command.data is None:
        return
    more = command.data.reserved_bits(HOST_BEHAVIOR_DATA)
    if more or command.succeeded:
        text = f"host behavior was refused with {command.status}, whose byte {more[0] // 8 if more else 0} is reserved"
        yield expect(command.status != INVALID_FIELD, text, command)


def _stamp(command: FeatureCommand, name: str) -> int | None:
    return None if command.data is None else command.data.field(TIMESTAMP_DATA, name)


@rule("NVM21-5.1.25-n9", spec="NVMe Base 2.1, 5.1.25.1.7", party="controller", severity="warning")
def timestamp_went_back(command: GetFeatures, session: Session) -> Iterator[Verdict]:
    """The timestamp goes on from what was set, at the pace of time.

    Clocks of a capture and of a device differ, so that how fast it goes is no more than an information.

    Holds::

        1ms set_features fid=0x0e
            data tstmp=1000000
        3ms get_features fid=0x0e
            data tstmp=1000002 to=1

    Breaks::

        1ms set_features fid=0x0e
            data tstmp=1000000
        3ms get_features fid=0x0e
            data tstmp=999998 to=1

    Breaks::

        1ms set_features fid=0x0e
            data tstmp=1000000
        3ms get_features fid=0x0e
            data tstmp=9000000 to=1

    Silent::

        1ms set_features fid=0x0e
            data tstmp=1000000
        2ms reset
        3ms get_features fid=0x0e
            data tstmp=7

    Silent::

        1ms set_features fid=0x0e
            data tstmp=1000000
        8000ms get_features fid=0x0e
            data tstmp=1000002 to=1 synch=1
    """
    if command.fid != Feature.TIMESTAMP or command.select != Select.CURRENT or not command.succeeded:
        return
    setting = session.of_function(command.function).administration.setting(command)
    now, origin, stopped = (_stamp(command, name) for name in ("TSTMP", "TO", "SYNCH"))
    given = None if setting is None else _stamp(setting, "TSTMP")
    if setting is None or given is None or now is None or origin is None:
        yield not_observable("the capture does not show what timestamp was set last", command)
        return
    gone = now - given
    if given + (command.time - setting.time) // MS + SLACK_MS >= TIMESTAMP_RANGE:
        return
    if gone < 0:
        yield broken(f"the timestamp is {now} ms, after {given} ms was set", command)
        return
    passed = (command.time - setting.fetch_time) / MS
    off = gone - passed
    late = off < 0 and stopped
    text = f"the timestamp went on by {gone} ms in {passed:.0f} ms"
    yield expect(bool(late) or abs(off) <= SLACK_MS + DRIFT * passed, text, command, "info")


@rule("NVM21-5.1.25-n10", spec="NVMe Base 2.1, 5.1.25.1.2", party="controller", severity="info")
def other_power_state(command: GetFeatures, session: Session) -> Iterator[Verdict]:
    """A controller is in the power state that was set.

    It may have gone on by itself where that is enabled, so that this is an information.

    Holds::

        1us set_features fid=2 cdw11=1
        2us get_features fid=2 dw0=1

    Breaks::

        1us set_features fid=2 cdw11=1
        2us get_features fid=2 dw0=0

    Silent::

        1us set_features fid=2 cdw11=1
        2us set_features fid=2 cdw11=3 status=0/02h
        3us get_features fid=2 dw0=1

    Silent::

        1us set_features fid=0x0c cdw11=1
        2us set_features fid=2 cdw11=1
        3us get_features fid=2 dw0=3
    """
    if command.fid != Feature.POWER_MANAGEMENT or command.select != Select.CURRENT or not command.succeeded:
        return
    administration = session.of_function(command.function).administration
    moves = administration.settings.get((Feature.AUTONOMOUS_POWER_STATES, 0))
    setting = administration.setting(command)
    if setting is not None and not (moves and moves[-1].field("CDW11") & 1):
        given, now = setting.field("CDW11") & POWER_STATE, command.dw0 & POWER_STATE
        yield expect(now == given, f"the power state is {now}, {given} was set", command)


@rule("NVM21-5.1.25-n11", spec="NVMe Base 2.1, 5.1.25.1.4", party="host", severity="warning")
def absent_write_cache_set(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A host sets the volatile write cache only where there is one.

    Whoever takes the setting for a promise loses data, or speed.

    Holds::

        1us identify_controller
            data vwc=1
        2us set_features fid=6 cdw11=1

    Breaks::

        1us identify_controller
            data vwc=0
        2us set_features fid=6 cdw11=1 status=0/02h

    Silent::

        2us set_features fid=6 cdw11=1
    """
    if command.fid == Feature.VOLATILE_WRITE_CACHE:
        cache = session.of_function(command.function).limit("VWC")
        if cache is None:
            yield not_observable("the capture does not show whether there is a volatile write cache", command)
        else:
            yield expect(bool(cache & 1), "the controller has no volatile write cache", command)


not_a_rule(
    "NVM21-5.1.25-n12",
    "DN leaves AWUPF alone in force, and both speak of what a command leaves behind that power loss or another command "
    "beside it cut; neither shows on the link, where every block that was written whole holds what was written",
)


@rule("NVM21-5.1.25-n13", spec="NVMe Base 2.1, 5.1.25.1.28", party="host", severity="warning")
def host_identifier_changed(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A host identifier that is not 0 stays until the controller is reset, and has 128 bits only where there are such.

    Reservations are those of the host with the identifier.

    Holds::

        1us set_features fid=0x81
            data raw=0x1234 size=8

    Breaks::

        1us set_features fid=0x81
            data raw=0x1234 size=8
        2us set_features fid=0x81 status=0/0ch
            data raw=0x1235 size=8

    Breaks::

        1us identify_controller
            data ctratt=0
        2us set_features fid=0x81 cdw11=1 status=0/02h
            data raw=0x1234 size=16

    Silent::

        1us set_features fid=0x81
            data raw=0x1234 size=8
        2us set_features fid=0x81
            data raw=0x1234 size=8

    Silent::

        1us set_features fid=0x81
            data raw=0x1234 size=8
        2us reset
        3us set_features fid=0x81
            data raw=0x1235 size=8
    """
    if command.fid != Feature.HOST_IDENTIFIER:
        return
    controller, wide = session.of_function(command.function), command.field("CDW11") & 1
    attributes = controller.limit("CTRATT")
    if wide and attributes is not None and not attributes & WIDE_IDENTIFIER:
        yield broken("a host identifier of 128 bits was set, which the controller does not have", command)
        return
    before = [
        one for key in ((command.fid, 0), (command.fid, 1))
        for one in controller.administration.settings.get(key, ())
        if one is not command and one.succeeded and one.order < command.fetched
    ]  # fmt: skip
    for one in before:
        given, now = (None if each.data is None else each.data.bytes(0, 8) for each in (one, command))
        if given is not None and now is not None and any(given) and given != now:
            yield broken("the host identifier was changed, which was not 0", command)
            return
    yield held(command)
