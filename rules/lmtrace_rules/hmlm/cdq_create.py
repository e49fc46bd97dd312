"""hmlm 6.3: the shape of a new controller data queue: its type, its memory, its size."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry, Command, CreateCdq, MigrationCommand, ReservedSelect
from lmtrace.known import Known, throughout
from lmtrace.rule import Verdict, broken, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.migration import EntrySequence
from lmtrace.spec.nvme import INVALID_FIELD, NOT_ENOUGH_RESOURCES, PRP_OFFSET_INVALID, Admin, Status
from lmtrace_rules.hmlm.causes import cause, refused
from lmtrace_rules.hmlm.data_queues import USER_DATA, list_length, list_seen, misaligned
from lmtrace_rules.hmlm.envelope import layout_of, reserved_value_refused

SECTION = "6.3 Controller Data Queue: create"
PROFILE = "cdq"
PHASE = ("prepare", "track")
INVALID_QUEUE_SIZE = Status(1, 0x02)
ENTRY_DWORDS = 8
NO_RANGE = 2
"""LBACIR of an entry that tells of no blocks."""
NO_PAGE_SIZE = "the capture does not show the memory page size of the controller"
NO_LIST = "the capture does not show the whole PRP list of the queue"


@rule("HMLM-5.1.4-n1", spec="NVMe Base 2.1, 5.1.4 and Figure 161", party="controller", local=True)
def reserved_queue_operation_accepted(command: ReservedSelect, session: Session) -> Iterator[Verdict]:
    """A reserved operation of Controller Data Queue is refused.

    Nothing says what it would have done.

    Holds::

        5us reserved_select opc=0x45 cdw10=2 status=0/02h

    Breaks::

        5us reserved_select opc=0x45 cdw10=0xBF

    Silent::

        5us reserved_select opc=0x45 cdw10=0xC0
    """
    if command.opcode == Admin.CONTROLLER_DATA_QUEUE:
        yield from reserved_value_refused(command, session, "SEL")


# -- where the memory is ----------------------------------------------------------------------------------------


@cause("HMLM-5.1.4.1.1-n1", CreateCdq, PRP_OFFSET_INVALID, unseen=NO_PAGE_SIZE)
def _pointer_offset(command: CreateCdq, session: Session) -> Known:
    return misaligned(command.base, session.of_function(command.function).page_size)


@rule("HMLM-5.1.4.1.1-n1", spec="NVMe Base 2.1, 5.1.4.1.1 and Figure 162", party="controller")
def offset_in_first_page_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue whose PRP1 has an offset within its memory page is refused.

    A controller that drops the offset would write entries where the host does not look.

    Holds::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10040 status=0/13h

    Breaks::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10040

    Breaks::

        1us reset function=01:00.0
        2us enabled function=01:00.0 page_size=16384
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x11000

    Silent::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0

    Silent::

        0us midway
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x11000
    """
    yield from refused(
        command, session, "HMLM-5.1.4.1.1-n1", condition=f"PRP1 {command.base:X}h is not the start of a memory page"
    )  # fmt: skip


@cause("HMLM-5.1.4.1.1-n2", CreateCdq, PRP_OFFSET_INVALID, unseen=NO_LIST)
def _list_offset(command: CreateCdq, session: Session) -> Known:
    if command.field("PC"):
        return Known.NO
    known = _entries_misaligned(command, session)
    return known if known is Known.YES or list_seen(command, session) else Known.UNKNOWN


def _entries_misaligned(command: CreateCdq, session: Session) -> Known:
    """Whether an entry of the list, as far as seen, has an offset within its page."""
    page_size = session.of_function(command.function).page_size
    entries = (command.pages or ())[: list_length(command, session)]
    return Known.any(misaligned(entry, page_size) for entry in entries)


@rule("HMLM-5.1.4.1.1-n2", spec="NVMe Base 2.1, 5.1.4.1.1 and Figure 162", party="controller")
def offset_in_list_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue whose PRP list has an entry with an offset within its page is refused.

    Slots must not straddle pages that do not follow one another.

    Holds::

        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x11020 status=0/13h

    Breaks::

        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x11020

    Silent::

        5us create_cdq target=1 cdqsize=2048 prp1=0x9000

    Silent::

        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x11000+0x12345
    """
    if command.field("PC") or (command.failed and command.pages is None):
        return
    yield from refused(
        command, session, "HMLM-5.1.4.1.1-n2", condition="its PRP list has an entry with an offset in its page"
    )  # fmt: skip


@rule("HMLM-5.1.4.1.1-n3", spec="NVMe Base 2.1, 5.1.4.1.1 and Figure 162", party="host")
def queue_off_page(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A host places a queue, its PRP list and the pages of that list at memory pages.

    A controller refuses anything else, and the migration cannot log.

    Holds::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10000

    Breaks::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10040 status=0/13h

    Breaks::

        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x11020 status=0/13h

    Silent::

        0us midway
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x11000
    """
    page_size = session.of_function(command.function).page_size
    wrong = misaligned(command.base, page_size)
    if wrong is Known.YES:
        yield broken(f"{command.title} has PRP1 {command.base:X}h, not the start of a memory page", command)
    elif not command.field("PC") and _entries_misaligned(command, session) is Known.YES:
        entry = next(one for one in command.pages or () if misaligned(one, page_size) is Known.YES)
        yield broken(f"{command.title} has a PRP list with {entry:X}h, not the start of a memory page", command)
    elif wrong is Known.UNKNOWN:
        yield not_observable(NO_PAGE_SIZE, command)
    elif not command.field("PC") and not list_seen(command, session):
        yield not_observable(NO_LIST, command)
    else:
        yield held(command)


@cause(
    "HMLM-5.1.4.1.1-n4", CreateCdq, INVALID_FIELD,
    unseen="the capture does not show where the controller's own memory is",
)  # fmt: skip
def _controller_memory(command: CreateCdq, session: Session) -> Known:
    memory = session.of_function(command.function).memory
    if command.field("PC"):
        last = command.base + max(4 * command.field("CDQSIZE") - 1, 0)
        return memory.holds(command.base) | memory.holds(last)
    found = Known.any(memory.holds(page) for page in (command.pages or ())[: list_length(command, session)])
    return found if found is Known.YES or list_seen(command, session) else Known.UNKNOWN


@rule("HMLM-5.1.4.1.1-n4", spec="NVMe Base 2.1, 5.1.4.1.1 and Figure 162", party="controller")
def queue_in_controller_memory_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue outside host memory, as in a controller memory buffer, is refused.

    The buffer goes away with the controller, and with it what must still be copied.

    Holds::

        1us property_access property=CAP value=0x0200002078FF07FF
        2us property_access property=CMBSZ value=0x00010010
        3us property_access property=CMBMSC value=0x800000003 write=yes
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x800000000 status=0/02h

    Breaks::

        1us property_access property=CAP value=0x0200002078FF07FF
        2us property_access property=CMBSZ value=0x00010010
        3us property_access property=CMBMSC value=0x800000003 write=yes
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x80000F000

    Silent::

        1us property_access property=CAP value=0x0200002078FF07FF
        3us property_access property=CMBMSC value=0x800000001 write=yes
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x80000F000

    Silent::

        1us property_access property=CAP value=0x2078FF07FF offset=0 size=4
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x80000F000
    """
    yield from refused(
        command, session, "HMLM-5.1.4.1.1-n4", condition="the queue lies in the controller's own memory"
    )  # fmt: skip


# -- how large it is --------------------------------------------------------------------------------------------


@cause(
    "HMLM-5.1.4.1.1-n5", CreateCdq, INVALID_FIELD,
    unseen="the capture does not show the entry size of the queue (LBAMQF)",
)  # fmt: skip
def _part_of_an_entry(command: CreateCdq, session: Session) -> Known:
    if command.field("QT") != USER_DATA or command.field("CDQSIZE") % ENTRY_DWORDS == 0:
        return Known.NO
    return Known.of(session.of_function(command.function).entry_format == 0 or None)


@rule("HMLM-5.1.4.1.1-n5", spec="NVMe Base 2.1, 5.1.4.1.1 and Figure 164", party="controller")
def part_of_an_entry_accepted(event: CreateCdq | CdqEntry, session: Session) -> Iterator[Verdict]:
    """A queue that does not hold a whole number of entries is refused.

    The two sides would disagree on where the queue wraps. Where the host never read the size of entries (LBAMQF), the
    first marker shows it: 32 bytes that say so themselves.

    Holds::

        1us identify cdw10=6
            data raw=0
        5us create_cdq target=1 cdqsize=63 pc=1 prp1=0x10000 status=0/02h

    Breaks::

        1us identify cdw10=6
            data raw=0
        5us create_cdq target=1 cdqsize=63 pc=1 prp1=0x10000

    Breaks::

        5us create_cdq target=1 cdqid=1 cdqsize=63 pc=1 prp1=0x10000
        6us cdq_entry slot=0 esa=1 lbacir=2 nsid=0

    Silent::

        5us create_cdq target=1 cdqsize=63 pc=1 prp1=0x10000

    Silent::

        5us create_cdq target=1 cdqid=1 cdqsize=63 pc=1 prp1=0x10000
        6us cdq_entry slot=0 esa=1 lbacir=2 nsid=3
    """
    if isinstance(event, CdqEntry):
        queue = session.live_queue(event.owner, event.cdqid)
        if queue is None or queue.posted or session.of_function(event.owner).entry_format is not None:
            return
        dwords, marker = queue.created.field("CDQSIZE"), (event.esa, event.lbacir, event.nsid, event.slba, event.nlb)
        if dwords % ENTRY_DWORDS and marker == (EntrySequence.FIRST, NO_RANGE, 0, 0, 0):
            yield broken(
                f"{queue.created.title} succeeded although its {dwords} dwords are no multiple of the {ENTRY_DWORDS} "
                "of the entries posted",
                queue.created,
            )
        return
    yield from refused(
        event, session, "HMLM-5.1.4.1.1-n5",
        condition=f"its {event.field('CDQSIZE')} dwords are no multiple of the {ENTRY_DWORDS} of an entry",
    )  # fmt: skip


@cause("HMLM-5.1.4.1.1-n6", CreateCdq, INVALID_FIELD, INVALID_QUEUE_SIZE)
def _empty(command: CreateCdq, session: Session) -> Known:
    return Known.of(command.field("CDQSIZE") == 0)


@rule("HMLM-5.1.4.1.1-n6", spec="NVMe Base 2.1, 5.1.4.1.1", party="controller", severity="info", local=True)
def queue_without_slots_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue of size 0 is refused.

    There is no slot to log into.

    Holds::

        5us create_cdq target=1 cdqsize=0 pc=1 prp1=0x10000 status=0/02h

    Breaks::

        5us create_cdq target=1 cdqsize=0 pc=1 prp1=0x10000
    """
    if command.completed and command.field("CDQSIZE") == 0:
        yield expect(not command.succeeded, f"{command.title} succeeded with a size of 0", command)


@cause("HMLM-5.1.4.1.1-n9", CreateCdq, INVALID_FIELD, NOT_ENOUGH_RESOURCES)
def _list_too_long(command: CreateCdq, session: Session) -> Known:
    limit, length = session.of_function(command.function).limit("MCDQPC"), list_length(command, session)
    if command.field("PC") or limit == 0:
        return Known.NO
    return Known.UNKNOWN if limit is None or length is None else Known.of(length > limit)


@rule("HMLM-5.1.4.1.1-n9", spec="NVMe Base 2.1, Figure 312 (MCDQPC)", party="host", severity="warning")
def prp_list_too_long(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """The PRP list of a queue has no more entries than the controller takes.

    What a controller does with a longer one is not said.

    Holds::

        1us identify_controller
            data oacs=0x800 mcdqpc=2
        5us create_cdq target=1 cdqsize=2048 prp1=0x9000

    Breaks::

        1us identify_controller
            data oacs=0x800 mcdqpc=2
        5us create_cdq target=1 cdqsize=2049 prp1=0x9000 status=0/02h

    Silent::

        1us identify_controller
            data oacs=0x800 mcdqpc=0
        5us create_cdq target=1 cdqsize=8192 prp1=0x9000

    Silent::

        5us create_cdq target=1 cdqsize=8192 prp1=0x9000

    Silent::

        1us identify_controller
            data oacs=0x800 mcdqpc=2
        5us create_cdq target=1 cdqsize=8192 pc=1 prp1=0x10000
    """
    limit, length = session.of_function(command.function).limit("MCDQPC"), list_length(command, session)
    if command.field("PC") or limit == 0:
        return
    if limit is None or length is None:
        yield not_observable("the capture does not show how many PRP entries the controller takes (MCDQPC)", command)
    else:
        yield expect(length <= limit, f"{command.title} needs {length} PRP entries, MCDQPC is {limit}", command)


# -- what it is, and what becomes of its memory -----------------------------------------------------------------


@rule("HMLM-5.1.4.1.1-n12", spec="NVMe Base 2.1, 5.1.4.1.1 and Figure 165", party="controller", local=True)
def reserved_queue_type_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue of a reserved type is refused.

    The host would wait for entries whose format nobody knows.

    Holds::

        5us create_cdq target=1 qt=1 cdqsize=64 pc=1 prp1=0x10000 status=0/02h

    Breaks::

        5us create_cdq target=1 qt=0xBF cdqsize=64 pc=1 prp1=0x10000

    Silent::

        5us create_cdq target=1 qt=0xC0 cdqsize=64 pc=1 prp1=0x10000
    """
    yield from reserved_value_refused(command, session, "QT")


not_a_rule(
    "HMLM-5.1.4.1.1-n13",
    "a host changes a PRP list in its own memory, which crosses no link; a controller need not read the list twice",
)  # fmt: skip


@rule("HMLM-5.1.4.1.1-n14", spec="NVMe Base 2.1, 5.1.4.1.1", party="host", severity="info")
def queue_memory_used_twice(command: Command, session: Session) -> Iterator[Verdict]:
    """A host uses the memory of a live queue for nothing else.

    Data and entries would overwrite each other.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us identify prp1=0x20000 bytes_from_device=4096

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us identify prp1=0x10000 bytes_from_device=4096

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us delete_cdq cdqid=3
        5us identify prp1=0x10000 bytes_from_device=4096

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us suspend target=1 stype=1 prp1=0x10000
        6us identify prp1=0x10000 bytes_from_device=4096 function=01:00.1
    """
    if command.sqid or not command.completed or not _points_to_memory(command):
        return
    address = command.field("PRP1")
    queues = [
        queue
        for queue in session.data_queues
        if queue.owner == command.function
        and queue.created is not command
        and throughout(queue.live, command.fetched, command.order) is Known.YES
    ]
    if not queues:
        return
    inside = next((queue for queue in queues if queue.holds(address)), None)
    if inside is None:
        yield held(command)
    else:
        yield broken(f"{command.title} uses {address:X}h, memory of the live CDQ {inside.cdqid}", command)


def _points_to_memory(command: Command) -> bool:
    """Whether PRP1 of a command is a buffer that was used, or a queue that was created."""
    if command.opcode in (Admin.CREATE_IO_SQ, Admin.CREATE_IO_CQ):
        return command.succeeded
    if isinstance(command, CreateCdq):
        return command.creates
    if isinstance(command, MigrationCommand) and not layout_of(command)["PRP1"].used:
        return False
    return command.bytes_to_device + command.bytes_from_device > 0
