"""nvme-checklist G04: resets of the subsystem, interrupt masks, and accesses between doorbells."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from lmtrace.events import PropertyAccess
from lmtrace.rule import Broken, Verdict, broken, column_rule, expect, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.registers import MASKS
from lmtrace.spec.nvme import CAP, CSTS, NSSR_MAGIC, Property
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.registers import NO_CAP, TURNED, parts

SECTION = "G04 Controller registers"
PROFILE = "nvme"


@rule("NVM21-3.1.4.7-n1", spec="NVMe Base 2.1, 3.1.4.7", party="host", severity="warning")
def subsystem_reset_misspelt(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """NSSR is written with its signature, and only where CAP.NSSRS says that there is such a reset.

    Nothing happens else.

    Holds::

        1us property_access property=CAP value=0x004000300f0107ff
        2us property_access write=yes property=NSSR value=0x4E564D65

    Breaks::

        1us property_access property=CAP value=0x004000300f0107ff
        2us property_access write=yes property=NSSR value=1

    Breaks::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access write=yes property=NSSR value=0x4E564D65

    Silent::

        2us property_access write=yes property=NSSR value=0x4E564D65
    """
    written = parts(event, Property.NSSR).get(Property.NSSR) if event.write else None
    if written is None:
        return
    cap = session.registers.of(event.function).constant(Property.CAP)
    if written != NSSR_MAGIC:
        yield broken(f"{written:X}h was written to NSSR", event)
    elif cap is None or session.registers.bytes_turned:
        yield not_observable(NO_CAP if cap is None else TURNED, event)
    else:
        yield expect(bool(CAP["NSSRS"].of(cap.to_bytes(8, "little"))), "CAP.NSSRS is 0, and NSSR was written", event)


@rule("NVM21-3.1.4.7-n2", spec="NVMe Base 2.1, 3.1.4.6 and 3.7.1", party="controller", severity="warning")
def subsystem_reset_forgotten(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """After a reset of the NVM subsystem CSTS.NSSRO tells of it.

    Every controller of the subsystem does, so that their hosts learn who reset them. That the links go down shows in no
    TLP.

    Holds::

        1us property_access property=CAP value=0x004000300f0107ff
        2us property_access property=CSTS value=1
        3us reset how=NSSR
        4us property_access property=CSTS value=0x10

    Breaks::

        1us property_access property=CAP value=0x004000300f0107ff
        2us property_access property=CSTS value=1
        3us reset how=NSSR
        4us property_access property=CSTS value=0

    Silent::

        1us property_access property=CAP value=0x004000300f0107ff
        2us property_access property=CSTS value=1
        3us reset how=NSSR
        4us property_access property=CSTS value=1

    Silent::

        1us property_access property=CAP value=0x004000300f0107ff
        2us property_access property=CSTS value=1
        3us reset how=NSSR
        4us property_access write=yes property=CSTS value=0x10
        5us property_access property=CSTS value=0
    """
    value = None if event.write or event.overtaken else parts(event, Property.CSTS).get(Property.CSTS)
    known = session.registers.of(event.function)
    reset, cap, cleared = known.last_reset, known.constant(Property.CAP), known.written.get(Property.CSTS)
    if value is None or value & 1 or reset is None or reset.how != "NSSR" or not known.reset_at_work:
        return
    if reset.inferred or cap is None or not CAP["NSSRS"].of(cap.to_bytes(8, "little")):
        return
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    elif cleared is None or cleared.order < reset.order:
        yield expect(
            bool(CSTS["NSSRO"].of(value.to_bytes(4, "little"))),
            f"CSTS is {value:X}h after a reset of the NVM subsystem", event,
        )  # fmt: skip


@rule("NVM21-3.1.4.3-n1", spec="NVMe Base 2.1, 3.1.4.3 and 3.1.4.4", party="host", severity="warning")
def mask_property_with_msix(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """INTMS and INTMC are not written while MSI-X is enabled.

    Vectors of MSI-X have masks of their own, and what these do then is undefined.

    Holds::

        1us property_access write=yes property=INTMS value=1 msix=no

    Breaks::

        1us property_access write=yes property=INTMC value=1 msix=yes

    Silent::

        1us property_access write=yes property=INTMS value=1

    Silent::

        1us property_access property=INTMS value=1 msix=yes
    """
    if not event.write or not parts(event, Property.INTMS, Property.INTMC).keys() & MASKS:
        return
    if event.msix is None:
        yield not_observable("the capture does not show whether MSI-X is enabled", event)
    else:
        yield expect(not event.msix, f"{event.property} was written while MSI-X was enabled", event)


@rule("NVM21-T3.5.1-n1", spec="NVMe over PCIe Transport 1.1, 3.5.1", party="controller", severity="warning")
def interrupt_mask_misread(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """INTMS and INTMC read as the mask that the host made with them.

    Judged for the vectors that there are, which is the first one unless MSI has more.

    Holds::

        1us reset
        2us property_access write=yes property=INTMS value=1 msix=no
        3us property_access property=INTMC value=1 msix=no

    Breaks::

        1us reset
        2us property_access write=yes property=INTMS value=1 msix=no
        3us property_access property=INTMS value=0 msix=no

    Breaks::

        1us reset
        2us property_access write=yes property=INTMS value=1 msix=no
        3us property_access write=yes property=INTMC value=1 msix=no
        4us property_access property=INTMS value=1 msix=no

    Silent::

        2us property_access property=INTMS value=1 msix=no

    Silent::

        1us reset
        2us property_access property=INTMS value=1 msix=yes

    Silent::

        1us reset
        2us property_access write=yes property=INTMS value=2 msix=no
        3us property_access property=INTMS value=0 msix=no
    """
    read = {} if event.write or event.overtaken else parts(event, Property.INTMS, Property.INTMC)
    places = read.keys() & MASKS
    if not places or event.msix or event.value == 0xFFFF_FFFF:
        return
    mask, config = session.registers.of(event.function).mask, session.of_function(event.function).config
    vectors = 1 if config is None or config.msi_vectors is None else max(config.msi_vectors, 1)
    told = (1 << min(vectors, 32)) - 1
    if mask is None or event.msix is None:
        yield not_observable("the capture does not show every write of the interrupt mask", event)
    elif session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    else:
        value = read[min(places)]
        yield expect(value & told == mask & told, f"{event.property} is {value:X}h, the mask {mask:X}h", event)


@column_rule(
    "NVM21-T3.8-n1", table="doorbells", columns=("qid", "kind", "size", "apart"),
    spec="NVMe over PCIe Transport 1.1, 3.1.2", party="controller", local=False,
)  # fmt: skip
def access_between_doorbells(batch: pa.RecordBatch) -> Broken:
    """Among the doorbells in use, whatever is accessed is a doorbell.

    Where they are is up to the controller's CAP.DSTRD; between them there is nothing. That all of a doorbell is written
    is another rule.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 size=4 apart=no

    Breaks::

        1us doorbells kind=SQ qid=1 size=4 apart=yes

    Silent::

        1us doorbells kind=SQ qid=1 size=4
    """
    size, qid, tails = numbers(batch, "size"), numbers(batch, "qid"), words(batch, "kind", ("SQ",))
    return found(
        there(batch, "apart"), numbers(batch, "apart") != 0,
        lambda row: f"{size[row]} bytes behind the doorbell of {'SQ' if tails[row] else 'CQ'} {qid[row]} were accessed",
    )  # fmt: skip
