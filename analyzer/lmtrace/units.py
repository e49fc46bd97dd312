"""Times with their units: ``5us`` to picoseconds and back, and other numbers as people write them."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

UNITS: dict[str, int] = {"ps": 1, "ns": 10**3, "us": 10**6, "ms": 10**9, "s": 10**12}
"""Picoseconds in each unit, ascending."""

_TIME = re.compile(r"\s*([-+]?[0-9][0-9_]*(?:\.[0-9]+)?)\s*([a-zµμ]*)\s*", re.IGNORECASE)


def parse_time(text: str) -> int:
    """Return the picoseconds of ``5us`` or ``1.25 ms``; what is finer than 1 ps is dropped.

    Raises ValueError for text without a number, or without one of the units fs, ps, ns, us, ms, s.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time like 5us or 1.25ms")
    number, unit = found[1], re.sub("[µμ]", "u", found[2].lower())
    if not unit:
        raise ValueError(f"{text!r} has no unit; write {number}ns, {number}us or {number}ms")
    if unit not in UNITS and unit != "fs":
        raise ValueError(f"{text!r} has the unit {found[2]!r}; there are fs, {', '.join(UNITS)}")
    try:
        value = Decimal(number.replace("_", ""))
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a time like 5us or 1.25ms") from None
    return int(value * UNITS[unit]) if unit != "fs" else int(value / 1000)


def parse_address(text: str) -> int:
    """Return the address of ``1FFDC005h``, ``0x1ffdc005`` or ``1ffdc005``. Raises ValueError for other text."""
    plain = text.strip().lower().replace("_", "").removeprefix("0x").removesuffix("h")
    if not plain or len(plain) > 16 or plain.strip("0123456789abcdef"):
        raise ValueError(f"{text!r} is not an address of up to 64 bits like 1FFDC005h")
    return int(plain, 16)


def exact(ps: int | None) -> str:
    """Return a time in its largest unit with nothing rounded, ``12.345678us``; `parse_time` gives it back."""
    if ps is None:
        return "?"
    unit = _unit(ps)
    whole, rest = divmod(abs(ps), UNITS[unit])
    digits = str(rest).rjust(len(str(UNITS[unit])) - 1, "0").rstrip("0") if rest else ""
    return f"{'-' if ps < 0 else ''}{whole}{'.' + digits if digits else ''}{unit}"


def short(ps: int | None) -> str:
    """Return a time for the eye, four digits at most: ``12.35 us``."""
    if ps is None:
        return "?"
    unit = _unit(ps)
    value = Decimal(ps) / UNITS[unit]
    places = max(0, 3 - max(0, value.copy_abs().adjusted()))
    text = f"{value:.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def _unit(ps: int) -> str:
    fitting = [name for name, size in UNITS.items() if abs(ps) >= size]
    return fitting[-1] if fitting else "ps"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return ``1 rule`` or ``1,204 rules``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(octets: int) -> str:
    """Return a number of bytes for the eye: ``512 B``, ``4 KiB``, ``1.5 MiB``."""
    value, unit = float(octets), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.1f}".rstrip("0").rstrip(".") + f" {unit}"
