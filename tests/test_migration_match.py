"""Which destination received what was read of a source: bytes decide, order only where they cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from lmtrace.pieces import Pieces
from lmtrace.story import state_bytes
from lmtrace_decoders.migration_match import Read, pair

_numbers = count()


@dataclass(eq=False)
class End:
    """A source or a destination of a migration."""

    state: Pieces
    capture: str = "a"
    cntlid: int = 1
    time: int = 0
    resume: tuple[int, int, int] | None = None
    link: int = 0
    reads: list[Read] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(_numbers))

    def __post_init__(self) -> None:
        self.suspended_ps = self.set_ps = self.time
        self.reads = [Read(self.state, 0)]


def state(base: int = 0x10000, head: int = 3, tail: int = 5, vendor: int = 4) -> bytearray:
    queues = [{"QID": number, "PRP1": base + 0x1000 * number, "HP": head, "TP": tail} for number in (1, 2, 3)]
    parts: dict[str, list[dict[str, int]]] = {"header": [], "nvme": [], "vendor": [{"DWORDS": vendor, "FILL": 0x5A}]}
    return bytearray(state_bytes({**parts, "sq": [dict(one) for one in queues], "cq": [dict(one) for one in queues]}))


def seen(data: bytearray, *ranges: tuple[int, int]) -> Pieces:
    return Pieces(bytearray(data), list(ranges) or [(0, len(data))])


def matched(sources: list[End], destinations: list[End]) -> list[tuple[int, int, str, int | None]]:
    """Return (place of the source, place of the destination, how, differing bytes) of every match."""
    found, _ = pair(sources, destinations)
    return sorted(
        (sources.index(one.source), destinations.index(one.destination), one.how, one.differing)
        for one in found.values()
    )


def test_bytes_decide_across_captures() -> None:
    first, second = End(seen(state(head=1))), End(seen(state(head=2)))
    there = [End(seen(state(head=2)), "b"), End(seen(state(head=1)), "b")]
    assert matched([first, second], there) == [(0, 1, "bytes", 0), (1, 0, "bytes", 0)]


def test_csattr_may_differ() -> None:
    changed = state()
    changed[2] = 1
    assert matched([End(seen(state()))], [End(seen(changed), "b")]) == [(0, 0, "bytes", 0)]


def test_a_part_that_agrees_is_enough() -> None:
    data = state()
    part = seen(data, (0, 150))
    assert matched([End(part)], [End(seen(data), "b")]) == [(0, 0, "bytes in part", 0)]
    assert matched([End(seen(data, (0, 60)))], [End(seen(data), "b")]) == []


def test_a_damaged_byte_does_not_lose_the_transfer() -> None:
    for place in (17, 30, 60, 70, 100, 210):
        damaged = state()
        damaged[place] ^= 0x40
        assert matched([End(seen(state()))], [End(seen(damaged), "b")]) == [(0, 0, "bytes with differences", 1)], place


def test_another_tenants_state_is_not_taken_for_it() -> None:
    assert matched([End(seen(state(base=0x40000)))], [End(seen(state(base=0x90000, head=9)), "b")]) == []


def test_of_two_suspensions_with_the_same_bytes_the_one_that_was_not_undone_led_on() -> None:
    undone = End(seen(state()), time=5, resume=(9, 9, 9))
    assert matched([undone, End(seen(state()), time=20)], [End(seen(state()), "b")]) == [(1, 0, "bytes", 0)]


def test_there_and_back_again() -> None:
    out, back = End(seen(state()), "a", 1, 10), End(seen(state()), "b", 2, 30)
    arrived, returned = End(seen(state()), "b", 2, 20, (1, 1, 1)), End(seen(state()), "a", 1, 40, (1, 1, 1))
    assert matched([out, back], [returned, arrived]) == [(0, 1, "bytes", 0), (1, 0, "bytes", 0)]


def test_within_a_capture_a_state_is_not_set_before_its_source_was_suspended() -> None:
    assert matched([End(seen(state()), time=50)], [End(seen(state()), cntlid=2, time=20)]) == []


def test_order_decides_where_nothing_resembles() -> None:
    source, other = End(seen(state(base=0x40000)), time=10), End(seen(state(base=0x90000, head=9)), cntlid=2, time=20)
    assert matched([source], [other]) == [(0, 0, "order", None)]


def test_bytes_that_were_read_two_ways_do_not_count() -> None:
    source = End(seen(state(tail=9)))
    for entry in range(3):
        source.reads[0].changed.mark(72 + 24 * entry, 76 + 24 * entry)
    for entry in range(3):
        source.reads[0].changed.mark(140 + 24 * entry, 144 + 24 * entry)
    assert matched([source], [End(seen(state(tail=5)), "b")]) == [(0, 0, "bytes in part", 0)]


def test_the_same_tenant_at_another_time_is_not_a_damaged_state() -> None:
    assert matched([End(seen(state(head=3, tail=5)))], [End(seen(state(head=4, tail=6)), "b")]) == []


def test_a_state_without_queues_matches_nothing_across_captures() -> None:
    bare = bytearray(state_bytes({"header": [], "nvme": [{}], "sq": [], "cq": [], "vendor": []}))
    assert matched([End(seen(bare))], [End(seen(bytearray(bare)), "b")]) == []
