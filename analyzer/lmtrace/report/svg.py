"""What the pictures of a report share: a scale with round ticks, and text that is safe to put into one."""

from __future__ import annotations

import math
from html import escape

from lmtrace.report.words import clean


def safe(text: object) -> str:
    """Return text of a capture for an SVG: escaped, and nothing in it that is not printable."""
    return escape(clean(text))


def ticks(end: float, most: int = 6) -> list[float]:
    """Return 0 and round numbers up to ``end``: steps of 1, 2 or 5 times a power of ten."""
    if end <= 0:
        return [0.0]
    rough = end / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= rough)
    return [number * step for number in range(int(end / step) + 1)]


def text_width(text: str, size: float = 11) -> float:
    """Return about how wide a text is drawn."""
    return 0.58 * size * len(text)
