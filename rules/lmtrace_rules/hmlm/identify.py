"""hmlm 6.2: what Identify data say about live migration, in themselves and of one subsystem."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, EndOfCapture, IdentifyController, IdentifyStateFormats
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Controller, Session
from lmtrace.spec.nvme import Admin, Feature
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.hmlm.data_queues import same_subsystem

SECTION = "6.2 Capability and Identify"
PROFILE = "identify"
PHASE = "prepare"
THMCS, TUDCS, TRATTR_RESERVED = 1 << 0, 1 << 1, 0xF8
RESERVED_BYTE = 577
IDENTIFY_SIZE = 4096
FEATURES_LOG, FEATURES_LOG_SIZE = 0x12, 1024
SUPPORTED, SCOPE, DATA_QUEUE_SCOPE = 1, 0xFFF << 20, 1 << 26
BY_INDEX = 1 << 23
"""CDW14.OT of Get Log Page: the offset counts structures rather than bytes."""


def manages(controller: Controller, session: Session) -> Known:
    """Whether a controller is an MMC: HMLMS is set, and it is shown that it is no secondary controller."""
    known = controller.mmc()
    if known is Known.YES and controller.virtual is Known.UNKNOWN:
        listed = controller.cntlid in session.lists.secondaries
        return Known.of(True if session.lists.secondaries_whole and not listed else None)
    return known


def _values(command: IdentifyController, session: Session, *names: str) -> dict[str, int] | None:
    """Return fields of Identify Controller data; None where one was not seen, or where the same was said before."""
    found = {name: command.value(name) for name in names}
    if not command.succeeded or any(value is None for value in found.values()):
        return None
    before = session.of_function(command.function).identity
    if before is not None and all(before.value(name) == value for name, value in found.items()):
        return None
    return {name: value for name, value in found.items() if value is not None}


def _text(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {value:X}h" for name, value in values.items())


# -- one subsystem ----------------------------------------------------------------------------------------------


@rule("HMLM-5.1.13.2.1-n2", spec="NVMe Base 2.1, 5.1.13.2.1", party="controller", local=True)
def secondary_controller_claims_management(event: EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A secondary controller does not claim Host Managed Live Migration Support.

    It belongs to a tenant, who could suspend and read other tenants' controllers with it.

    Holds::

        1us identify_controller function=01:00.1
            data oacs=0x100 cntlid=1
        9us end_of_capture

    Breaks::

        1us identify_controller function=01:00.1
            data oacs=0x900 cntlid=1
        2us identify_controller function=01:00.1
            data oacs=0x900 cntlid=1
        9us end_of_capture

    Silent::

        1us identify_controller
            data oacs=0x800
        9us end_of_capture

    Silent::

        0us midway
        1us identify_controller function=01:00.1
            data oacs=0x800 cntlid=1
        9us end_of_capture
    """
    for controller in session.functions.values():
        identity = controller.identity
        if identity is None or controller.hmlms is Known.UNKNOWN or controller.virtual is Known.NO:
            continue
        if controller.virtual is Known.YES:
            yield expect(
                controller.hmlms is Known.NO,
                f"{bdf_text(identity.function)} is a secondary controller and claims HMLMS, OACS "
                f"{identity.value('OACS') or 0:X}h",
                identity,
            )  # fmt: skip
        elif manages(controller, session) is Known.UNKNOWN:
            yield not_observable("the capture does not show whether the controller is a secondary one", identity)


@rule("HMLM-5.1.13.2.1-n3", spec="NVMe Base 2.1, 5.1.13.2.1 and 8.1.12", party="controller")
def host_memory_buffer_beside_management(event: EndOfCapture, session: Session) -> Iterator[Verdict]:
    """No controller of a subsystem that has an MMC asks for a Host Memory Buffer.

    What a controller keeps in its host's memory is in no Controller State.

    Holds::

        1us identify_controller
            data oacs=0x800
        9us end_of_capture

    Breaks::

        1us identify_controller
            data oacs=0x800
        2us identify_controller function=01:00.1
            data cntlid=1 hmpre=16
        9us end_of_capture

    Silent::

        2us identify_controller function=01:00.1
            data cntlid=1 hmpre=16
        3us identify_controller
            data oacs=0
        9us end_of_capture

    Silent::

        0us midway
        1us identify_controller function=01:00.2
            data oacs=0x800 cntlid=2
        2us identify_controller function=01:00.1
            data cntlid=1 hmpre=16
        9us end_of_capture
    """
    managers = [one for one in session.functions.values() if one.identity is not None and one.mmc() is Known.YES]
    for controller in session.functions.values():
        identity = controller.identity
        size = None if identity is None else identity.value("HMPRE")
        if identity is None or size is None or not managers:
            continue
        known = Known.any(
            manages(one, session) & same_subsystem(session, one.function or 0, identity.function) for one in managers
        )
        if known is Known.YES:
            yield expect(
                size == 0,
                f"{bdf_text(identity.function)} asks for a Host Memory Buffer, HMPRE {size:X}h, in a subsystem that "
                "has an MMC",
                identity,
            )  # fmt: skip
        elif known is Known.UNKNOWN and size:
            yield not_observable("the capture does not show whether the subsystem has an MMC", identity)


# -- the data themselves ----------------------------------------------------------------------------------------


@rule("HMLM-5.1.13.2.1-n4", spec="NVMe Base 2.1, Figure 312", party="controller", local=True)
def tracking_limits_without_tracking(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """A controller that does not track memory changes has no limits for it.

    A host that goes by the limits alone would ask for what is not there.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=2

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 cmmrtd=16

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=3 cmmrtd=16 nmmrtd=16 maxmrtg=4
    """
    values = _values(command, session, "TRATTR", "CMMRTD", "NMMRTD", "MINMRTG", "MAXMRTG")
    if values is not None and not values.pop("TRATTR") & THMCS:
        wrong = {name: value for name, value in values.items() if value}
        yield expect(not wrong, f"{bdf_text(command.function)} has {_text(wrong)} without THMCS", command)


@rule("HMLM-5.1.13.2.1-n5", spec="NVMe Base 2.1, Figure 312", party="controller", local=True)
def queue_limits_without_logging(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """A controller that does not log user data changes has no limits for its queues.

    A host that goes by the limits alone would ask for what is not there.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=0

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=0 mcudmq=4

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=4 mnsudmq=4
    """
    values = _values(command, session, "TRATTR", "MCUDMQ", "MNSUDMQ")
    if values is not None and not values.pop("TRATTR") & TUDCS:
        wrong = {name: value for name, value in values.items() if value}
        yield expect(not wrong, f"{bdf_text(command.function)} has {_text(wrong)} without TUDCS", command)


@rule("HMLM-5.1.13.2.1-n6", spec="NVMe Base 2.1, Figure 312", party="controller", local=True)
def migration_attributes_malformed(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """Reserved attributes are 0, and the subsystem takes at least the memory ranges that one queue may have.

    A host that plans by these limits would be refused.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=2 mcmr=2 nmcmr=4

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 mcmr=4 nmcmr=2

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=0x82

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcmr=0 nmcmr=2

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcmr=1 nmcmr=0
    """
    # 0 stands for a limit that is not told, and what is not told is not below anything.
    values = _values(command, session, "TRATTR", "MCMR", "NMCMR")
    spare = None if command.data is None else command.data.bytes(RESERVED_BYTE, RESERVED_BYTE + 1)
    if values is None or spare is None:
        return
    where = bdf_text(command.function)
    if values["TRATTR"] & TRATTR_RESERVED or spare != b"\0":
        yield broken(f"{where} has reserved bits set: TRATTR {values['TRATTR']:02X}h, byte 577 {spare.hex()}h", command)
    else:
        ok = values["NMCMR"] >= values["MCMR"] or not values["NMCMR"]
        yield expect(ok, f"{where} has NMCMR {values['NMCMR']} below MCMR {values['MCMR']}", command)


@rule("HMLM-5.1.13.2.1-n7", spec="NVMe Base 2.1, Figure 312", party="controller", severity="info", local=True)
def tracking_limits_contradict(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """The limits of memory tracking leave something that can be tracked.

    With none, or with a smallest granularity above the largest, every request is refused.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=16 nmmrtd=32 minmrtg=0 maxmrtg=4

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=16 nmmrtd=8 minmrtg=0 maxmrtg=4

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=16 nmmrtd=16 minmrtg=5 maxmrtg=4

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=0
    """
    values = _values(command, session, "TRATTR", "CMMRTD", "NMMRTD", "MINMRTG", "MAXMRTG")
    if values is not None and values.pop("TRATTR") & THMCS:
        ok = values["MINMRTG"] <= values["MAXMRTG"] and 0 < values["CMMRTD"] <= values["NMMRTD"]
        yield expect(ok, f"{bdf_text(command.function)} has THMCS with {_text(values)}", command)


@rule("HMLM-5.1.13.2.1-n8", spec="NVMe Base 2.1, Figure 312", party="controller", severity="info", local=True)
def queue_limits_contradict(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """A controller that logs user data changes may have at least one queue, and no more than its subsystem.

    With none it could log nothing.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=2 mnsudmq=4

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=0 mnsudmq=0

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=4 mnsudmq=2

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=0
    """
    values = _values(command, session, "TRATTR", "MCUDMQ", "MNSUDMQ")
    if values is None or not values.pop("TRATTR") & TUDCS:
        return
    if session.of_function(command.function).virtual is Known.YES and command.hmlms:
        # That it claims to manage at all is the one thing wrong with it.
        return
    ok = 0 < values["MCUDMQ"] <= values["MNSUDMQ"]
    yield expect(ok, f"{bdf_text(command.function)} has TUDCS with {_text(values)}", command)


# -- Supported Controller State Formats -------------------------------------------------------------------------


@rule("HMLM-5.1.13.2.21-n1", spec="NVMe Base 2.1, Figure 329", party="controller", severity="warning", local=True)
def formats_do_not_fit(command: IdentifyStateFormats, session: Session) -> Iterator[Verdict]:
    """The version list and the UUID list fit into the data of Identify, and zeroes follow them.

    A host reads the lists by their counts.

    Holds::

        1us identify_state_formats
            data nv=1 nuuid=2

    Holds::

        1us identify_state_formats
            data nv=1 nuuid=0 size=4

    Breaks::

        1us identify_state_formats
            data nv=200 nuuid=250

    Breaks::

        1us identify_state_formats
            data nv=0 nuuid=0 version=7

    Silent::

        1us identify_state_formats status=0/02h
    """
    if not command.succeeded or command.data is None or command.versions is None or command.uuids is None:
        return
    size = 2 + 2 * command.versions + 16 * command.uuids
    counts = f"NV {command.versions} and NUUID {command.uuids}"
    if size > IDENTIFY_SIZE:
        yield broken(f"{counts} need {size} bytes, more than the {IDENTIFY_SIZE} of Identify data", command)
        return
    for first, end in command.data.ranges:
        tail = command.data.data[max(first, size) : min(end, IDENTIFY_SIZE)]
        if any(tail):
            yield broken(f"{counts} end at byte {size}, behind which the data are not 0", command, "info")
            return
    yield held(command)


@rule("HMLM-5.1.13.2.21-n2", spec="NVMe Base 2.1, Figure 359", party="controller", severity="info", local=True)
def unknown_state_version(command: IdentifyStateFormats, session: Session) -> Iterator[Verdict]:
    """The versions of the NVMe Controller State structure that a controller lists are defined ones.

    lmtrace reads version 0, the only one of the specification that it knows.

    Holds::

        1us identify_state_formats
            data nv=1 version=0

    Breaks::

        1us identify_state_formats
            data nv=1 version=1

    Silent::

        1us identify_state_formats
            data nv=0
    """
    if not command.succeeded or command.data is None or not command.versions:
        return
    raw = command.data.bytes(2, 2 + 2 * command.versions)
    if raw is not None:
        found = [int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw), 2)]
        strange = ", ".join(f"{version:04X}h at CSVI {index}" for index, version in enumerate(found, 1) if version)
        yield expect(not strange, f"{bdf_text(command.function)} lists state version {strange}", command)


# -- the scope of feature 21h -----------------------------------------------------------------------------------


@rule("HMLM-5.1.12.1.18-n1", spec="NVMe Base 2.1, Figures 261 and 385", party="controller", severity="info", local=True)
def data_queue_feature_misplaced(command: Command, session: Session) -> Iterator[Verdict]:
    """Where the supported features are listed, feature 21h has the scope of a controller data queue, or none is told.

    A host that took it for a feature of the controller would set the heads of all queues at once.

    Holds::

        1us command opc=2 cdw10=0x00ff0012
            data size=1024 at=132 raw=0x04000001

    Breaks::

        1us command opc=2 cdw10=0x00ff0012
            data size=1024 at=132 raw=0x00200001

    Silent::

        1us command opc=2 cdw10=0x00ff0012
            data size=1024

    Silent::

        1us command opc=2 cdw10=0x00ff0012 status=1/09h
    """
    if command.sqid or command.opcode != Admin.GET_LOG_PAGE or command.sqe[40] != FEATURES_LOG:
        return
    if not command.succeeded or command.data is None or command.field("CDW14") & BY_INDEX:
        return
    place = 4 * Feature.CONTROLLER_DATA_QUEUE - (command.field("CDW13") << 32 | command.field("CDW12"))
    raw = command.data.bytes(place, place + 4) if place >= 0 else None
    if raw is None or not int.from_bytes(raw, "little") & SUPPORTED:
        return
    scope = int.from_bytes(raw, "little") & SCOPE
    yield expect(
        scope in (0, DATA_QUEUE_SCOPE), f"{bdf_text(command.function)} lists feature 21h with FSP {scope >> 20:03X}h",
        command,
    )  # fmt: skip
