"""nvme-checklist G22: Format NVM and Sanitize, and what they do to commands and data."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, ErasedRead, Identify, Sanitize, Served
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.upkeep import BROADCAST, bits_of, format_index, nsid_of
from lmtrace.spec.admin_data import IDENTIFY_NAMESPACE
from lmtrace.spec.nvme import Admin, Cns

SECTION = "G22 Namespaces, format, sanitize, security, firmware"
PROFILE = ("nvme", "erase")
LOW_FORMAT = 0xF


def _formats(command: Command) -> bool:
    return command.sqid == 0 and command.opcode == Admin.FORMAT_NVM


@rule("NVM21-5.1.10-n1", spec="NVMe Base 2.1, 5.1.10", party="controller")
def format_without_effect(event: Identify | ErasedRead, session: Session) -> Iterator[Verdict]:
    """A formatted namespace has the format that was asked for, and gives back nothing of what it held.

    A host that formats a namespace relies on both before somebody else gets it.

    Holds::

        1us command opc=0x80 nsid=1 cdw10=1
        2us identify cns=0 nsid=1
            data nsze=64 flbasl=1

    Holds::

        3us erased_read cause=formatted nsid=1 blocks=4

    Breaks::

        1us command opc=0x80 nsid=1 cdw10=1
        2us identify cns=0 nsid=1
            data nsze=64 flbasl=0

    Breaks::

        1us command opc=0x80 nsid=0xffffffff cdw10=0x20
        2us identify cns=0 nsid=1
            data nsze=64 dps=0

    Breaks::

        3us erased_read cause=formatted nsid=1 blocks=4 differ=2

    Silent::

        2us command opc=0x80 nsid=1 cdw10=1 fetch=1us
        3us identify cns=0 nsid=1 fetch=1.5us cid=2
            data nsze=64 flbasl=0

    Silent::

        1us command opc=0x80 nsid=1 cdw10=1 status=1/0Ah
        2us identify cns=0 nsid=1
            data nsze=64 flbasl=0

    Silent::

        1us command opc=0x80 nsid=1 cdw10=1
        2us identify cns=0 nsid=1
            data nsze=0
    """
    if isinstance(event, ErasedRead):
        if event.cause == "formatted":
            yield expect(
                not event.differ,
                f"{event.differ} of {event.blocks} blocks read, the first LBA {event.first_lba} of namespace "
                f"{event.nsid}, hold what they held before the namespace was formatted",
                event,
            )  # fmt: skip
        return
    made = session.upkeep.of(event.function).formats
    format = made.get(nsid_of(event), made.get(BROADCAST))
    if event.cns != Cns.NAMESPACE or not event.succeeded or format is None or event.fetched < format.order:
        return
    if event.data is None:
        yield not_observable("the Identify data were not seen", event)
        return
    size, index, protection = (event.data.field(IDENTIFY_NAMESPACE, name) for name in ("NSZE", "FLBASL", "DPS"))
    if size and index is not None and protection is not None:
        due = format_index(format) & LOW_FORMAT, bits_of(format, 10, 7, 5)
        yield expect(
            (index, protection & 7) == due,
            f"{event.title} returned LBA format {index} and protection type {protection & 7} of namespace "
            f"{nsid_of(event)}, which was formatted with {due[0]} and {due[1]}",
            event,
        )  # fmt: skip


@rule("NVM21-5.1.10-n2", spec="NVMe Base 2.1, 5.1.10", party="controller")
def served_while_formatting(event: Served | Command, session: Session) -> Iterator[Verdict]:
    """No I/O command for a namespace succeeds while the namespace is formatted.

    Its data are gone a moment later. A command may have come before the format really began, so that it is an error
    only behind another one that was refused for it.

    Holds::

        1us command opc=0x80 nsid=1 cdw10=1

    Breaks::

        2us served cause=format nsid=1

    Silent::

        2us served cause=detached nsid=1
    """
    if isinstance(event, Served):
        if event.cause == "format":
            yield broken(
                f"{event.title} succeeded while namespace {event.nsid} was formatted", event,
                None if event.certain else "warning",
            )  # fmt: skip
    elif _formats(event) and event.succeeded:
        yield held(event)


@rule("NVM21-5.1.10-n3", spec="NVMe Base 2.1, 5.1.10", party="controller")
def unknown_format_taken(command: Command, session: Session) -> Iterator[Verdict]:
    """A Format NVM with an LBA format that there is not is refused.

    Nothing says what the namespace would look like.

    Holds::

        1us identify cns=0 nsid=1
            data nsze=64 nlbaf=1
        2us command opc=0x80 nsid=1 cdw10=2 status=1/0Ah

    Holds::

        1us identify cns=0 nsid=1
            data nsze=64 nlbaf=1
        2us command opc=0x80 nsid=1 cdw10=1

    Breaks::

        1us identify cns=0 nsid=1
            data nsze=64 nlbaf=1
        2us command opc=0x80 nsid=1 cdw10=2

    Silent::

        2us command opc=0x80 nsid=1 cdw10=2
    """
    count = session.upkeep.of(command.function).format_count
    if not _formats(command) or not command.completed:
        return
    index = format_index(command)
    if count is None:
        yield not_observable("the capture does not show which LBA formats there are", command)
    else:
        yield expect(
            command.failed or index < count,
            f"{command.title} succeeded with LBA format {index}, of which there are {count}",
            command,
        )  # fmt: skip


@rule("NVM21-5.1.22-n1", spec="NVMe Base 2.1, 5.1.22 and 8.1.24", party="controller")
def sanitized_data_read(event: ErasedRead, session: Session) -> Iterator[Verdict]:
    """A sanitized namespace gives back nothing of what it held.

    That is what a sanitize operation is for. What its log page says of it is NVM21-5.1.12-n13's to judge.

    Holds::

        3us erased_read cause=sanitized nsid=1 blocks=4

    Breaks::

        3us erased_read cause=sanitized nsid=1 blocks=4 differ=1

    Silent::

        3us erased_read cause=formatted nsid=1 blocks=4 differ=1
    """
    if event.cause == "sanitized":
        yield expect(
            not event.differ,
            f"{event.differ} of {event.blocks} blocks read, the first LBA {event.first_lba} of namespace {event.nsid}, "
            "hold what they held before the sanitize operation",
            event,
        )  # fmt: skip


@rule("NVM21-5.1.22-n2", spec="NVMe Base 2.1, 8.1.24.4", party="controller")
def served_while_sanitizing(event: Served | Sanitize, session: Session) -> Iterator[Verdict]:
    """No command that needs the media succeeds while a sanitize operation is in progress.

    It would read what is being destroyed, or write what is destroyed in a moment.

    Holds::

        1us sanitize cdw10=2

    Breaks::

        2us served cause=sanitize nsid=1

    Silent::

        2us served cause=format nsid=1
    """
    if isinstance(event, Served):
        if event.cause == "sanitize":
            yield broken(f"{event.title} succeeded while a sanitize operation was in progress", event)
    elif event.succeeded and event.starts:
        yield held(event)


@rule("NVM21-5.1.22-n3", spec="NVMe Base 2.1, 5.1.22", party="controller", severity="warning")
def sanitize_with_memory_region(command: Sanitize, session: Session) -> Iterator[Verdict]:
    """A Sanitize is refused while the Persistent Memory Region is enabled.

    What is in the region would not be erased.

    Holds::

        1us property_access write=1 property=PMRCTL value=1
        2us sanitize cdw10=2 status=1/23h

    Breaks::

        1us property_access write=1 property=PMRCTL value=1
        2us sanitize cdw10=2

    Silent::

        1us property_access write=1 property=PMRCTL value=1
        2us property_access write=1 property=PMRCTL value=0
        3us sanitize cdw10=2
    """
    if command.completed and command.starts and session.upkeep.of(command.function).memory_region:
        yield expect(
            command.failed, f"{command.title} succeeded while the Persistent Memory Region was enabled", command
        )
