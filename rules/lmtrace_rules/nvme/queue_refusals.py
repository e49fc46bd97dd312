"""nvme-checklist G09: what the creation and deletion of queues is refused for."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CreateIoCq, CreateIoQueue, CreateIoSq, DeleteIoCq, DeleteIoSq
from lmtrace.known import Known
from lmtrace.rule import Verdict, answered_by, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import INVALID_FIELD, PRP_OFFSET_INVALID, Property, Status
from lmtrace_rules.hmlm.causes import cause, refused

SECTION = "G09 Queue creation and deletion"
PROFILE = ("nvme", "queues")
COMPLETION_QUEUE_INVALID, INVALID_QUEUE_IDENTIFIER, INVALID_QUEUE_SIZE = Status(1, 0), Status(1, 1), Status(1, 2)
INVALID_INTERRUPT_VECTOR, INVALID_QUEUE_DELETION = Status(1, 8), Status(1, 0x0C)
INVALID_BUFFER_USE = Status(0, 0x12)
CONTIGUOUS_REQUIRED = 1 << 16
"""CAP.CQR."""
SCATTERED_ALLOWED = 1 << 2
"""CMBLOC.CQPDS: queues in the controller memory buffer need not be contiguous."""
UNSEEN_QUEUES = "the capture does not show which queues the controller had"


def allocated(command: CreateIoQueue, session: Session, kind: str) -> int | None:
    """Return how many I/O queues of a kind the controller allocated, None where that was not seen."""
    granted = session.of_function(command.function).granted
    first = session.of_function(command.function).administration.allocated
    if granted is None or first is None:
        return None
    if granted != ((first.dw0 & 0xFFFF) + 1, (first.dw0 >> 16) + 1):
        return None
    return granted[kind == "CQ"]


def most_entries(command: CreateIoQueue, session: Session) -> int | None:
    """Return the entries of the largest queue, by CAP.MQES; None where that was not read."""
    low = session.of_function(command.function).memory.value(Property.CAP, 4)
    return None if low is None else (low & 0xFFFF) + 1


def identifier_unusable(command: CreateIoQueue, session: Session) -> Known:
    """Whether the QID is 0, one that exists, or beyond those that were allocated."""
    if command.qid == 0:
        return Known.YES
    most = allocated(command, session, command.kind)
    beyond = Known.of(None if most is None else command.qid > most)
    return beyond | session.queue_exists(command.kind, command.qid, command)


cause("NVM21-5.2.1-n2", CreateIoCq, INVALID_QUEUE_IDENTIFIER, unseen=UNSEEN_QUEUES)(identifier_unusable)
cause("NVM21-5.2.2-n1", CreateIoSq, INVALID_QUEUE_IDENTIFIER, unseen=UNSEEN_QUEUES)(identifier_unusable)


def size_unusable(command: CreateIoQueue, session: Session) -> Known:
    """Whether QSIZE is 0 or above CAP.MQES."""
    if command.entries < 2:
        return Known.YES
    most = most_entries(command, session)
    return Known.of(None if most is None else command.entries > most)


cause("NVM21-5.2.1-n3", CreateIoCq, INVALID_QUEUE_SIZE, unseen="CAP was not read")(size_unusable)
cause("NVM21-5.2.2-n2", CreateIoSq, INVALID_QUEUE_SIZE, unseen="CAP was not read")(size_unusable)


@cause("NVM21-5.2.1-n5", CreateIoQueue, INVALID_FIELD, unseen="CAP was not read")
def scattered_unusable(command: CreateIoQueue, session: Session) -> Known:
    """Whether PC is 0 where CAP.CQR asks for contiguous queues."""
    if command.contiguous:
        return Known.NO
    low = session.of_function(command.function).memory.value(Property.CAP, 4)
    return Known.of(None if low is None else bool(low & CONTIGUOUS_REQUIRED))


@cause(
    "NVM21-5.2.1-n7", CreateIoQueue, INVALID_FIELD, PRP_OFFSET_INVALID, unseen="the size of a memory page is not known"
)
def base_misaligned(command: CreateIoQueue, session: Session) -> Known:
    """Whether PRP1 of a contiguous queue is within a page."""
    if not command.contiguous:
        return Known.of(command.base % 4 != 0 or None)
    size = session.of_function(command.function).page_size
    return Known.of(None if size is None else command.base % size != 0)


@cause("NVM21-5.2.1-n8", CreateIoCq, INVALID_INTERRUPT_VECTOR, unseen="the configuration space was not read")
def vector_unusable(command: CreateIoCq, session: Session) -> Known:
    """Whether IV is beyond the messages that the function has."""
    if not command.field("IEN"):
        return Known.NO if not command.field("IV") else Known.UNKNOWN
    config = session.of_function(command.function).config
    if config is None or config.msix_vectors is None:
        return Known.NO if not command.field("IV") else Known.UNKNOWN
    return Known.of(command.field("IV") >= max(config.msix_vectors, config.msi_vectors or 1))


@cause("NVM21-8.2.1-n3", CreateIoQueue, INVALID_BUFFER_USE, INVALID_FIELD)
def buffer_unusable(command: CreateIoQueue, session: Session) -> Known:
    """Whether the queue is in the controller memory buffer, which does not take it."""
    memory = session.of_function(command.function).memory
    inside = memory.holds(command.base)
    if inside is not Known.YES:
        return inside
    shape, place = memory.value(Property.CMBSZ, 4), memory.value(Property.CMBLOC, 4)
    if shape is None or place is None:
        return Known.UNKNOWN
    takes = shape & (1 if command.kind == "SQ" else 2)
    return Known.of(not takes or not (command.contiguous or place & SCATTERED_ALLOWED))


@cause("NVM21-5.2.2-n3", CreateIoSq, COMPLETION_QUEUE_INVALID, unseen=UNSEEN_QUEUES)
def completion_queue_missing(command: CreateIoSq, session: Session) -> Known:
    """Whether the CQID names no completion queue; of CQID 0, which no I/O queue has, that may be said as well."""
    if command.cqid == 0:
        return Known.UNKNOWN
    return ~session.queue_exists("CQ", command.cqid, command)


@cause("NVM21-5.2.2-n4", CreateIoSq, INVALID_QUEUE_IDENTIFIER, unseen="Number of Queues was not set in this capture")
def completion_queue_out_of_range(command: CreateIoSq, session: Session) -> Known:
    """Whether the CQID is 0, or beyond the completion queues that were allocated."""
    if command.cqid == 0:
        return Known.YES
    most = allocated(command, session, "CQ")
    return Known.of(None if most is None else command.cqid > most)


@cause("NVM21-5.2.3-n1", DeleteIoCq, INVALID_QUEUE_DELETION, unseen=UNSEEN_QUEUES)
def completion_queue_used(command: DeleteIoCq, session: Session) -> Known:
    """Whether a submission queue uses the completion queue."""
    if command.qid == 0:
        return Known.NO
    controller, qid = session.of_function(command.function), command.qid
    users = [one for one in controller.io if one.kind == "SQ" and one.created.cqid == qid]
    used = Known.any(session.queue_exists("SQ", one.qid, command) for one in users)
    gone = any(one.kind == "SQ" and one.created.cqid == qid for one in controller.deleted)
    recent = gone and any(
        order > command.fetched for (kind, _), order in controller.queue_changes.items() if kind == "SQ"
    )  # fmt: skip
    if recent or (used is Known.NO and not controller.complete_history):
        return used | Known.UNKNOWN
    return used


@cause("NVM21-5.2.3-n2", DeleteIoCq, INVALID_QUEUE_IDENTIFIER, unseen=UNSEEN_QUEUES)
def completion_queue_unknown(command: DeleteIoCq, session: Session) -> Known:
    """Whether there is no I/O completion queue with the QID."""
    return Known.YES if command.qid == 0 else ~session.queue_exists("CQ", command.qid, command)


@cause("NVM21-5.2.3-n2", DeleteIoSq, INVALID_QUEUE_IDENTIFIER, unseen=UNSEEN_QUEUES)
def submission_queue_unknown(command: DeleteIoSq, session: Session) -> Known:
    """Whether there is no I/O submission queue with the QID."""
    return Known.YES if command.qid == 0 else ~session.queue_exists("SQ", command.qid, command)


@rule("NVM21-5.2.1-n2", spec="NVMe Base 2.1, 5.2.1", party="controller")
def unusable_completion_queue_created(command: CreateIoCq, session: Session) -> Iterator[Verdict]:
    """A completion queue with the identifier 0, one in use, or one beyond those allocated is not created.

    The identifier is all that doorbells and submission queues name it by.

    Holds::

        1us create_io_cq function=01:00.1 qid=1 status=0/00h
        1us queue_created function=01:00.1 kind=CQ qid=1
        2us create_io_cq function=01:00.1 qid=1 status=1/01h

    Holds::

        1us create_io_cq function=01:00.1 qid=0 qsize=0 status=1/02h

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        2us create_io_cq function=01:00.1 qid=1 qsize=15 status=0/00h

    Breaks::

        1us set_features function=01:00.1 fid=7 cdw11=0x30003 dw0=0x10003
        2us create_io_cq function=01:00.1 qid=3 qsize=15 status=0/00h

    Breaks::

        2us create_io_cq function=01:00.1 qid=0 qsize=15 status=0/00h

    Silent::

        0us midway
        2us create_io_cq function=01:00.1 qid=9 qsize=15 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.1-n2", condition="its identifier cannot be used")


@rule("NVM21-5.2.2-n1", spec="NVMe Base 2.1, 5.2.2", party="controller")
def unusable_submission_queue_created(command: CreateIoSq, session: Session) -> Iterator[Verdict]:
    """A submission queue with the identifier 0, one in use, or one beyond those allocated is not created.

    The identifier is all that doorbells and completions name it by.

    Holds::

        1us queue_created function=01:00.1 kind=SQ qid=1
        2us create_io_sq function=01:00.1 qid=1 qsize=15 cqid=1 status=1/01h

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1
        2us create_io_sq function=01:00.1 qid=1 qsize=15 cqid=1 status=0/00h

    Breaks::

        1us set_features function=01:00.1 fid=7 cdw11=0x30003 dw0=0x10003
        2us create_io_sq function=01:00.1 qid=5 qsize=15 cqid=1 status=0/00h

    Silent::

        1us create_io_sq function=01:00.1 qid=1 qsize=15 cqid=1 fetch=0.5us status=0/00h
        1us queue_created function=01:00.1 kind=SQ qid=1
        2us create_io_sq function=01:00.1 qid=1 qsize=15 cqid=1 fetch=0.6us status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.2-n1", condition="its identifier cannot be used")


@rule("NVM21-5.2.1-n3", spec="NVMe Base 2.1, 5.2.1", party="controller")
def completion_queue_of_any_size(command: CreateIoCq, session: Session) -> Iterator[Verdict]:
    """A completion queue of one entry, or of more than CAP.MQES allows, is not created.

    A queue of one entry is empty and full at once.

    Holds::

        1us property_access function=01:00.1 property=CAP value=0x3f
        2us create_io_cq function=01:00.1 qsize=0x40 status=1/02h

    Breaks::

        1us property_access function=01:00.1 property=CAP value=0x3f
        2us create_io_cq function=01:00.1 qsize=0x40 status=0/00h

    Breaks::

        2us create_io_cq function=01:00.1 qsize=0 status=0/00h

    Silent::

        2us create_io_cq function=01:00.1 qsize=0x40 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.1-n3", condition=f"QSIZE is {command.entries - 1}")


@rule("NVM21-5.2.2-n2", spec="NVMe Base 2.1, 5.2.2", party="controller")
def submission_queue_of_any_size(command: CreateIoSq, session: Session) -> Iterator[Verdict]:
    """A submission queue of one entry, or of more than CAP.MQES allows, is not created.

    A queue of one entry is empty and full at once.

    Holds::

        2us create_io_sq function=01:00.1 qsize=0 status=1/02h

    Breaks::

        2us create_io_sq function=01:00.1 qsize=0 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.2-n2", condition=f"QSIZE is {command.entries - 1}")


@rule("NVM21-5.2.1-n5", spec="NVMe Base 2.1, 5.2.1 and 3.1.4.1", party="controller")
def scattered_queue_created(command: CreateIoQueue, session: Session) -> Iterator[Verdict]:
    """A controller whose CAP.CQR is 1 does not create a queue that is not contiguous.

    It would take the list of pages for the queue itself.

    Holds::

        1us property_access function=01:00.1 property=CAP value=0x100ff
        2us create_io_cq function=01:00.1 qsize=15 pc=0 status=0/02h

    Breaks::

        1us property_access function=01:00.1 property=CAP value=0x100ff
        2us create_io_sq function=01:00.1 qsize=15 pc=0 status=0/00h

    Silent::

        1us property_access function=01:00.1 property=CAP value=0xff
        2us create_io_sq function=01:00.1 qsize=15 pc=0 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.1-n5", condition="PC is 0 and CAP.CQR is 1")


@rule("NVM21-5.2.1-n7", spec="NVMe Base 2.1, 5.2.1 and 4.3.1", party="controller", severity="info")
def misaligned_queue_created(command: CreateIoQueue, session: Session) -> Iterator[Verdict]:
    """A queue whose base is no multiple of a memory page is not created.

    The specification leaves open whether a controller looks at the offset, so this is information.

    Holds::

        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x10100 status=0/13h

    Breaks::

        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x10100 status=0/00h

    Silent::

        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x10000 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.1-n7", condition=f"PRP1 is {command.base:X}h")


@rule("NVM21-5.2.1-n8", spec="NVMe Base 2.1, 5.2.1", party="controller", severity="warning")
def vector_that_is_none_taken(command: CreateIoCq, session: Session) -> Iterator[Verdict]:
    """A completion queue with an interrupt vector that the function does not have is not created.

    Its interrupts could not be told to anybody.

    Holds::

        0us function_config function=01:00.1 msix_vectors=8
        2us create_io_cq function=01:00.1 qsize=15 ien=1 iv=8 status=1/08h

    Breaks::

        0us function_config function=01:00.1 msix_vectors=8
        2us create_io_cq function=01:00.1 qsize=15 ien=1 iv=8 status=0/00h

    Silent::

        2us create_io_cq function=01:00.1 qsize=15 ien=1 iv=8 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.1-n8", condition=f"IV is {command.field('IV')}")


@rule("NVM21-5.2.2-n3", spec="NVMe Base 2.1, 5.2.2", party="controller")
def submission_queue_without_completion_queue(command: CreateIoSq, session: Session) -> Iterator[Verdict]:
    """A submission queue is not created for a completion queue that does not exist.

    Its commands could never be completed.

    Holds::

        2us create_io_sq function=01:00.1 qsize=15 cqid=2 status=1/00h

    Breaks::

        2us create_io_sq function=01:00.1 qsize=15 cqid=2 status=0/00h

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=2
        2us create_io_sq function=01:00.1 qsize=15 cqid=2 status=0/00h

    Silent::

        0us midway
        2us create_io_sq function=01:00.1 qsize=15 cqid=2 status=0/00h
    """
    if command.cqid:
        yield from refused(command, session, "NVM21-5.2.2-n3", condition=f"there was no CQ {command.cqid}")


@rule("NVM21-5.2.2-n4", spec="NVMe Base 2.1, 5.2.2", party="controller")
def submission_queue_of_admin_completions(command: CreateIoSq, session: Session) -> Iterator[Verdict]:
    """A submission queue is not created for completion queue 0, nor for one beyond those allocated.

    Completion queue 0 is for admin commands.

    Holds::

        2us create_io_sq function=01:00.1 qsize=15 cqid=0 status=1/01h

    Breaks::

        2us create_io_sq function=01:00.1 qsize=15 cqid=0 status=0/00h

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=2
        2us create_io_sq function=01:00.1 qsize=15 cqid=2 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.2-n4", condition=f"CQID is {command.cqid}")


@rule("NVM21-5.2.3-n1", spec="NVMe Base 2.1, 5.2.3", party="controller")
def used_completion_queue_deleted(command: DeleteIoCq, session: Session) -> Iterator[Verdict]:
    """A completion queue that a submission queue uses is not deleted.

    The commands of that submission queue could not be completed any more.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=3 cqid=1
        2us delete_io_cq function=01:00.1 qid=1 status=1/0Ch

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=3 cqid=1
        2us delete_io_cq function=01:00.1 qid=1 status=0/00h

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=3 cqid=1
        2us queue_deleted function=01:00.1 kind=SQ qid=3
        3us delete_io_cq function=01:00.1 qid=1 status=0/00h

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=3 cqid=1
        2us queue_deleted function=01:00.1 kind=SQ qid=3
        3us delete_io_cq function=01:00.1 qid=1 fetch=1us status=1/0Ch
    """
    yield from refused(command, session, "NVM21-5.2.3-n1", condition="a submission queue used it")


@rule("NVM21-5.2.3-n2", spec="NVMe Base 2.1, 5.2.3 and 5.2.4", party="controller")
def unknown_queue_deleted(command: DeleteIoCq | DeleteIoSq, session: Session) -> Iterator[Verdict]:
    """A queue that does not exist, or one of admin commands, is not deleted.

    A host that believes in the deletion has lost count of its queues.

    Holds::

        2us delete_io_cq function=01:00.1 qid=1 status=1/01h

    Breaks::

        2us delete_io_cq function=01:00.1 qid=1 status=0/00h

    Breaks::

        2us delete_io_cq function=01:00.1 qid=0 status=0/00h

    Breaks::

        2us delete_io_sq function=01:00.1 qid=0 status=0/00h

    Holds::

        2us delete_io_sq function=01:00.1 qid=1 status=1/01h

    Silent::

        0us midway
        2us delete_io_cq function=01:00.1 qid=1 status=0/00h

    Silent::

        0us midway
        2us delete_io_sq function=01:00.1 qid=1 status=0/00h
    """
    yield from refused(command, session, "NVM21-5.2.3-n2", condition=f"there was no I/O {command.queue}")


answered_by(
    "NVM21-5.2.1-n13", "NVM21-5.2.1-n2", "NVM21-5.2.2-n1",
    reason="a QID beyond the queues that were allocated is one of the identifiers that cannot be used",
)  # fmt: skip
