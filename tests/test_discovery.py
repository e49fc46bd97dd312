"""What the accesses of one page say it is."""

from __future__ import annotations

import pytest

from lmtrace.spec.nvme import Property
from lmtrace_decoders.nvme.discovery import Page

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
