"""nvme-checklist G16: what Identify data say about a namespace, in themselves."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Identify
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import BROADCAST, IDENTIFY_NAMESPACE, LBA_FORMAT, LBA_FORMATS, MOST_FORMATS, SMALLEST_BLOCK
from lmtrace.spec.nvme import Cns

SECTION = "G16 Identify and Get Log Page"
PROFILE = ("nvme", "identify")
ONE_NAMESPACE = (Cns.NAMESPACE, Cns.ALLOCATED_NAMESPACE)


def _value(command: Identify, name: str) -> int | None:
    return None if command.data is None else command.data.field(IDENTIFY_NAMESPACE, name)


def _about_one(command: Identify) -> bool:
    """Whether a command returned the structure of one namespace."""
    return command.cns in ONE_NAMESPACE and command.succeeded and command.field("NSID") != BROADCAST


@rule("NVM21-N4.1.5.1-n1", spec="NVM Command Set 1.2, 4.1.5.1", party="controller", local=True)
def blocks_below_512_bytes(command: Identify, session: Session) -> Iterator[Verdict]:
    """Every LBA format has blocks of 512 bytes or more, or is none.

    The length of every transfer follows from it.

    Holds::

        1us identify nsid=1
            data nsze=8 ncap=8 raw=0x90000 at=128

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 raw=0x0008000000090000 at=128

    Silent::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 raw=0x0008000000090000 at=128 size=130

    Silent::

        1us identify nsid=2
            data nsze=0
    """
    if command.cns not in ONE_NAMESPACE or not command.succeeded or command.data is None:
        return
    count, more = _value(command, "NLBAF"), _value(command, "NULBAF")
    if count is None:
        yield not_observable("the number of formats was not seen", command)
        return
    small = seen = None
    for index in range(min(count + 1 + (more or 0), MOST_FORMATS)):
        shift = command.data.field(LBA_FORMAT, "LBADS", LBA_FORMATS + LBA_FORMAT.size * index)
        seen = seen or shift
        if shift and shift < SMALLEST_BLOCK:
            small = index, shift
    if small is not None:
        yield broken(f"LBA format {small[0]} has blocks of 2^{small[1]} bytes", command)
    elif seen:
        yield held(command)


@rule("NVM21-N4.1.5.1-n2", spec="NVM Command Set 1.2, 4.1.5.1", party="controller", local=True)
def format_that_is_none(command: Identify, session: Session) -> Iterator[Verdict]:
    """FLBAS names one of the LBA formats that there are.

    The length of every transfer follows from it.

    Holds::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 flbasl=1 raw=0x000c000000090000 at=128

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 flbasl=2 raw=0x000c000000090000 at=128

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 flbasl=1 raw=0x0000000000090000 at=128

    Silent::

        1us identify nsid=2
            data nsze=0 flbasl=3

    Silent::

        1us identify nsid=0xffffffff
            data nsze=8 flbasl=3
    """
    if not _about_one(command) or command.data is None or not _value(command, "NSZE"):
        return
    count, more, low, high = (_value(command, name) for name in ("NLBAF", "NULBAF", "FLBASL", "FLBASU"))
    if count is None or more is None or low is None or high is None:
        yield not_observable("the formats of the namespace were not all seen", command)
        return
    index = low | high << 4 if count + more > 15 else low
    shift = command.data.field(LBA_FORMAT, "LBADS", LBA_FORMATS + LBA_FORMAT.size * index)
    if index > count + more:
        yield broken(f"FLBAS names format {index}, the last one is {count + more}", command)
    elif shift is not None:
        yield expect(shift != 0, f"FLBAS names format {index}, which is none: its LBADS is 0", command)


@rule("NVM21-N4.1.5.1-n3", spec="NVM Command Set 1.2, 4.1.5.1", party="controller", local=True)
def more_used_than_there_is(command: Identify, session: Session) -> Iterator[Verdict]:
    """A namespace uses no more blocks than it may allocate, and may allocate no more than it has.

    A host that plans by these numbers would fill what is not there.

    Holds::

        1us identify nsid=1
            data nsze=8 ncap=8 nuse=4

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=16 nuse=4

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=4 nuse=8

    Silent::

        1us identify nsid=0xffffffff
            data ncap=16
    """
    if not _about_one(command):
        return
    size, capacity, used = (_value(command, name) for name in ("NSZE", "NCAP", "NUSE"))
    if size is None or capacity is None or used is None:
        yield not_observable("the size of the namespace was not seen", command)
    else:
        text = f"NUSE {used}, NCAP {capacity} and NSZE {size} of namespace {command.field('NSID'):X}h do not rise"
        yield expect(used <= capacity <= size, text, command)
