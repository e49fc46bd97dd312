"""nvme-checklist G16: lists of namespaces and controllers that Identify returns."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Identify
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import (
    LAST_NAMESPACE,
    MOST_CONTROLLERS,
    MOST_SECONDARIES,
    NAMESPACES_LISTED,
    SECONDARY_ENTRY,
)
from lmtrace.spec.nvme import Cns

SECTION = "G16 Identify and Get Log Page"
PROFILE = ("nvme", "identify")
NAMESPACE_LISTS = (
    Cns.ACTIVE_NAMESPACES, Cns.IO_ACTIVE_NAMESPACES, Cns.ALLOCATED_NAMESPACES, Cns.IO_ALLOCATED_NAMESPACES,
)  # fmt: skip
BEHIND_NSID = (Cns.ACTIVE_NAMESPACES, Cns.ALLOCATED_NAMESPACES)
CONTROLLER_LISTS = (Cns.ATTACHED_CONTROLLERS, Cns.CONTROLLER_LIST)


def numbers_known(command: Identify, size: int, first: int, most: int) -> list[int]:
    """Return the little-endian numbers of ``size`` bytes from the ``first`` on, as far as they were seen in a row."""
    found: list[int] = []
    for place in range(size * first, size * (first + most), size):
        raw = None if command.data is None else command.data.bytes(place, place + size)
        if raw is None:
            break
        found.append(int.from_bytes(raw, "little"))
    return found


@rule("NVM21-5.1.13-n9", spec="NVMe Base 2.1, 5.1.13.2.2", party="controller", local=True)
def namespace_list_disordered(command: Identify, session: Session) -> Iterator[Verdict]:
    """A namespace list rises, ends with the first 0, and names only what lies behind the NSID asked for, up to NN.

    A host reads the list on from the last NSID of it; one out of order is never found.

    Holds::

        1us identify cns=2
            data raw=0x0000000200000001

    Breaks::

        1us identify cns=2
            data raw=0x0000000100000002

    Breaks::

        1us identify cns=2
            data raw=0x000000030000000000000001

    Breaks::

        1us identify cns=2 nsid=4
            data raw=0x0000000500000004

    Breaks::

        1us identify_controller
            data nn=4
        2us identify cns=2
            data raw=0x0000000500000004

    Silent::

        1us identify_controller
            data nn=8
        2us identify cns=2 nsid=3
            data raw=0x0000000500000004 size=8

    Silent::

        1us identify cns=2 nsid=0xffffffff status=0/0bh
    """
    if command.cns not in NAMESPACE_LISTS or not command.succeeded:
        return
    found = numbers_known(command, 4, 0, NAMESPACES_LISTED)
    if not found:
        yield not_observable("the list was not seen", command)
        return
    end = found.index(0) if 0 in found else len(found)
    listed, most = found[:end], session.of_function(command.function).limit("NN")
    last = command.field("NSID")
    for nsid in listed:
        if nsid <= last:
            yield broken(f"NSID {nsid:X}h follows {last:X}h in the list", command)
            return
        last = nsid
    if any(found[end:]):
        behind = next(one for one in found[end:] if one)
        yield broken(f"NSID {behind:X}h stands behind the end of the list", command)
    else:
        yield expect(not most or last <= most or not listed, f"NSID {last:X}h is beyond NN {most or 0:X}h", command)


@rule("NVM21-5.1.13-n17", spec="NVMe Base 2.1, 5.1.13.2.13 and 5.1.13.2.14", party="controller")
def controller_list_disordered(command: Identify, session: Session) -> Iterator[Verdict]:
    """A Controller List has as many entries as it says, rising from the CNTLID that was asked for.

    A host reads the list on from the last CNTLID of it.

    Holds::

        1us identify cns=0x13
            data raw=0x0003000200010003

    Breaks::

        1us identify cns=0x13
            data raw=0x0003000100020003

    Breaks::

        1us identify cns=0x13
            data raw=0xffff

    Breaks::

        1us identify cns=0x13 cntid=2
            data raw=0x000200010002

    Breaks::

        1us identify cns=0x12 nsid=1
            data raw=0x0003000200010002

    Silent::

        1us identify cns=0x13
            data raw=0x00010003 size=4
    """
    if command.cns not in CONTROLLER_LISTS or not command.succeeded:
        return
    counts = numbers_known(command, 2, 0, 1)
    if not counts:
        yield not_observable("the list was not seen", command)
        return
    count = counts[0]
    if count > MOST_CONTROLLERS:
        yield broken(f"the list says {count} entries, of which {MOST_CONTROLLERS} fit", command)
        return
    listed = numbers_known(command, 2, 1, count)
    last = command.field("CNTID") - 1
    for cntlid in listed:
        if cntlid <= last:
            asked = " asked for" if cntlid is listed[0] else ""
            yield broken(f"CNTLID {cntlid:X}h follows {max(last, 0):X}h{asked} in the list", command)
            return
        last = cntlid
    behind = [one for one in numbers_known(command, 2, 1 + count, MOST_CONTROLLERS - count) if one]
    if len(listed) == count and behind:
        yield broken(f"the list says {count} entries, behind which {behind[0]:X}h stands", command, "warning")
    elif len(listed) == count:
        yield held(command)


@rule("NVM21-5.1.13-n8", spec="NVMe Base 2.1, 5.1.13.2.2", party="controller", severity="warning")
def list_behind_last_namespace(command: Identify, session: Session) -> Iterator[Verdict]:
    """A list of the namespaces behind FFFFFFFEh or FFFFFFFFh is refused.

    There are no NSIDs behind them.

    Holds::

        1us identify cns=2 nsid=0xffffffff status=0/0bh

    Breaks::

        1us identify cns=0x10 nsid=0xfffffffe

    Silent::

        1us identify cns=2 nsid=0xfffffffd
    """
    if command.cns in BEHIND_NSID and command.field("NSID") > LAST_NAMESPACE and command.completed:
        yield expect(command.failed, f"the namespaces behind {command.field('NSID'):X}h were listed", command)


@rule("NVM21-5.1.13-n18", spec="NVMe Base 2.1, 5.1.13.2.16", party="controller")
def secondary_controllers_misplaced(command: Identify, session: Session) -> Iterator[Verdict]:
    """A Secondary Controller List rises by CNTLID, names the virtual functions that there are, and its own primary.

    A host gives the virtual function away that it finds there.

    Holds::

        0us function_config total_vfs=2 first_vf=1 vf_stride=1
        1us identify_controller function=01:00.1
            data cntlid=1
        2us identify cns=0x15
            data raw=1 size=96
            data raw=0x00010001000000000001 at=32

    Breaks::

        2us identify cns=0x15
            data raw=2 size=96
            data raw=0x00010001000000000002 at=32
            data raw=0x00020001000000000001 at=64

    Breaks::

        0us function_config total_vfs=2 first_vf=1 vf_stride=1
        2us identify cns=0x15
            data raw=1 size=96
            data raw=0x00030001000000000001 at=32

    Breaks::

        0us function_config total_vfs=2 first_vf=1 vf_stride=1
        1us identify_controller function=01:00.2
            data cntlid=2
        2us identify cns=0x15
            data raw=1 size=96
            data raw=0x00020001000000000001 at=32

    Breaks::

        1us identify_controller
            data cntlid=0
        2us identify cns=0x15
            data raw=1 size=96
            data raw=0x00010001000000070001 at=32

    Silent::

        2us identify cns=0x15
            data raw=1 size=32
    """
    if command.cns != Cns.SECONDARY_CONTROLLERS or not command.succeeded:
        return
    data = command.data
    count = None if data is None else data.bytes(0, 1)
    if data is None or count is None:
        yield not_observable("the list was not seen", command)
        return
    controller = session.of_function(command.function)
    own, config = controller.limit("CNTLID"), controller.config
    last, places, whole = command.field("CNTID") - 1, set[int](), True
    wrong = f"it says {count[0]} entries" if count[0] > MOST_SECONDARIES else ""
    for entry in range(1, min(count[0], MOST_SECONDARIES) + 1):
        raw = data.bytes(SECONDARY_ENTRY.size * entry, SECONDARY_ENTRY.size * (entry + 1))
        if raw is None:
            whole = False
            continue
        one = SECONDARY_ENTRY.decode(raw)
        cntlid, number = one["SCID"], one["VFN"]
        function = None if config is None else config.vf(number)
        there = None if function is None else session.functions.get(function)
        identified = None if there is None else there.limit("CNTLID")
        if cntlid <= last:
            wrong = wrong or f"CNTLID {cntlid:X}h follows {max(last, 0):X}h"
        elif own is not None and one["PCID"] != own:
            wrong = wrong or f"CNTLID {cntlid:X}h has the primary {one['PCID']:X}h, it was told by {own:X}h"
        elif number and number in places:
            wrong = wrong or f"VF {number} is in it twice"
        elif config is not None and config.total_vfs is not None and number > config.total_vfs:
            wrong = wrong or f"it names VF {number}, TotalVFs is {config.total_vfs}"
        elif identified is not None and identified != cntlid:
            wrong = wrong or f"VF {number} is CNTLID {cntlid:X}h in it, and calls itself {identified:X}h"
        last = cntlid
        places.add(number)
    if wrong:
        yield broken(f"of the Secondary Controller List {wrong}", command)
    elif whole and count[0]:
        yield held(command)
