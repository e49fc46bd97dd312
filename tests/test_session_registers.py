"""What the session knows of the properties of a controller."""

from __future__ import annotations

from lmtrace.events import PropertyAccess, Reset
from lmtrace.session.registers import RegisterHistory, Registers
from lmtrace.spec.nvme import Property


def _access(order: int, name: str, value: int, write: bool = True, **more: int) -> PropertyAccess:
    return PropertyAccess(
        order=order, write=write, property=name, value=value, offset=more.get("offset"), size=more.get("size"),
        overtaken=bool(more.get("overtaken")),
    )  # fmt: skip


def test_wide_property_is_known_once_both_dwords_were_written_in_either_order() -> None:
    registers = Registers()
    registers.note(_access(1, "ASQ", 1, offset=Property.ASQ + 4, size=4))
    assert registers.value(Property.ASQ) is None
    registers.note(_access(2, "ASQ", 0x5000, offset=Property.ASQ, size=4))
    assert registers.value(Property.ASQ) == 0x1_0000_5000


def test_admin_queues_outlive_a_reset_by_cc_but_no_other() -> None:
    registers = Registers()
    registers.note(_access(1, "AQA", 0x1F001F))
    registers.note(_access(2, "INTMS", 1))
    registers.reset(Reset(order=3))
    assert registers.value(Property.AQA) == 0x1F001F
    assert registers.value(Property.INTMS) is None
    registers.reset(Reset(order=4, how="FLR"))
    assert registers.value(Property.AQA) is None
    seen = registers.written[Property.AQA].reset
    assert seen is not None and seen.how == "FLR"


def test_enabling_and_disabling_are_changes_of_en() -> None:
    registers = Registers()
    registers.note(_access(1, "CC", 0))
    assert registers.disable is None
    registers.note(_access(2, "CC", 1))
    assert registers.enable is not None
    registers.note(_access(3, "CSTS", 1, write=False))
    registers.note(_access(4, "CC", 0))
    assert registers.enable is None and registers.disable is not None and not registers.statuses


def test_reads_that_found_nobody_or_were_overtaken_say_nothing() -> None:
    registers = Registers()
    registers.note(_access(1, "CSTS", 0xFFFFFFFF, write=False))
    assert registers.gone is not None and not registers.statuses
    registers.note(_access(2, "CSTS", 1, write=False, overtaken=1))
    assert registers.gone is None and not registers.statuses


def test_turned_bytes_show_in_version_and_status() -> None:
    for name, value, turned in (
        ("VS", 0x20100, False), ("VS", 0x10400, False), ("VS", 0x40100, True), ("CSTS", 9, False),
        ("CSTS", 0x1000000, True), ("CSTS", 0xFFFFFFFF, False),
    ):  # fmt: skip
        history = RegisterHistory()
        history.note(_access(1, name, value, write=False))
        assert history.bytes_turned is turned, (name, value)
