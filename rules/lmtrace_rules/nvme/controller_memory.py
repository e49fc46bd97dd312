"""nvme-checklist G27: memory of the controller itself, the CMB and the PMR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.events import PropertyAccess
from lmtrace.rule import Broken, Verdict, answered_by, broken, column_rule, held, rule
from lmtrace.session import Session
from lmtrace.session.registers import known_as
from lmtrace.spec.nvme import Property
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.pointers import STATUS, name, succeeded

SECTION = "G27 CMB, HMB, PMR"
PROFILE = ("nvme", "controller-memory")

WHO = ("sqid", "cid", "cmb_lacks")
BUFFER = "NVMe Base 2.1, 8.2.1"
REGION = "NVMe Base 2.1, 8.2.4"
INVALID_USE = 0x12
NOT_READY = 1 << 8
HALF_SECOND, MINUTE = 500 * 10**9, 60 * 10**12
"""ps in the units of PMRCAP.PMRTO, by PMRTU."""


def _refused(batch: pa.RecordBatch, lacks: tuple[str, ...], what: str) -> Broken:
    """Return the commands that succeeded, of those that had to end with Invalid Use of Controller Memory Buffer."""
    right = (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == INVALID_USE)
    done = succeeded(batch)
    field = batch.column("cmb_lacks")
    return found(
        words(batch, "cmb_lacks", lacks) & there(batch, *STATUS) & (done | right), done,
        lambda row: f"{name(batch, row)} succeeded with {what} in the controller memory buffer, which has no "
        f"{field[row].as_py()}",
    )  # fmt: skip


@column_rule("NVM21-8.2.1-n4", table="transactions", columns=WHO, spec=BUFFER, party="host", local=False)
def buffer_used_while_disabled(batch: pa.RecordBatch) -> Broken:
    """A host uses the controller memory buffer for queues and data only while CMBMSC.CMSE is set.

    The controller takes the addresses for host memory otherwise. The first admin command stands for ASQ and ACQ too.

    Holds::

        1us transactions sqid=1 cid=5 cmb_lacks=nothing

    Breaks::

        1us transactions sqid=1 cid=5 cmb_lacks=CMSE

    Silent::

        1us transactions sqid=1 cid=5
    """
    return found(
        there(batch, "cmb_lacks"), words(batch, "cmb_lacks", ("CMSE",)),
        lambda row: f"{name(batch, row)} names an address of the controller memory buffer while CMSE is 0",
    )  # fmt: skip


@column_rule("NVM21-8.2.1-n5", table="transactions", columns=(*WHO, *STATUS), spec=BUFFER, party="controller",
             local=False)  # fmt: skip
def data_in_buffer_that_takes_none(batch: pa.RecordBatch) -> Broken:
    """A command with data in a controller memory buffer that takes no such data is refused.

    CMBSZ.RDS and WDS tell which data it takes. A command that fails for another reason is not judged.

    Holds::

        1us transactions sqid=1 cid=5 cmb_lacks=RDS sct=0 sc=0x12

    Breaks::

        1us transactions sqid=1 cid=5 cmb_lacks=WDS sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 cmb_lacks=RDS sct=0 sc=2

    Silent::

        1us transactions sqid=1 cid=5 cmb_lacks=nothing sct=0 sc=0
    """
    return _refused(batch, ("RDS", "WDS"), "data")


@column_rule("NVM21-8.2.1-n6", table="transactions", columns=(*WHO, *STATUS), spec=BUFFER, party="controller",
             local=False)  # fmt: skip
def list_in_buffer_that_takes_none(batch: pa.RecordBatch) -> Broken:
    """A command with a PRP list or an SGL segment in a controller memory buffer that takes no lists is refused.

    CMBSZ.LISTS tells whether it does.

    Holds::

        1us transactions sqid=1 cid=5 cmb_lacks=LISTS sct=0 sc=0x12

    Breaks::

        1us transactions sqid=1 cid=5 cmb_lacks=LISTS sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 cmb_lacks=LISTS
    """
    return _refused(batch, ("LISTS",), "a list")


@column_rule(
    "NVM21-8.2.1-n7", table="queue_uses", columns=("kind", "qid", "moved_by_request"), spec=BUFFER, party="controller",
    local=False,
)  # fmt: skip
def entry_in_own_memory_sent(batch: pa.RecordBatch) -> Broken:
    """The entries of a completion queue in the controller memory buffer do not cross the link.

    The host looks for them in the controller, and a write to that address reaches somebody else.

    Holds::

        1us queue_uses kind=CQ qid=1 moved_by_request=no

    Breaks::

        1us queue_uses kind=CQ qid=1 moved_by_request=yes

    Silent::

        1us queue_uses kind=SQ qid=1 moved_by_request=yes
    """
    qid = numbers(batch, "qid")
    return found(
        words(batch, "kind", ("CQ",)) & there(batch, "moved_by_request"), numbers(batch, "moved_by_request") != 0,
        lambda row: f"entries of CQ {qid[row]}, which is in the controller memory buffer, were sent across the link",
    )  # fmt: skip


@column_rule("NVM21-8.2.1-n8", table="transactions", columns=WHO, spec=f"{BUFFER} and 3.1.4.11", party="host",
             severity="warning", local=False)  # fmt: skip
def parts_in_different_memories(batch: pa.RecordBatch) -> Broken:
    """The parts of a command lie in the controller memory buffer and outside only where CMBLOC lets them.

    Without CDMMMS its data and metadata are all there or all elsewhere, without CDPMLS the pages of its list or the
    segments of its SGL are, and without CDPCILS a list is there only if the submission queue is. What a list names
    counts as soon as the list was read, or was written into the buffer by the host.

    Holds::

        1us transactions sqid=1 cid=5 cmb_lacks=nothing

    Breaks::

        1us transactions sqid=1 cid=5 cmb_lacks=CDMMMS

    Breaks::

        1us transactions sqid=1 cid=5 cmb_lacks=CDPCILS

    Breaks::

        1us transactions sqid=1 cid=5 cmb_lacks=CDPMLS

    Silent::

        1us transactions sqid=1 cid=5
    """
    field = batch.column("cmb_lacks")
    return found(
        words(batch, "cmb_lacks", ("nothing", "CDMMMS", "CDPCILS", "CDPMLS")), ~words(batch, "cmb_lacks", ("nothing",)),
        lambda row: f"{name(batch, row)} has parts in the controller memory buffer and parts elsewhere without "
        f"{field[row].as_py()}",
    )  # fmt: skip


@column_rule(
    "NVM21-8.2.1-n9", table="remainder", columns=("function", "own_memory", "kind", "address"), spec=BUFFER,
    party="controller", local=False,
)  # fmt: skip
def own_buffer_reached_across_the_link(batch: pa.RecordBatch) -> Broken:
    """A controller reaches its own memory buffer without the link.

    The address means the buffer only to the controller itself.

    Holds::

        1us remainder function=01:00.0 kind=MWr address=0x1000 own_memory=no

    Breaks::

        1us remainder function=01:00.0 kind=MRd address=0x500001000 own_memory=yes

    Silent::

        1us remainder function=01:00.0 kind=MRd address=0x500001000
    """
    function, address, kind = numbers(batch, "function"), numbers(batch, "address"), batch.column("kind")
    return found(
        there(batch, "own_memory"), numbers(batch, "own_memory") != 0,
        lambda row: f"{bdf_text(int(function[row]))} sent a {kind[row].as_py()} to {int(address[row]):X}h, which is in "
        "its own memory buffer",
    )  # fmt: skip


@column_rule(
    "NVM21-8.2.4-n1", table="pmr_uses", columns=("function", "state", "reads", "writes"), spec=REGION, party="host",
    severity="warning", local=False,
)  # fmt: skip
def region_used_before_ready(batch: pa.RecordBatch) -> Broken:
    """A host uses the persistent memory region when PMRCTL enables it and PMRSTS says that it is ready.

    What it writes before is lost.

    Holds::

        1us pmr_uses function=01:00.0 state=ready reads=1 writes=2

    Breaks::

        1us pmr_uses function=01:00.0 state=disabled reads=1 writes=0

    Breaks::

        1us pmr_uses function=01:00.0 state="not ready" reads=0 writes=1

    Silent::

        1us pmr_uses function=01:00.0 reads=1 writes=2
    """
    known = there(batch, "state")
    state, count = batch.column("state"), numbers(batch, "reads") + numbers(batch, "writes")
    answer = found(
        known, ~words(batch, "state", ("ready",)),
        lambda row: f"the persistent memory region was accessed {count[row]} times while it was {state[row].as_py()}",
    )  # fmt: skip
    reason = "the capture does not show whether the region was ready"
    return replace(answer, unseen=int(np.count_nonzero(~known)), reason=reason)


@column_rule(
    "NVM21-8.2.4-n2", table="pmr_uses", columns=("function", "checked", "changed", "address"), spec=REGION,
    party="controller", local=False,
)  # fmt: skip
def region_not_persistent(batch: pa.RecordBatch) -> Broken:
    """What was written to the persistent memory region is there when the controller was reset.

    Only bytes count behind whose last write the barrier was seen that PMRCAP.PMRWBM names, and where the controller
    has no access of its own.

    Holds::

        1us pmr_uses function=01:00.0 checked=4 changed=0

    Breaks::

        1us pmr_uses function=01:00.0 checked=4 changed=1 address=0xfc000000

    Silent::

        1us pmr_uses function=01:00.0 checked=0 changed=0
    """
    checked, changed, address = numbers(batch, "checked"), numbers(batch, "changed"), numbers(batch, "address")
    return found(
        checked != 0, changed != 0,
        lambda row: f"{changed[row]} of {checked[row]} blocks of 64 bytes that were written before a reset have other "
        f"contents, the first at {int(address[row]):X}h",
    )  # fmt: skip


@rule("NVM21-8.2.4-n3", spec=f"{REGION} and 3.1.4.21", party="controller", severity="warning")
def region_not_ready_in_time(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A persistent memory region is ready within PMRCAP.PMRTO of its being enabled.

    A host gives up then.

    Holds::

        1us property_access property=PMRCAP value=0x10080
        2us property_access property=PMRCTL write=yes value=1
        3us property_access property=PMRSTS value=0x100
        4us property_access property=PMRSTS value=0

    Breaks::

        1us property_access property=PMRCAP value=0x10080
        2us property_access property=PMRCTL write=yes value=1
        600ms property_access property=PMRSTS value=0x100

    Silent::

        1us property_access property=PMRCAP value=0x10180
        2us property_access property=PMRCTL write=yes value=1
        600ms property_access property=PMRSTS value=0x100

    Silent::

        2us property_access property=PMRCTL write=yes value=1
        600ms property_access property=PMRSTS value=0x100

    Silent::

        1us property_access property=PMRCAP value=0x10080
        2us property_access property=PMRCTL write=yes value=1
        600ms property_access property=PMRSTS value=0xffffffff
    """
    if event.write or event.value in (None, 0xFFFFFFFF) or event.completion != 0 or event.overtaken:
        return
    registers = session.registers.of(event.function)
    enable, capabilities = registers.latest(Property.PMRCTL), registers.constant(Property.PMRCAP)
    if known_as(event) != (Property.PMRSTS, 4) or enable is None or capabilities is None or event.value is None:
        return
    if not enable.value & 1 or not enable.access.write or session.registers.bytes_turned:
        return
    limit = (capabilities >> 16 & 0xFF) * (MINUTE if capabilities >> 8 & 3 == 1 else HALF_SECOND)
    if not event.value & NOT_READY:
        yield held(event)
        return
    before = registers.read.get(Property.PMRSTS)
    told = before is not None and before.order > enable.order and before.access.time - enable.access.time > limit
    if limit and event.time - enable.access.time > limit and not told:
        waited = (event.time - enable.access.time) / 10**9
        yield broken(f"NRDY is 1 {waited:,.0f} ms after the write of EN, PMRTO allows {limit // 10**9:,} ms", event)


answered_by(
    "NVM21-8.2.3-n1", "NVM21-5.1.25.2.4-n2", "NVM21-5.1.25.2.4-n3",
    reason="what a controller does with the buffer is inside its ranges, next to them, or when it was disabled",
)  # fmt: skip
