"""What the session learns from Identify data and properties, and how it follows the slots of a data queue."""

from __future__ import annotations

import pytest

from lmtrace.events import CdqEntry, CreateCdq, Identify, PropertyAccess
from lmtrace.known import Known
from lmtrace.pieces import Pieces
from lmtrace.session import DataQueue, Place
from lmtrace.session.controller_memory import ControllerMemory
from lmtrace.session.subsystem import ControllerLists, entry_format
from lmtrace.spec.migration import CREATE_CDQ
from lmtrace.spec.nvme import INVALID_FIELD, SQE, SUCCESS, Admin, Cns, Status


def identify(cns: Cns, data: bytes | None, first: int = 0, status: Status = SUCCESS) -> Identify:
    sqe = SQE.encode(OPC=Admin.IDENTIFY, CDW10=cns | first << 16)
    return Identify(sqe=sqe, status=status, data=None if data is None else Pieces.of(data))


def numbers(*ids: int) -> bytes:
    return b"".join(one.to_bytes(2, "little") for one in (len(ids), *ids)).ljust(4096, b"\0")


def secondaries(*ids: int) -> bytes:
    data = bytearray(4096)
    data[0] = len(ids)
    for number, one in enumerate(ids, 1):
        data[32 * number : 32 * number + 2] = one.to_bytes(2, "little")
    return bytes(data)


def test_both_controller_lists_are_needed_to_know_everyone() -> None:
    lists = ControllerLists()
    lists.note(identify(Cns.CONTROLLER_LIST, numbers(0, 1)), primary=True)
    assert lists.everyone() is None
    lists.note(identify(Cns.SECONDARY_CONTROLLERS, secondaries(1, 2)), primary=True)
    assert lists.everyone() == frozenset({0, 1, 2})


def test_a_list_from_its_middle_is_not_whole() -> None:
    lists = ControllerLists()
    lists.note(identify(Cns.CONTROLLER_LIST, numbers(5, 6), first=5), primary=True)
    lists.note(identify(Cns.SECONDARY_CONTROLLERS, secondaries()), primary=True)
    assert lists.everyone() is None


@pytest.mark.parametrize(("primary", "everyone"), [(True, frozenset({0})), (False, None)])
def test_only_a_primary_controller_has_no_secondaries_to_tell(primary: bool, everyone: frozenset[int] | None) -> None:
    lists = ControllerLists()
    lists.note(identify(Cns.CONTROLLER_LIST, numbers(0)), primary=True)
    lists.note(identify(Cns.SECONDARY_CONTROLLERS, None, status=INVALID_FIELD), primary=primary)
    assert lists.everyone() == everyone


def test_data_not_seen_tell_nothing() -> None:
    lists = ControllerLists()
    cut = identify(Cns.CONTROLLER_LIST, None)
    cut.data = Pieces.of(numbers(0, 1, 2), [0, 4])
    lists.note(cut, primary=True)
    assert not lists.whole and not lists.listed


def test_entry_format_is_byte_24_of_the_nvm_command_set_data() -> None:
    data = bytearray(4096)
    data[24] = 0xC1
    assert entry_format(identify(Cns.IO_CONTROLLER, bytes(data))) == 0xC1
    assert entry_format(identify(Cns.CONTROLLER, bytes(data))) is None


def test_controller_memory_buffer_window() -> None:
    memory = ControllerMemory()
    assert memory.holds(0x8_0000_0000) is Known.UNKNOWN
    memory.note(PropertyAccess(property="CAP", offset=0, size=4, value=0x00FF_07FF))
    assert memory.holds(0x8_0000_0000) is Known.UNKNOWN
    memory.note(PropertyAccess(property="CAP", offset=4, size=4, value=1 << 25))
    memory.note(PropertyAccess(property="CMBMSC", value=0x8_0000_0003, write=True))
    assert memory.holds(0x8_0000_0000) is Known.UNKNOWN
    memory.note(PropertyAccess(property="CMBSZ", value=4 << 12))
    assert memory.holds(0x8_0000_3FFF) is Known.YES
    assert memory.holds(0x8_0000_4000) is Known.NO
    assert memory.holds(0x7_FFFF_FFFF) is Known.NO
    memory.note(PropertyAccess(property="CMBMSC", value=1, write=True))
    assert memory.holds(0x8_0000_0000) is Known.NO


def test_a_read_that_was_refused_tells_nothing() -> None:
    memory = ControllerMemory()
    memory.note(PropertyAccess(property="CAP", value=0xFFFF_FFFF_FFFF_FFFF, completion=1))
    assert memory.holds(0) is Known.UNKNOWN


def queue(dwords: int = 64) -> DataQueue:
    sqe = CREATE_CDQ.encode(OPC=Admin.CONTROLLER_DATA_QUEUE, PC=1, CDQSIZE=dwords, PRP1=0x10000)
    return DataQueue(0x100, 1, CreateCdq(sqe=sqe))


def test_an_entry_out_of_order_is_placed_once() -> None:
    one = queue()
    one.on_entry(CdqEntry(slot=0))
    assert one.place(2) is Place.AHEAD
    one.on_entry(CdqEntry(slot=2))
    assert one.place(1) is Place.LATE
    one.on_entry(CdqEntry(slot=1))
    assert one.place(3) is Place.NEXT
    assert one.place(1) is Place.AGAIN
    assert (one.tail, one.posted, one.unconsumed, one.passes) == (3, 3, 3, None)


def test_passes_count_the_times_the_queue_was_filled() -> None:
    one = queue(16)
    for slot in (0, 1, 0):
        one.on_entry(CdqEntry(slot=slot))
        one.on_head((slot + 1) % 2)
    assert (one.passes, one.tail) == (1, 1)


def test_slots_of_a_scattered_queue() -> None:
    sqe = CREATE_CDQ.encode(OPC=Admin.CONTROLLER_DATA_QUEUE, CDQSIZE=8 * 192, PRP1=0x9000)
    one = DataQueue(0x100, 1, CreateCdq(sqe=sqe, pages=(0x20000, 0x50000)))
    assert one.spans() == [(0x20000, 0x21000), (0x50000, 0x50800)]
    assert one.slot_at(0x50020) == 129
    assert one.slot_at(0x50800) is None
