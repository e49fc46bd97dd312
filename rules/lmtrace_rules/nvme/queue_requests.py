"""nvme-checklist G09 and G07: how hosts create queues, and where."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from lmtrace.events import CreateIoQueue, CreateIoSq, QueueCreated
from lmtrace.known import Known
from lmtrace.rule import (
    Broken,
    Severity,
    Verdict,
    answered_by,
    broken,
    column_rule,
    expect,
    held,
    not_a_rule,
    not_observable,
    rule,
)
from lmtrace.session import Session
from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, Property
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.queue_refusals import (
    buffer_unusable,
    completion_queue_missing,
    most_entries,
    scattered_unusable,
)

SECTION = "G09 Queue creation and deletion"
PROFILE = ("nvme", "queues")
QWORD = 8


def stimulus(command: CreateIoQueue) -> Severity | None:
    """Return how grave a request is that ought not to be made: one that was refused did no harm."""
    return None if command.succeeded else "info"


@rule("NVM21-5.2.1-n1", spec="NVMe Base 2.1, 5.1.25.2.1 and 3.5.1", party="host", severity="info")
def queues_created_unasked(command: CreateIoQueue, session: Session) -> Iterator[Verdict]:
    """A host asks for a number of queues before it creates the first one.

    Firmware, small drivers and models of hosts create a queue or two without asking, so this is information.

    Holds::

        1us set_features function=01:00.1 fid=7 cdw11=0x10001 dw0=0x10001
        2us create_io_cq function=01:00.1 qsize=15

    Breaks::

        2us create_io_cq function=01:00.1 qsize=15

    Silent::

        0us midway
        2us create_io_cq function=01:00.1 qsize=15
    """
    controller = session.of_function(command.function)
    if controller.granted is not None:
        yield held(command)
    elif controller.complete_history and not controller.io:
        yield broken(f"{command.title} came before Number of Queues was set", command)


@rule("NVM21-5.2.1-n4", spec="NVMe Base 2.1, 5.2.1 and 3.1.4.1", party="host")
def queue_size_out_of_range(command: CreateIoQueue, session: Session) -> Iterator[Verdict]:
    """A queue has at least two entries, and no more than CAP.MQES allows.

    A request that is refused, as it has to be, is information.

    Holds::

        1us property_access function=01:00.1 property=CAP value=0x3f
        2us create_io_cq function=01:00.1 qsize=0x3f

    Breaks::

        1us property_access function=01:00.1 property=CAP value=0x3f
        2us create_io_cq function=01:00.1 qsize=0x40

    Breaks::

        2us create_io_sq function=01:00.1 qsize=0

    Silent::

        2us create_io_cq function=01:00.1 qsize=0x40
    """
    most = most_entries(command, session)
    if command.entries < 2 or (most is not None and command.entries > most):
        yield broken(f"{command.title} has QSIZE {command.entries - 1}", command, stimulus(command))
    elif most is not None:
        yield held(command)


@rule("NVM21-5.2.1-n6", spec="NVMe Base 2.1, 5.2.1 and 4.3.1", party="host")
def queue_base_misaligned(command: CreateIoQueue, session: Session) -> Iterator[Verdict]:
    """PRP1 of a contiguous queue is a multiple of a memory page; of another one it points to a list of qwords.

    A controller that ignores the offset has the queue elsewhere than the host.

    Holds::

        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x10000

    Breaks::

        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x10040

    Breaks::

        2us create_io_cq function=01:00.1 qsize=15 pc=0 prp1=0x10004

    Silent::

        1us property_access function=01:00.1 property=CAP value=0x100ff
        2us create_io_cq function=01:00.1 qsize=15 pc=0 prp1=0x10004
    """
    page = session.of_function(command.function).page_size
    if not command.contiguous:
        if scattered_unusable(command, session) is not Known.YES:
            yield expect(command.base % QWORD == 0, f"PRP1 is {command.base:X}h", command, stimulus(command))
    elif page is None:
        yield not_observable("the size of a memory page is not known", command)
    else:
        yield expect(command.base % page == 0, f"PRP1 is {command.base:X}h", command, stimulus(command))


@rule("NVM21-T3.2-n1", spec="NVMe over PCIe Transport 1.1, 3.2", party="host")
def vector_of_single_message(queue: QueueCreated, session: Session) -> Iterator[Verdict]:
    """Where there is a single interrupt, completion queues name vector 0.

    There is no other.

    Holds::

        2us queue_created function=01:00.1 kind=CQ qid=1 vector=0 vectors_enabled=1

    Breaks::

        2us queue_created function=01:00.1 kind=CQ qid=1 vector=1 vectors_enabled=1

    Silent::

        2us queue_created function=01:00.1 kind=CQ qid=1 vector=1

    Silent::

        2us queue_created function=01:00.1 kind=CQ qid=1 vector=1 interrupts=no vectors_enabled=1
    """
    if queue.kind == "CQ" and queue.interrupts and queue.vectors_enabled == 1 and queue.vector is not None:
        yield expect(queue.vector == 0, f"CQ {queue.qid} has vector {queue.vector} of 1", queue)


@rule("NVM21-5.2.2-n5", spec="NVMe Base 2.1, 5.2.2", party="host", severity="info")
def priority_without_use(command: CreateIoSq, session: Session) -> Iterator[Verdict]:
    """A priority is given to a submission queue only where the arbitration knows priorities.

    With round robin it is ignored.

    Holds::

        1us property_access function=01:00.1 property=CC write=yes value=0x460001
        2us create_io_sq function=01:00.1 qsize=15 qprio=0

    Breaks::

        1us property_access function=01:00.1 property=CC write=yes value=0x460001
        2us create_io_sq function=01:00.1 qsize=15 qprio=2

    Silent::

        1us property_access function=01:00.1 property=CC write=yes value=0x460801
        2us create_io_sq function=01:00.1 qsize=15 qprio=2
    """
    configuration = session.of_function(command.function).memory.value(Property.CC, 4)
    if configuration is not None and not configuration >> 11 & 7:
        priority = command.field("QPRIO")
        yield expect(not priority, f"QPRIO of {command.queue} is {priority} with round robin", command)


@rule("NVM21-5.2.2-n6", spec="NVMe Base 2.1, 5.2.2 and 3.3.1.1", party="host")
def submission_queue_first(command: CreateIoSq, session: Session) -> Iterator[Verdict]:
    """A host creates a completion queue, and then the submission queues that use it.

    A request that is refused, as it has to be, is information.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1
        2us create_io_sq function=01:00.1 qsize=15 cqid=1

    Breaks::

        2us create_io_sq function=01:00.1 qsize=15 cqid=1

    Silent::

        0us midway
        2us create_io_sq function=01:00.1 qsize=15 cqid=1

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1
        2us create_io_sq function=01:00.1 qsize=15 cqid=1 fetch=0.5us
    """
    if command.cqid == 0:
        return
    missing = completion_queue_missing(command, session)
    if missing is Known.UNKNOWN:
        yield not_observable("the capture does not show which queues the controller had", command)
    else:
        text = f"there was no CQ {command.cqid} for {command.queue}"
        yield expect(missing is Known.NO, text, command, stimulus(command))


@rule("NVM21-5.2.1-n12", spec="NVMe Base 2.1, 5.2.1 and 5.2.2", party="host")
def queues_in_the_same_memory(queue: QueueCreated, session: Session) -> Iterator[Verdict]:
    """No two queues of a controller share memory.

    Entries of one would be taken for entries of the other.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1 base=0x10000 size=256
        2us queue_created function=01:00.1 kind=SQ qid=1 base=0x11000 size=64

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1 base=0x10000 size=65
        2us queue_created function=01:00.1 kind=CQ qid=2 base=0x11000 size=64

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1 base=0x10000 size=256
        2us queue_deleted function=01:00.1 kind=CQ qid=1
        3us queue_created function=01:00.1 kind=CQ qid=2 base=0x10000 size=64
    """
    if queue.over_fabrics or not _placed(queue):
        return
    others = [one.created for one in session.of_function(queue.function).queues.values()]
    others = [one for one in others if _placed(one) and (one.kind, one.qid) != (queue.kind, queue.qid)]
    shared = next((one for one in others if _end(one) > queue.base and one.base < _end(queue)), None)
    if shared is not None:
        yield broken(
            f"{queue.kind} {queue.qid} at {queue.base:X}h lies in the memory of {shared.kind} {shared.qid} "
            f"at {shared.base:X}h", queue,
        )  # fmt: skip
    elif others:
        yield held(queue)


def _placed(queue: QueueCreated) -> bool:
    """Whether it is certain where a queue is."""
    return queue.contiguous and queue.size is not None and queue.origin in ("admin", "create") and not queue.inferred


def _end(queue: QueueCreated) -> int:
    """Return where a queue ends at the least."""
    return queue.base + (queue.size or 0) * (SQE_SIZE if queue.kind == "SQ" else CQE_SIZE)


@rule("NVM21-8.2.1-n3", spec="NVMe Base 2.1, 8.2.1 and 3.1.4.12", party="host")
def queue_in_buffer_that_takes_none(command: CreateIoQueue, session: Session) -> Iterator[Verdict]:
    """A host puts into the controller memory buffer only queues that CMBSZ and CMBLOC allow there.

    A request that is refused, as it has to be, is information.

    Holds::

        1us property_access function=01:00.1 property=CAP value=0x0200000000ff00ff
        1us property_access function=01:00.1 property=CMBLOC value=2
        1us property_access function=01:00.1 property=CMBSZ value=0x4003
        1us property_access function=01:00.1 property=CMBMSC write=yes value=0x800003
        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x800000

    Breaks::

        1us property_access function=01:00.1 property=CAP value=0x0200000000ff00ff
        1us property_access function=01:00.1 property=CMBLOC value=2
        1us property_access function=01:00.1 property=CMBSZ value=0x4001
        1us property_access function=01:00.1 property=CMBMSC write=yes value=0x800003
        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x800000

    Silent::

        2us create_io_cq function=01:00.1 qsize=15 pc=1 prp1=0x800000
    """
    memory = session.of_function(command.function).memory
    if memory.holds(command.base) is Known.YES:
        unusable = buffer_unusable(command, session)
        if unusable is not Known.UNKNOWN:
            text = f"{command.queue} is in the controller memory buffer at {command.base:X}h"
            yield expect(unusable is Known.NO, text, command, stimulus(command))


answered_by(
    "NVM21-8.2.1-n2", "NVM21-8.2.1-n3",
    reason="a submission queue lies in the buffer only where CMBMSC enables it, and CMBSZ.SQS has to allow that",
)  # fmt: skip
not_a_rule(
    "NVM21-5.2.2-n7",
    "which completion queue and vector a host wants for a submission queue is its intention, and every pair is right",
)


@column_rule(
    "NVM21-5.2.1-n10", table="transactions", columns=("cq_oversubscribed", "sqid", "cqid"),
    spec="NVMe Base 2.1, 5.2.1 and 3.3.1.2.1", party="host", severity="warning", local=False,
)  # fmt: skip
def more_commands_than_completions(batch: pa.RecordBatch) -> Broken:
    """No more commands are outstanding than their completion queue has room for.

    A controller has to hold back what it cannot post.

    Holds::

        1us transactions sqid=1 cqid=1 cq_oversubscribed=no

    Breaks::

        1us transactions sqid=1 cqid=1 cq_oversubscribed=yes

    Silent::

        1us transactions sqid=1 cqid=1
    """
    cqid = numbers(batch, "cqid")
    return found(
        there(batch, "cq_oversubscribed"), numbers(batch, "cq_oversubscribed") != 0,
        lambda row: f"more commands were outstanding than CQ {cqid[row]} takes",
    )  # fmt: skip


@column_rule(
    "NVM21-5.2.1-n11", table="queue_uses", columns=("kind", "qid", "vector_programmed"),
    spec="NVMe Base 2.1, 5.2.1", party="host", severity="warning", local=False,
)  # fmt: skip
def vector_not_programmed(batch: pa.RecordBatch) -> Broken:
    """The vector of a completion queue with interrupts is in the MSI-X table before the first entry is posted.

    Its interrupt would go nowhere.

    Holds::

        1us queue_uses kind=CQ qid=1 vector_programmed=yes

    Breaks::

        1us queue_uses kind=CQ qid=1 vector_programmed=no

    Silent::

        1us queue_uses kind=CQ qid=1
    """
    qid = numbers(batch, "qid")
    return found(
        there(batch, "vector_programmed"), numbers(batch, "vector_programmed") == 0,
        lambda row: f"the vector of CQ {qid[row]} had not been written to the MSI-X table",
    )  # fmt: skip
