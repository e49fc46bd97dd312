"""nvme-checklist G05: what properties and features are after a reset, and what a controller does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from lmtrace.events import GetFeatures, PropertyAccess
from lmtrace.rule import Broken, Verdict, answered_by, column_rule, expect, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.administration import setting_key
from lmtrace.session.registers import Registers, Seen, known_as
from lmtrace.spec.admin_data import Select
from lmtrace.spec.nvme import Feature, Property
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.features import VALUES

SECTION = "G05 Reset behaviour"
PROFILE = ("nvme", "reset")

CONTROLLER_RESET, FUNCTION_RESET, SUBSYSTEM_RESET = "CC.EN cleared", "FLR", "NSSR"
ADMIN_QUEUES: dict[int, int] = {
    Property.AQA: 0x0FFF0FFF, Property.ASQ: 0xFFFFF000, Property.ASQ + 4: 0xFFFFFFFF, Property.ACQ: 0xFFFFF000,
    Property.ACQ + 4: 0xFFFFFFFF,
}  # fmt: skip
"""The dwords that say where the admin queues are, with the bits of them that are not reserved."""
BUFFER_PLACE: dict[int, int] = {Property.CMBMSC: 0xFFFFF003, Property.CMBMSC + 4: 0xFFFFFFFF}
REGION_CONTROL: dict[int, int] = {
    Property.PMRCTL: 1, Property.PMREBS: 0xFFFFFFFF, Property.PMRSWTP: 0xFFFFFFFF, Property.PMRMSCL: 0xFFFFF002,
    Property.PMRMSCU: 0xFFFFFFFF,
}  # fmt: skip
CAP_NSSRS, CAP_PMRS, CAP_CMBS = 1 << 36, 1 << 56, 1 << 57
OUTLIVES_RESETS = (Feature.NAMESPACE_WRITE_PROTECTION, Feature.SOFTWARE_PROGRESS_MARKER)
"""Features whose current value is kept, or moves by itself."""


def _shown(event: PropertyAccess, session: Session) -> list[tuple[int, int]]:
    """Return the (offset, value) of the dwords that a read shows, none where it may show something else."""
    place, value = known_as(event), event.value
    if event.write or place is None or value is None or event.completion != 0 or event.overtaken:
        return []
    offset, size = place
    if session.registers.bytes_turned or value == (1 << 8 * size) - 1:
        return []
    return [(offset + step, value >> 8 * step & 0xFFFFFFFF) for step in range(0, size, 4)]


def _name(place: int) -> str:
    """Return the name of the property that a dword is of."""
    return Property(place if place in Property.__members__.values() else place - 4).name


def _before(registers: Registers, place: int) -> Seen | None:
    """Return what a dword was when its controller was last reset, None where it was written since, or is not known."""
    seen, reset = registers.latest(place), registers.last_reset
    if seen is None or reset is None or reset.inferred or seen.order > reset.order:
        return None
    return seen


def _kept(event: PropertyAccess, session: Session, dwords: dict[int, int], *resets: str) -> Iterator[Verdict]:
    """Judge the first read of dwords behind a reset that leaves them as they were."""
    registers = session.registers.of(event.function)
    reset = registers.last_reset
    if reset is None or reset.how not in resets:
        return
    for place, value in _shown(event, session):
        seen = _before(registers, place) if place in dwords else None
        if seen is not None:
            was, now = seen.value & dwords[place], value & dwords[place]
            text = f"{_name(place)} (offset {place:X}h) is {now:X}h after the reset ({reset.how}), it was {was:X}h"
            yield expect(was == now, text, event)


def _cleared(event: PropertyAccess, session: Session, dwords: dict[int, int]) -> Iterator[Verdict]:
    """Judge a read of dwords that a reset sets to 0, once the controller was seen not to be ready behind it."""
    registers = session.registers.of(event.function)
    reset = registers.last_reset
    if reset is None or reset.inferred or not registers.statuses or registers.statuses[-1].value & 1:
        return
    for place, value in _shown(event, session):
        written = registers.written.get(place)
        if place not in dwords or (written is not None and written.order > reset.order):
            continue
        left = value & dwords[place]
        yield expect(not left, f"{_name(place)} (offset {place:X}h) is {left:X}h after the reset ({reset.how})", event)


@rule("NVM21-3.7.2-n3", spec="NVMe Base 2.1, 3.7.2", party="controller", severity="warning")
def admin_queues_lost(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """AQA, ASQ and ACQ outlive a Controller Reset.

    A host may enable the controller again without writing them.

    Holds::

        1us property_access property=AQA write=yes value=0x1f001f
        2us reset
        3us property_access property=AQA value=0x1f001f

    Breaks::

        1us property_access property=ASQ write=yes value=0x120000000
        2us reset
        3us property_access property=ASQ value=0

    Breaks::

        1us property_access property=AQA value=0x1f001f
        2us reset
        3us property_access property=AQA value=0x0f001f

    Silent::

        1us property_access property=AQA write=yes value=0x1f001f
        2us reset
        3us property_access property=AQA write=yes value=0x0f000f
        4us property_access property=AQA value=0x0f000f

    Silent::

        1us property_access property=AQA write=yes value=0x1f001f
        2us reset how=FLR
        3us property_access property=AQA value=0

    Silent::

        1us property_access property=AQA write=yes value=0x1f001f
        2us reset how="behaved as reset"
        3us property_access property=AQA value=0

    Silent::

        1us property_access property=AQA write=yes value=0x1f001f
        2us reset
        3us property_access property=AQA value=0xffffffff
    """
    yield from _kept(event, session, ADMIN_QUEUES, CONTROLLER_RESET)


@rule("NVM21-3.7.2-n4", spec="NVMe Base 2.1, 3.7.2", party="controller", severity="warning")
def admin_queues_kept(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """AQA, ASQ and ACQ read as 0 after a Function Level Reset.

    They are judged once RDY was read as 0: until then the reset may be under way.

    Holds::

        1us property_access property=AQA write=yes value=0x1f001f
        2us reset how=FLR
        3us property_access property=CSTS value=0
        4us property_access property=AQA value=0

    Breaks::

        1us property_access property=ASQ write=yes value=0x120000000
        2us reset how=FLR
        3us property_access property=CSTS value=0
        4us property_access property=ASQ value=0x120000000

    Silent::

        1us property_access property=AQA write=yes value=0x1f001f
        2us reset how=FLR
        4us property_access property=AQA value=0x1f001f

    Silent::

        2us reset how=FLR
        3us property_access property=CSTS value=0
        4us property_access property=AQA write=yes value=0x1f001f
        5us property_access property=AQA value=0x1f001f
    """
    reset = session.registers.of(event.function).last_reset
    if reset is not None and reset.how == FUNCTION_RESET:
        yield from _cleared(event, session, ADMIN_QUEUES)


@rule("NVM21-3.7.2-n5", spec="NVMe Base 2.1, 3.7.2", party="controller", severity="warning")
def memory_properties_lost(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """CMBMSC outlives Controller Reset and Function Level Reset, and the properties of the PMR a Controller Reset.

    The host may go on using the memory.

    Holds::

        1us property_access property=CAP value=0x200000000000000
        2us property_access property=CMBMSC write=yes value=0x500000003
        3us reset
        4us property_access property=CMBMSC value=0x500000003

    Breaks::

        1us property_access property=CAP value=0x200000000000000
        2us property_access property=CMBMSC write=yes value=0x500000003
        3us reset how=FLR
        4us property_access property=CMBMSC value=0

    Breaks::

        1us property_access property=CAP value=0x100000000000000
        2us property_access property=PMRCTL write=yes value=1
        3us reset
        4us property_access property=PMRCTL value=0

    Silent::

        1us property_access property=CAP value=0x100000000000000
        2us property_access property=PMRCTL write=yes value=1
        3us reset how=FLR
        4us property_access property=PMRCTL value=0

    Silent::

        2us property_access property=PMRCTL write=yes value=1
        3us reset
        4us property_access property=PMRCTL value=0
    """
    capabilities = session.registers.of(event.function).constant(Property.CAP)
    if capabilities is None:
        return
    if capabilities & CAP_CMBS:
        yield from _kept(event, session, BUFFER_PLACE, CONTROLLER_RESET, FUNCTION_RESET)
    if capabilities & CAP_PMRS:
        yield from _kept(event, session, REGION_CONTROL, CONTROLLER_RESET)


@rule("NVM21-3.7.2-n6", spec="NVMe Base 2.1, 3.7.2 and 5.1.25", party="controller", severity="warning")
def feature_outlived_reset(command: GetFeatures, session: Session) -> Iterator[Verdict]:
    """After a reset a feature has its saved value.

    That of a feature that cannot be saved is its default. Only features are judged that nothing but Set Features
    changes, and of which a command told the saved value, or saved one.

    Holds::

        1us get_features fid=1 sel=2 dw0=3
        2us set_features fid=1 cdw11=5
        3us reset
        4us get_features fid=1 dw0=3

    Holds::

        2us set_features fid=1 cdw11=5 sv=1
        3us reset
        4us get_features fid=1 dw0=5

    Breaks::

        1us get_features fid=1 sel=2 dw0=3
        2us set_features fid=1 cdw11=5
        3us reset
        4us get_features fid=1 dw0=5

    Breaks::

        2us set_features fid=1 cdw11=5 sv=1
        3us reset
        4us get_features fid=1 dw0=0

    Silent::

        2us set_features fid=1 cdw11=5
        3us reset
        4us get_features fid=1 dw0=5

    Silent::

        1us get_features fid=1 sel=2 dw0=3
        3us reset
        4us set_features fid=1 cdw11=5
        5us get_features fid=1 dw0=5

    Silent::

        1us get_features fid=1 sel=2 dw0=3
        2us set_features fid=1 cdw11=5 sv=1 status=none
        3us reset
        5us get_features fid=1 dw0=5

    Silent::

        1us get_features fid=1 sel=2 dw0=3
        3us reset how="behaved as reset"
        5us get_features fid=1 dw0=5
    """
    controller = session.of_function(command.function)
    administration, key = controller.administration, setting_key(command)
    bits = 0 if command.fid in OUTLIVES_RESETS else VALUES.get(command.fid, 0)
    if command.select != Select.CURRENT or not command.succeeded or not bits or not controller.reset_orders:
        return
    if controller.reset_uncertain or command.fetched < controller.reset_orders[-1]:
        return
    if any(key in one.administration.settings for one in session.functions.values()):
        return
    saved = administration.saved.get(key)
    if saved is None:
        yield not_observable("the capture does not show the saved value", command)
        return
    wanted = (saved.dw0 if isinstance(saved, GetFeatures) else saved.field("CDW11")) & bits
    got = command.dw0 & bits
    text = f"feature {command.fid:02X}h is {got:X}h after the reset, its saved value is {wanted:X}h"
    yield expect(got == wanted, text, command)


@rule("NVM21-3.7.1-n1", spec="NVMe Base 2.1, 3.7.1 and 3.7.2", party="controller", severity="warning")
def properties_outlived_subsystem_reset(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """An NVM Subsystem Reset sets CC, AQA, ASQ and ACQ of every controller to 0.

    They are judged once RDY was read as 0 behind it.

    Holds::

        1us property_access property=CAP value=0x1000000000
        2us property_access property=AQA write=yes value=0x1f001f
        3us reset how=NSSR
        4us property_access property=CSTS value=0x10
        5us property_access property=AQA value=0

    Breaks::

        1us property_access property=CAP value=0x1000000000
        2us property_access property=CC write=yes value=0x460001
        3us reset how=NSSR function=01:00.1
        4us property_access property=CSTS value=0x10
        5us property_access property=CC value=0x460000

    Silent::

        2us property_access property=CC write=yes value=0x460001
        3us reset how=NSSR
        4us property_access property=CSTS value=0x10
        5us property_access property=CC value=0x460000

    Silent::

        1us property_access property=CAP value=0x1000000000
        3us reset how=NSSR
        4us property_access property=CSTS value=0x10
        5us property_access property=CC write=yes value=0x460000
        6us property_access property=CC value=0x460000
    """
    registers = session.registers.of(event.function)
    capabilities, reset = registers.constant(Property.CAP), registers.last_reset
    if reset is not None and reset.how == SUBSYSTEM_RESET and capabilities is not None and capabilities & CAP_NSSRS:
        yield from _cleared(event, session, ADMIN_QUEUES | {Property.CC: 0xFFFFFFFF})


@column_rule(
    "NVM21-3.7.2-n1", table="quiet_periods", columns=("function", "requests", "writes", "address"),
    spec="NVMe Base 2.1, 3.7.2", party="controller", local=False,
)  # fmt: skip
def request_of_reset_controller(batch: pa.RecordBatch) -> Broken:
    """A controller that was disabled, and says that it is not ready, neither reads nor writes host memory.

    The host has taken its queues and buffers back when RDY is 0. Reads that may have been passed by the answer that
    showed RDY do not count, nor does anything while a boot partition may be read.

    Holds::

        1us quiet_periods function=01:00.0 requests=0 writes=0

    Breaks::

        1us quiet_periods function=01:00.0 requests=2 writes=2 address=0x10000

    Breaks::

        1us quiet_periods function=01:00.0 requests=1 writes=0 address=0x10000
    """
    requests, writes = numbers(batch, "requests"), numbers(batch, "writes")
    function, address = numbers(batch, "function"), numbers(batch, "address")
    return found(
        there(batch, "requests"), requests != 0,
        lambda row: f"{bdf_text(int(function[row]))} sent {requests[row] - writes[row]:,} reads and {writes[row]:,} "
        f"writes while it was disabled and not ready, the first to {int(address[row]):X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-8.2.5-n1", table="transactions", columns=("sqid", "cid", "sct", "sc", "dnr"), spec="NVMe Base 2.1, 8.2.5",
    party="controller", severity="info",
)  # fmt: skip
def power_loss_not_to_be_retried(batch: pa.RecordBatch) -> Broken:
    """A command that a power loss ended may be sent again.

    Nothing is wrong with the command itself.

    Holds::

        1us transactions sqid=1 cid=5 sct=0 sc=5 dnr=no

    Breaks::

        1us transactions sqid=1 cid=5 sct=0 sc=5 dnr=yes

    Silent::

        1us transactions sqid=1 cid=5 sct=0 sc=2 dnr=yes
    """
    sqid, cid = numbers(batch, "sqid"), numbers(batch, "cid")
    mine = there(batch, "sct", "sc", "dnr") & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 5)
    return found(
        mine, numbers(batch, "dnr") != 0,
        lambda row: f"CID {cid[row]} of SQ {sqid[row]} was aborted for a power loss, and is not to be retried",
    )  # fmt: skip


@column_rule(
    "PCIE-6.6.1-n1", table="function_resets", columns=("function", "how", "shown", "kept"),
    spec="PCIe Base 5.0, 6.6.1 and 6.6.2", party="controller", local=False,
)  # fmt: skip
def configuration_outlived_reset(batch: pa.RecordBatch) -> Broken:
    """After a reset of its function, or of the subsystem, BAR0 and Bus Master Enable are 0 and MSI-X is disabled.

    The function would decode addresses, and write to memory, that the host has not given to it yet. Only what the
    host reads before it writes there tells.

    Holds::

        1us function_resets function=01:00.0 how=FLR shown=2

    Breaks::

        1us function_resets function=01:00.0 how=FLR shown=2 kept=BAR0

    Breaks::

        1us function_resets function=01:00.0 how=NSSR shown=1 kept="Bus Master Enable"

    Silent::

        1us function_resets function=01:00.0 how=FLR shown=0
    """
    function, kept, how = numbers(batch, "function"), batch.column("kept"), batch.column("how")
    return found(
        numbers(batch, "shown") != 0, there(batch, "kept"),
        lambda row: f"{kept[row].as_py()} of {bdf_text(int(function[row]))} was not reset ({how[row].as_py()})",
    )  # fmt: skip


@column_rule(
    "PCIE-6.6.2-n2", table="function_resets", columns=("function", "how", "answered", "stale"),
    spec="PCIe Base 5.0, 6.6.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def request_of_before_reset_answered(batch: pa.RecordBatch) -> Broken:
    """What was asked of a function before its reset is answered before the reset is over, or never.

    A host that has given up waiting has the tag in use again. The reset is over when configuration reads succeed.

    Holds::

        1us function_resets function=01:00.0 how=FLR answered=yes stale=0

    Breaks::

        1us function_resets function=01:00.0 how=FLR answered=yes stale=1

    Silent::

        1us function_resets function=01:00.0 how=FLR answered=no stale=0
    """
    function, stale = numbers(batch, "function"), numbers(batch, "stale")
    return found(
        words(batch, "how", (FUNCTION_RESET,)) & (numbers(batch, "answered") != 0), stale != 0,
        lambda row: f"{bdf_text(int(function[row]))} answered {stale[row]:,} requests of before its reset behind it",
    )  # fmt: skip


answered_by(
    "NVM21-3.7.2-n2", "NVM21-3.3.1.2-n17", "NVM21-3.7.2-n10", "NVM21-T3.1.2.1-n1",
    reason="a queue that outlives the reset is fetched from or posted to, and its doorbells are those of no queue",
)  # fmt: skip
answered_by(
    "NVM21-3.7.2-n7", "NVM21-3.7.2-n10", "NVM21-4.2.1-n3",
    reason="its completion comes to the queue of before, or to the one that was created since, where no command has "
    "its name",
)  # fmt: skip
answered_by(
    "NVM21-3.7.2-n8", "NVM21-4.2.1-n1", "NVM21-4.2.4-n1",
    reason="of a queue whose creation was seen the slot and the phase of the first entry are known",
)  # fmt: skip
answered_by(
    "NVM21-3.7.3-n1", "NVM21-4.2.1-n1", "NVM21-4.2.4-n1", "NVM21-3.3.1.2-n16",
    reason="of a queue that is created anew the slot and the phase of the first entry are known, and entries that are "
    "looked for elsewhere are never fetched",
)  # fmt: skip
