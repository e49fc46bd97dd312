"""nvme-checklist G17: the Host Memory Buffer, which a host lends to a controller and takes back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lmtrace.events import SetFeatures
from lmtrace.known import Known
from lmtrace.rule import Broken, Verdict, broken, column_rule, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import BROADCAST, HOST_MEMORY_DESCRIPTOR, MOST_DESCRIPTORS
from lmtrace.spec.nvme import COMMAND_SEQUENCE_ERROR, INVALID_FIELD, Feature
from lmtrace_rules.columns import found, numbers, words

SECTION = "G17 Set / Get Features"
PROFILE = ("nvme", "features")


@rule("NVM21-5.1.25.2.4-n1", spec="NVMe Base 2.1, 5.1.25.2.4", party="host")
def host_memory_unfit(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A Host Memory Buffer is made of whole pages, in a list with entries, and is as large as the controller needs.

    The controller would use memory that is not its own.

    Holds::

        1us identify_controller
            data hmpre=16 hmmin=4
        2us set_features fid=0x0d cdw11=1 cdw12=4 cdw13=0x8000 cdw15=1
            data badd=0x10000 bsize=4

    Breaks::

        2us set_features fid=0x0d cdw11=1 cdw12=4 cdw13=0x8000 cdw15=1
            data badd=0x10200 bsize=4

    Breaks::

        1us identify_controller
            data hmpre=16 hmmin=8
        2us set_features fid=0x0d cdw11=1 cdw12=8 cdw13=0x8000 cdw15=1
            data badd=0x10000 bsize=4

    Breaks::

        2us set_features fid=0x0d cdw11=1 cdw12=4 cdw13=0x8000 status=0/02h

    Silent::

        2us set_features fid=0x0d cdw11=0

    Silent::

        1us identify_controller
            data hmpre=16 hmmin=8
        2us set_features fid=0x0d cdw11=1 cdw12=8 cdw13=0x8000 cdw15=2
            data badd=0x10000 bsize=4 size=16
    """
    if command.fid != Feature.HOST_MEMORY_BUFFER or not command.field("CDW11") & 1:
        return
    controller = session.of_function(command.function)
    page, least = controller.page_size, controller.limit("HMMIN")
    count, asked, address = command.field("CDW15"), command.field("CDW12"), command.field("CDW13")
    wrong, whole, pages = "", True, 0
    for entry in range(min(count, MOST_DESCRIPTORS)):
        place = HOST_MEMORY_DESCRIPTOR.size * entry
        fields = [
            None if command.data is None else command.data.field(HOST_MEMORY_DESCRIPTOR, name, place)
            for name in ("BADD", "BSIZE")
        ]
        start, size = fields
        whole = whole and start is not None and size is not None
        pages += size or 0
        if start is not None and size and start % (page or 4096):
            wrong = wrong or f"descriptor {entry} begins at {start:X}h, within a page"
    if not count:
        wrong = "the list has no descriptor"
    elif address & 0xF:
        wrong = f"the list begins at {address:X}h, which is no multiple of 16"
    elif not wrong and page is not None and least is not None:
        given = min(asked, pages) if whole and count <= MOST_DESCRIPTORS else asked
        if given * page < least * 4096:
            wrong = f"{given} pages are given, HMMIN asks for {least * 4096 // page}"
    if wrong:
        yield broken(f"in a Host Memory Buffer {wrong}", command, None if command.succeeded else "warning")
    elif whole and least is not None and page is not None:
        yield held(command)
    else:
        yield not_observable("the capture does not show the descriptors, or how much the controller needs", command)


@column_rule(
    "NVM21-5.1.25.2.4-n2", table="host_memory_uses", columns=("what", "requests", "address"),
    spec="NVMe Base 2.1, 5.1.25.2.4", party="controller", local=False,
)  # fmt: skip
def returned_memory_used(batch: pa.RecordBatch) -> Broken:
    """A controller does not touch its Host Memory Buffer once disabling it completed.

    The host has given the memory to somebody else. Only requests count that belong to nothing else.

    Holds::

        1us host_memory_uses what=after requests=0

    Breaks::

        1us host_memory_uses what=after requests=3 address=0x10000

    Silent::

        1us host_memory_uses what=inside requests=3 address=0x10000
    """
    requests, address = numbers(batch, "requests"), numbers(batch, "address")
    return found(
        words(batch, "what", ("after",)), requests > 0,
        lambda row: f"{requests[row]:,} requests to a buffer that was disabled, the first to {address[row]:X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-5.1.25.2.4-n3", table="host_memory_uses", columns=("what", "requests", "address"),
    spec="NVMe Base 2.1, 5.1.25.2.4", party="controller", severity="warning", local=False,
)  # fmt: skip
def memory_beside_buffer_used(batch: pa.RecordBatch) -> Broken:
    """A controller that uses its Host Memory Buffer stays inside it.

    Whom a request belongs to is told by its address, so that one next to the buffer, which belongs to nothing, is only
    warned of.

    Holds::

        1us host_memory_uses what=inside requests=3 address=0x10000

    Breaks::

        1us host_memory_uses what=beside requests=1 address=0x14000

    Silent::

        1us host_memory_uses what=after requests=3 address=0x10000
    """
    requests, address = numbers(batch, "requests"), numbers(batch, "address")
    beside = words(batch, "what", ("beside",))
    applies = np.where(beside, requests > 0, words(batch, "what", ("inside",)) & (requests > 0))
    return found(
        applies, beside,
        lambda row: f"{requests[row]:,} requests next to the buffer, the first to {address[row]:X}h",
    )  # fmt: skip


def _enabled_throughout(command: SetFeatures, session: Session) -> Known:
    """Whether a Host Memory Buffer was enabled when a command was fetched, and no other command changed that."""
    controller = session.of_function(command.function)
    others = [
        one for one in session.in_flight.values()
        if isinstance(one, SetFeatures) and one is not command and one.fid == Feature.HOST_MEMORY_BUFFER
        and one.function == command.function
    ]  # fmt: skip
    return Known.UNKNOWN if others else controller.administration.host_memory.at(command.fetched)


@rule("NVM21-5.1.25.2.4-n4", spec="NVMe Base 2.1, 5.1.25.2.4", party="controller")
def host_memory_enabled_twice(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """A Host Memory Buffer is not enabled while one is.

    The controller would use memory that its host believes to have back.

    Holds::

        1us set_features fid=0x0d cdw11=1 cdw12=16
        2us set_features fid=0x0d cdw11=1 cdw12=16 status=0/0ch

    Breaks::

        1us set_features fid=0x0d cdw11=1 cdw12=16
        2us set_features fid=0x0d cdw11=1 cdw12=16

    Breaks::

        1us set_features fid=0x0d cdw11=1 cdw12=16
        2us set_features fid=0x0d cdw11=1 cdw12=16 status=0/06h

    Silent::

        1us set_features fid=0x0d cdw11=1 cdw12=16
        2us set_features fid=0x0d cdw11=0
        3us set_features fid=0x0d cdw11=1 cdw12=16

    Silent::

        0us midway
        2us set_features fid=0x0d cdw11=1 cdw12=16
    """
    if command.fid != Feature.HOST_MEMORY_BUFFER or not command.field("CDW11") & 1 or not command.completed:
        return
    known = _enabled_throughout(command, session)
    if known is Known.UNKNOWN:
        yield not_observable("the capture does not show whether a Host Memory Buffer was enabled", command)
    elif known is Known.YES and command.succeeded:
        yield broken("a Host Memory Buffer was enabled while one was enabled", command)
    elif known is Known.YES:
        text = f"enabling a second Host Memory Buffer was refused with {command.status}"
        yield expect(command.status == COMMAND_SEQUENCE_ERROR, text, command, "info")


@rule("NVM21-5.1.25.2.4-n5", spec="NVMe Base 2.1, 5.1.25.2.4", party="controller")
def host_memory_not_disabled(command: SetFeatures, session: Session) -> Iterator[Verdict]:
    """Disabling a Host Memory Buffer that is not enabled succeeds.

    A host does so before it gives its memory away, whatever was before.

    Holds::

        1us identify_controller
            data hmpre=16
        2us set_features fid=0x0d cdw11=0

    Breaks::

        1us identify_controller
            data hmpre=16
        2us set_features fid=0x0d cdw11=0 status=0/0ch

    Silent::

        1us identify_controller
            data hmpre=0
        2us set_features fid=0x0d cdw11=0 status=0/02h

    Silent::

        2us set_features fid=0x0d cdw11=0 status=0/02h
    """
    if command.fid != Feature.HOST_MEMORY_BUFFER or not command.completed or command.field("CDW11"):
        return
    wanted = session.of_function(command.function).limit("HMPRE")
    known = _enabled_throughout(command, session)
    if known is Known.YES or wanted == 0 or command.saves or command.field("NSID") not in (0, BROADCAST):
        return
    if known is Known.UNKNOWN or wanted is None:
        yield not_observable("the capture does not show whether a Host Memory Buffer was enabled", command)
    elif command.status == COMMAND_SEQUENCE_ERROR or command.status == INVALID_FIELD:
        yield broken(f"disabling a Host Memory Buffer that was not enabled was refused with {command.status}", command)
    elif command.succeeded:
        yield held(command)
