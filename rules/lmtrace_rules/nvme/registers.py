"""nvme-checklist G04: what properties tell of the controller and of its memory buffer, and that it stays so."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import PropertyAccess
from lmtrace.known import Known
from lmtrace.rule import Verdict, answered_by, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.registers import MASKS, known_as, turned
from lmtrace.spec.layout import describe_bits
from lmtrace.spec.nvme import CAP, Property

SECTION = "G04 Controller registers"
PROFILE = "nvme"

TURNED = "the capture shows properties with their bytes turned"
NO_CAP = "the capture does not show CAP"
NEWEST = 0x20100
"""Reserved bits of CAP are known up to this version."""
FIRST_WITH_CMBS = 0x10400
"""Controllers of an earlier version have a memory buffer without CAP.CMBS."""
WHOLE = 1 << 64
PAGE = 4096


def parts(event: PropertyAccess, *wanted: Property) -> dict[int, int]:
    """Return the dwords that an access moved, by offset, where it is one to ``wanted`` with a value that tells."""
    place = known_as(event)
    if place is None or event.value is None or event.over_fabrics or not (event.write or event.completion == 0):
        return {}
    offset, size = place
    if not any(one <= offset < one + 8 for one in wanted):
        return {}
    if not event.write and offset not in MASKS and event.value == (1 << 8 * size) - 1:
        return {}
    return {offset + step: event.value >> 8 * step & 0xFFFF_FFFF for step in range(0, size, 4)}


# -- constants ----------------------------------------------------------------------------------------------------


def _impossible(cap: int, version: int | None) -> str:
    """Return what is impossible in CAP, nothing if all is well."""
    data = cap.to_bytes(8, "little")
    if CAP["MPSMAX"].of(data) < CAP["MPSMIN"].of(data):
        return f"MPSMAX is {CAP['MPSMAX'].of(data)}, MPSMIN {CAP['MPSMIN'].of(data)}"
    if not CAP["MQES"].of(data):
        return "MQES is 0, a queue of one entry"
    if not CAP["CSS"].of(data):
        return "CSS names no command set"
    reserved = CAP.reserved_bits(data) if version is not None and version <= NEWEST else []
    return f"reserved bits are set: {describe_bits(reserved)}" if reserved else ""


@rule("NVM21-3.1.4.1-n1", spec="NVMe Base 2.1, 3.1.4.1", party="controller")
def impossible_capabilities(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """CAP offers page sizes from the least to the most, queues of two entries or more, and some command set.

    A host sets up the controller by them. Reserved bits are judged for the versions that are known.

    Holds::

        1us property_access property=CAP value=0x004000200f0107ff

    Holds::

        1us property_access property=CAP offset=0 size=4 value=0x0f0107ff
        2us property_access property=CAP offset=4 size=4 value=0x00400020

    Breaks::

        0us property_access property=VS value=0x10400
        1us property_access property=CAP value=0x004800200f0107ff

    Breaks::

        1us property_access property=CAP value=0x004000200f010000

    Breaks::

        1us property_access property=CAP value=0x004000000f0107ff

    Breaks::

        0us property_access property=VS value=0x10400
        1us property_access property=CAP value=0x804000200f0107ff

    Silent::

        0us property_access property=VS value=0x20200
        1us property_access property=CAP value=0x804000200f0107ff

    Silent::

        1us property_access property=CAP offset=0 size=4 value=0xff07010f
        2us property_access property=CAP offset=4 size=4 value=0x20084000

    Silent::

        1us property_access property=CAP value=0xffffffffffffffff

    Silent::

        0us midway
        1us property_access function=01:00.1 property=CAP value=0
    """
    read = {} if event.write else parts(event, Property.CAP)
    if not read:
        return
    known = session.registers.of(event.function)
    words = [
        read.get(place, known.read[place].value if place in known.read else None)
        for place in (Property.CAP, Property.CAP + 4)
    ]
    low, high = words
    if low is None or high is None:
        return
    one = session.of_function(event.function)
    if not low and not high and Known.NO not in (one.virtual, one.offline.now):
        yield not_observable("the function may be a secondary controller that is offline", event)
        return
    version, history = known.constant(Property.VS), session.registers
    wrong = _impossible(high << 32 | low, version)
    likely = wrong and not history.bytes_straight and not _impossible(turned(high) << 32 | turned(low), version)
    if history.bytes_turned or likely:
        yield not_observable(TURNED, event)
    else:
        yield expect(not wrong, f"CAP is {high << 32 | low:X}h: {wrong}", event)


@rule("NVM21-3.1.4.1-n2", spec="NVMe Base 2.1, 3.1.4.1", party="controller", severity="warning")
def capabilities_change(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """CAP stays the same until the power goes, or other firmware comes.

    A host reads it once.

    Holds::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access property=CAP value=0x004000200f0107ff

    Breaks::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access property=CAP offset=0 size=4 value=0x0f0103ff

    Silent::

        1us property_access property=CAP value=0x004000200f0107ff
        2us reset how=FLR
        3us property_access property=CAP value=0x004000200f0107ff

    Silent::

        1us property_access property=CAP value=0x004000200f0107ff
        2us reset how=NSSR
        3us property_access property=CAP value=0x004000200f0103ff

    Silent::

        1us property_access property=CAP value=0x004000200f0107ff
        2us command opc=0x10 cdw10=8
        3us property_access property=CAP value=0x004000200f0103ff
    """
    read = {} if event.write else parts(event, Property.CAP)
    before = session.registers.of(event.function).read
    known = [place for place in read if place in before and before[place].reset is None]
    for place in known[:1]:
        other = next((one for one in known if before[one].value != read[one]), place)
        yield expect(
            before[other].value == read[other],
            f"offset {other:X}h of CAP read as {read[other]:X}h, before as {before[other].value:X}h", event,
        )  # fmt: skip


answered_by("NVM21-3.1.4.2-n1", "NVM21-5.1.13-n11", reason="that VS is VER and that VER is VS is the same comparison")


@rule("NVM21-3.1.4.21-n1", spec="NVMe Base 2.1, 3.1.4.21", party="controller", severity="info")
def ready_timeouts_disordered(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """Being ready without media takes no longer than being ready with them.

    Judged where CAP says that both ways of becoming ready are there.

    Holds::

        1us property_access property=CAP value=0x184000200f0107ff
        2us property_access property=CRTO value=0x00010004

    Breaks::

        1us property_access property=CAP value=0x184000200f0107ff
        2us property_access property=CRTO value=0x00050004

    Silent::

        1us property_access property=CAP value=0x084000200f0107ff
        2us property_access property=CRTO value=0x00050004
    """
    crto = {} if event.write else parts(event, Property.CRTO)
    cap = session.registers.of(event.function).constant(Property.CAP)
    if Property.CRTO not in crto or cap is None or not CAP["CRMS"].of(cap.to_bytes(8, "little")) & 2:
        return
    value = crto[Property.CRTO]
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    else:
        yield expect(value & 0xFFFF >= value >> 16, f"CRTO.CRWMT is {value & 0xFFFF}, CRTO.CRIMT {value >> 16}", event)


# -- memory buffer ------------------------------------------------------------------------------------------------


@rule("NVM21-3.1.4.16-n1", spec="NVMe Base 2.1, 3.1.4.16", party="host", severity="warning")
def memory_buffer_misplaced(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """CMBMSC places the memory buffer at a multiple of 4 KiB, and within the address space.

    The bits below are reserved, and an end beyond the last address makes the whole range invalid.

    Holds::

        1us property_access property=CMBSZ value=0x00004018
        2us property_access write=yes property=CMBMSC value=0x8000000003

    Breaks::

        2us property_access write=yes property=CMBMSC value=0x8000000803

    Breaks::

        1us property_access property=CMBSZ value=0x00004018
        2us property_access write=yes property=CMBMSC value=0xfffffffffffff003

    Silent::

        1us property_access property=CMBSZ value=0x00004018
        2us property_access write=yes property=CMBMSC value=0xfffffffffffff001

    Silent::

        1us property_access property=CMBSZ value=0x00004018
        2us property_access write=yes property=CMBMSC offset=0x54 size=4 value=0xffffffff
        3us property_access write=yes property=CMBMSC offset=0x50 size=4 value=0xf0000003
    """
    written = parts(event, Property.CMBMSC) if event.write else {}
    if not written:
        return
    known = session.registers.of(event.function)
    both = [known.latest(place) for place in (Property.CMBMSC, Property.CMBMSC + 4)]
    low, high = (
        written.get(place, None if seen is None else seen.value)
        for place, seen in zip((Property.CMBMSC, Property.CMBMSC + 4), both, strict=True)
    )
    if Property.CMBMSC in written and written[Property.CMBMSC] & 0xFFC:
        yield broken(f"CMBMSC was written with {written[Property.CMBMSC]:X}h: its bits 11 to 2 are reserved", event)
        return
    if low is None or high is None or not low & 2:
        return
    size = known.constant(Property.CMBSZ)
    base = (high << 32 | low) & ~(PAGE - 1)
    if not size:
        yield not_observable("the capture does not show the size of the memory buffer", event)
    elif session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    else:
        length = (size >> 12) * PAGE << 4 * (size >> 8 & 0xF)
        yield expect(base + length <= WHOLE, f"{length:,} bytes at {base:X}h go beyond the last address", event)


@rule("NVM21-3.1.4.11-n1", spec="NVMe Base 2.1, 3.1.4.11 and 3.1.4.12", party="controller", severity="warning")
def memory_buffer_told_of(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """CMBLOC and CMBSZ read as 0 where CAP.CMBS says that there is no memory buffer.

    Controllers of versions before 1.4 have one without saying so in CAP.

    Holds::

        0us property_access property=VS value=0x20100
        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access property=CMBSZ value=0

    Breaks::

        0us property_access property=VS value=0x20100
        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access property=CMBSZ value=0x00004018

    Silent::

        0us property_access property=VS value=0x10300
        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access property=CMBSZ value=0x00004018

    Silent::

        0us property_access property=VS value=0x20100
        1us property_access property=CAP value=0x024000200f0107ff
        2us property_access property=CMBSZ value=0x00004018
    """
    read = {} if event.write else parts(event, Property.CMBLOC, Property.CMBSZ)
    places = sorted(read.keys() & {Property.CMBLOC, Property.CMBSZ})
    known = session.registers.of(event.function)
    cap, version = known.constant(Property.CAP), known.constant(Property.VS)
    if not places or cap is None or version is None:
        return
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    elif version >= FIRST_WITH_CMBS and not CAP["CMBS"].of(cap.to_bytes(8, "little")):
        values = [read[place] for place in places]
        text = f"{Property(places[0]).name} is {values[0]:X}h though CAP.CMBS is 0"
        yield held(event) if not any(values) else broken(text, event)
