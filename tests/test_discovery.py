"""What the accesses of one page say it is."""

from __future__ import annotations

import pytest

from lmtrace.spec.nvme import Property
from lmtrace_decoders.nvme.discovery import Discovery, Facts, Page

QUEUES = {Property.AQA: 0x1F001F, Property.ASQ: 0, Property.ACQ: 0x2000}


@pytest.mark.parametrize(
    ("writes", "properties"),
    [
        ({Property.CC: 0x460001, **QUEUES}, True),
        ({Property.CC: 0, **QUEUES, Property.AQA: 0}, True),
        ({Property.CC: 0, **QUEUES, Property.ACQ: 0}, True),
        ({Property.CC: 0x460001}, False),
        ({0x10: 0, 0x14: 0, 0x18: 0, 0x1C: 1, 0x20: 0, 0x24: 0, 0x28: 0, 0x2C: 1}, False),
        ({0x10: 0xFEE01004, 0x14: 0, 0x18: 0x4022, 0x1C: 0, 0x20: 0xFEE01004, 0x24: 0, 0x28: 0x4023}, False),
    ],
)
def test_properties_and_vector_tables(writes: dict[int, int], properties: bool) -> None:
    page = Page(0, 5)
    page.writes = writes
    assert page.properties is properties


def test_function_with_another_bus_number_is_the_same() -> None:
    discovery = Discovery.__new__(Discovery)
    discovery.requesters, discovery.renumbered = {(0, 0x100): 0, (0, 0x300): 1, (0, 0x401): 2}, {}
    places = ((0x100, 0xFE600000), (0x300, 0xFE600000), (0x401, 0xFE600000))
    given = [Facts(0, function, number, base, "seen") for number, (function, base) in enumerate(places)]
    assert [one.function for one in discovery._renumbered(given)] == [0x100, 0x401]
    assert discovery.requesters == {(0, 0x100): 0, (0, 0x300): 0, (0, 0x401): 2}
    assert discovery.renumbered == {(0, 0x300): 0x100}
