"""nvme-checklist G16: what Identify is asked for, and what a controller says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Identify, IdentifyController
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import reserved_cns
from lmtrace.spec.nvme import INVALID_FIELD
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.nvme.versions import by_version

SECTION = "G16 Identify and Get Log Page"
PROFILE = ("nvme", "identify")
SQE_LOG2, CQE_LOG2 = 6, 4
WITH_QUEUES = (0, 1)
"""CNTRLTYPE of a controller with I/O queues, or of one that does not tell."""
FIRST_TO_TELL = 0x00010200
"""VS of the first version with VER."""
NAMES = ("VID", "SN", "MN")
FIXED_BY_RESET, LIMITS = (*NAMES, "NN", "MNAN", "ONCS", "OACS"), ("MDTS", "AERL", "ACL")


# -- what is asked for ------------------------------------------------------------------------------------------


@rule("NVM21-5.1.13-n5", spec="NVMe Base 2.1, Figure 310", party="host")
def reserved_structure_asked_for(command: Identify, session: Session) -> Iterator[Verdict]:
    """A host asks for structures that there are.

    What a reserved CNS returns means nothing. A host that only tries it, and is refused, is not accused.

    Holds::

        1us identify cns=1

    Breaks::

        1us identify cns=0x77

    Breaks::

        1us identify cns=0x77 status=0/02h

    Silent::

        1us identify cns=0xc1
    """
    if not reserved_cns(command.cns):
        yield held(command)
        return
    severity = by_version(session.of_function(command.function)) if command.succeeded else "info"
    yield broken(f"Identify asked for CNS {command.cns:02X}h, which is reserved", command, severity)


@rule("NVM21-5.1.13-n6", spec="NVMe Base 2.1, 5.1.13", party="controller")
def reserved_structure_returned(command: Identify, session: Session) -> Iterator[Verdict]:
    """A reserved CNS is refused with Invalid Field.

    A host would read the data as what they are not. A CNS of a version that lmtrace does not know is only warned of.

    Holds::

        1us identify cns=0x77 status=0/02h

    Breaks::

        1us identify cns=0x77

    Breaks::

        1us identify cns=0x77 status=0/0bh

    Silent::

        1us identify cns=0xc1
    """
    if not reserved_cns(command.cns) or not command.completed:
        return
    if command.succeeded:
        severity = by_version(session.of_function(command.function))
        yield broken(f"Identify of CNS {command.cns:02X}h, which is reserved, succeeded", command, severity)
    else:
        text = f"CNS {command.cns:02X}h, which is reserved, was refused with {command.status}"
        yield expect(command.status == INVALID_FIELD, text, command, "info")


# -- what a controller says of itself ---------------------------------------------------------------------------


@rule("NVM21-5.1.13-n10", spec="NVMe Base 2.1, Figure 312", party="controller")
def other_vendor_than_configured(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """VID and SSVID are those of the configuration space.

    A host chooses its workarounds by them.

    Holds::

        0us function_config vendor_id=0x1b36 subsystem_vendor_id=0x1af4
        1us identify_controller
            data vid=0x1b36 ssvid=0x1af4

    Breaks::

        0us function_config vendor_id=0x1b36 subsystem_vendor_id=0x1af4
        1us identify_controller
            data vid=0x1b36 ssvid=0x1b36

    Breaks::

        0us function_config vendor_id=0x1b36
        1us identify_controller
            data vid=0x1b37

    Silent::

        1us identify_controller
            data vid=0x1b36
    """
    if not command.succeeded or command.over_fabrics:
        return
    config = session.of_function(command.function).config
    pairs = [] if config is None else [
        (name, command.value(name), configured)
        for name, configured in (("VID", config.vendor_id), ("SSVID", config.subsystem_vendor_id))
    ]  # fmt: skip
    known = [
        (name, told, configured) for name, told, configured in pairs if told is not None and configured is not None
    ]
    if not known:
        yield not_observable("the capture does not show the configuration space of the function", command)
        return
    wrong = next((one for one in known if one[1] != one[2]), None)
    text = "" if wrong is None else f"{wrong[0]} is {wrong[1]:04X}h, the configuration space has {wrong[2]:04X}h"
    yield expect(wrong is None, text, command)


@rule("NVM21-5.1.13-n11", spec="NVMe Base 2.1, Figure 312", party="controller")
def other_version_than_property(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """VER is the same as VS.

    A host takes either to know what the controller has. Some recorders turn the bytes of what is read from properties.

    Holds::

        0us property_access property=VS value=0x20100
        1us identify_controller
            data ver=0x20100

    Breaks::

        0us property_access property=VS value=0x20100
        1us identify_controller
            data ver=0x10400

    Silent::

        0us property_access property=VS value=0x10100
        1us identify_controller
            data ver=0

    Silent::

        0us property_access property=VS value=0x40100
        1us identify_controller
            data ver=0x10400

    Silent::

        1us identify_controller
            data ver=0x10400
    """
    version, told = session.of_function(command.function).administration.version, command.value("VER")
    if not command.succeeded or told is None:
        return
    if version is None:
        yield not_observable("the capture does not show VS", command)
    elif told.to_bytes(4, "little") == version.to_bytes(4, "big") != version.to_bytes(4, "little"):
        # A recorder that turned the bytes of a register is likelier than a controller that turns those of one.
        yield not_observable("the capture shows properties with their bytes turned", command)
    elif told or version >= FIRST_TO_TELL:
        yield expect(told == version, f"VER is {told:X}h, VS is {version:X}h", command)


def _same_subsystem(one: IdentifyController, two: IdentifyController) -> bool:
    """Whether two structures are of controllers of one subsystem: name, serial and model number are the same."""
    names = ("SN", "MN", "VID")
    alike = all(one.value(name) is not None and one.value(name) == two.value(name) for name in names)
    return alike and bool(one.subnqn) and one.subnqn == two.subnqn and bool(one.value("SN"))


@rule("NVM21-5.1.13-n12", spec="NVMe Base 2.1, Figure 312", party="controller")
def controller_identifier_changed(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """A controller keeps its CNTLID, and no other controller of its subsystem has the same.

    Commands about other controllers name them by it.

    Holds::

        1us identify_controller
            data cntlid=0
        2us identify_controller
            data cntlid=0

    Breaks::

        1us identify_controller
            data cntlid=0
        2us identify_controller
            data cntlid=5

    Breaks::

        1us identify_controller
            data cntlid=5 sn=0x31 mn=0x32 raw=0x6e716e at=768
        2us identify_controller function=01:00.1
            data cntlid=5 sn=0x31 mn=0x32 raw=0x6e716e at=768

    Silent::

        1us identify_controller
            data cntlid=0 sn=0x31
        2us identify_controller
            data cntlid=5 sn=0x32

    Silent::

        1us identify_controller
            data cntlid=5 sn=0x31 mn=0x32 raw=0x6e716e at=768
        2us identify_controller function=01:00.1
            data cntlid=5 sn=0x33 mn=0x32 raw=0x6e716e at=768
    """
    cntlid = command.value("CNTLID")
    if not command.succeeded or cntlid is None or command.over_fabrics:
        return
    before = session.of_function(command.function).identity
    same = before is not None and before.value("SN") == command.value("SN")
    earlier = before.value("CNTLID") if before is not None and same else None
    if earlier is not None and earlier != cntlid:
        yield broken(f"the CNTLID of {command.place} is {cntlid:X}h, it was {earlier:X}h", command)
        return
    for other in session.functions.values():
        identity = other.identity
        if identity is None or other.function == command.function or identity.value("CNTLID") != cntlid:
            continue
        if _same_subsystem(command, identity):
            text = f"{command.place} and {bdf_text(identity.function)} of one subsystem both have CNTLID {cntlid:X}h"
            yield broken(text, command)
            return
    yield held(command)


@rule("NVM21-5.1.13-n13", spec="NVMe Base 2.1, Figure 312", party="controller", local=True)
def entry_sizes_exclude_the_required(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """SQES and CQES rise from the required to the largest entry size, 64 and 16 bytes between them.

    A host takes the required sizes where it knows no better.

    Holds::

        1us identify_controller
            data sqes=0x66 cqes=0x44

    Breaks::

        1us identify_controller
            data sqes=0x56 cqes=0x44

    Breaks::

        1us identify_controller
            data sqes=0x66 cqes=0x55

    Silent::

        1us identify_controller
            data cntrltype=2
    """
    sizes, kind = [command.value(name) for name in ("SQES", "CQES")], command.value("CNTRLTYPE")
    if not command.succeeded or kind not in WITH_QUEUES or (command.over_fabrics and not any(sizes)):
        return  # discovery controllers of old have no type, and no I/O queues
    for name, size, needed in zip(("SQES", "CQES"), sizes, (SQE_LOG2, CQE_LOG2), strict=True):
        if size is not None:
            ok = size & 0xF <= needed <= size >> 4
            yield expect(ok, f"{name} is {size:02X}h, which leaves out {1 << needed} bytes", command)


def _changed(command: IdentifyController, session: Session, names: tuple[str, ...]) -> list[str] | None:
    """Return what changed of some fields since the latest Identify of the same life; None where there was none."""
    controller = session.of_function(command.function)
    before = controller.identity
    if not command.succeeded or before is None or before.order < controller.administration.changed_order:
        return None
    known = [
        (name, was, now) for name in names
        if (was := before.value(name)) is not None and (now := command.value(name)) is not None
    ]  # fmt: skip
    return [_change(*one) for one in known if one[1] != one[2]] if known else None


def _change(name: str, was: int, now: int) -> str:
    """Say what a field was and is: serial and model numbers as what they spell."""
    if name not in ("SN", "MN"):
        return f"{name} is {now:X}h, it was {was:X}h"
    spelt = [one.to_bytes(40, "little").decode("ascii", "replace").strip(" \0") for one in (was, now)]
    return f"{name} is {spelt[1]!r}, it was {spelt[0]!r}"


@rule("NVM21-5.1.13-n14", spec="NVMe Base 2.1, Figure 312", party="controller", severity="warning")
def abilities_changed(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """What a controller can, how many namespaces it can have, and what it is called stay the same until it is reset.

    A host asks once, and works by that.

    Holds::

        1us identify_controller
            data oncs=0x4 nn=8
        2us identify_controller
            data oncs=0x4 nn=8

    Breaks::

        1us identify_controller
            data oncs=0x4 nn=8
        2us identify_controller
            data oncs=0 nn=8

    Breaks::

        1us identify_controller
            data sn=0x31 mn=0x32
        2us identify_controller
            data sn=0x33 mn=0x32

    Silent::

        1us identify_controller
            data oncs=0x4
        2us reset
        3us identify_controller
            data oncs=0

    Silent::

        1us identify_controller
            data oncs=0x4
        2us command opc=0x10 cdw10=0x19
        3us identify_controller
            data oncs=0
    """
    changes = _changed(command, session, FIXED_BY_RESET)
    if changes is not None:
        yield expect(not changes, f"of {command.place} {'; '.join(changes)}", command)


@rule("NVM21-5.1.13-n15", spec="NVMe Base 2.1, Figure 312", party="controller", severity="warning")
def limits_changed(command: IdentifyController, session: Session) -> Iterator[Verdict]:
    """How much data and how many commands a controller takes at a time stays the same until it is reset.

    A host asks once, and works by that.

    Holds::

        1us identify_controller
            data mdts=5 aerl=3
        2us identify_controller
            data mdts=5 aerl=3

    Breaks::

        1us identify_controller
            data mdts=5 aerl=3
        2us identify_controller
            data mdts=4 aerl=3

    Silent::

        1us identify_controller
            data mdts=5
        2us reset
        3us identify_controller
            data mdts=4
    """
    changes = _changed(command, session, LIMITS)
    if changes is not None:
        yield expect(not changes, f"of {command.place} {'; '.join(changes)}", command)
