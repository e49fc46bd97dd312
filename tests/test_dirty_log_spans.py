"""Ranges of blocks in order, against a plain list of blocks."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from lmtrace_decoders.dirty_log.spans import Spans

SIZE = 60


@pytest.mark.parametrize("seed", range(40))
def test_spans_say_what_a_list_of_blocks_says(seed: int) -> None:
    rng = Random(seed)
    spans: Spans[int] = Spans()
    blocks: list[int | None] = [None] * SIZE
    for _ in range(60):
        start, end = sorted((rng.randrange(SIZE), rng.randrange(SIZE + 1)))
        value = rng.randrange(3)
        spans.put(start, end, value)
        blocks[start:end] = [value] * (end - start)
        first, last = sorted((rng.randrange(SIZE), rng.randrange(SIZE + 1)))
        parts = spans.parts(first, last)
        assert [one for a, b, one in parts for _ in range(a, b)] == blocks[first:last]
        assert all(one[1] == other[0] for one, other in pairwise(parts))
        assert all(one[2] != other[2] for one, other in pairwise(parts)), "neighbours are merged"
        assert spans.touches(first, last) == any(one is not None for one in blocks[first:last])
        assert [at for a, b in spans.gaps(first, last) for at in range(a, b)] == [
            at for at in range(first, last) if blocks[at] is None
        ]
