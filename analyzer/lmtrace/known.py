"""Three-valued knowledge: what a capture shows to be true, shows to be false, or does not show."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Known(Enum):
    """Yes, no, or not shown by the capture. It has no truth value: compare with ``is``."""

    NO = 0
    YES = 1
    UNKNOWN = 2

    def __bool__(self) -> bool:
        raise TypeError("three-valued: compare with `is Known.YES`, never test it")

    def __invert__(self) -> Known:
        return {Known.NO: Known.YES, Known.YES: Known.NO, Known.UNKNOWN: Known.UNKNOWN}[self]

    def __and__(self, other: Known) -> Known:
        if Known.NO in (self, other):
            return Known.NO
        return Known.UNKNOWN if Known.UNKNOWN in (self, other) else Known.YES

    def __or__(self, other: Known) -> Known:
        return ~(~self & ~other)

    @staticmethod
    def of(value: bool | None) -> Known:
        """Return YES for True, NO for False, UNKNOWN for None."""
        return Known.UNKNOWN if value is None else Known.YES if value else Known.NO

    @staticmethod
    def any(values: Iterable[Known]) -> Known:
        """Return YES if one is, NO if all are NO, else UNKNOWN."""
        result = Known.NO
        for value in values:
            result = result | value
        return result


class Timeline(Generic[T]):
    """A value that changes along the order of the capture; orders given must not go back."""

    __slots__ = ("_orders", "_values")

    def __init__(self, first: T) -> None:
        self._orders: list[int] = [-1]
        self._values: list[T] = [first]

    @property
    def now(self) -> T:
        """The latest value."""
        return self._values[-1]

    @property
    def since(self) -> int:
        """The order at which the latest value began."""
        return self._orders[-1]

    def set(self, order: int, value: T) -> None:
        """The value is ``value`` from ``order`` on."""
        if value == self._values[-1]:
            return
        self._orders.append(max(order, self._orders[-1]))
        self._values.append(value)

    def at(self, order: int) -> T:
        """Return the value just before what happens at ``order``."""
        return self._values[max(bisect_right(self._orders, order - 1) - 1, 0)]

    def during(self, first: int, last: int) -> list[T]:
        """Return the value just before ``first`` and those that began after it and before ``last``, in order.

        What began exactly at ``first`` is left out: it is the effect of the very thing that is being looked at.
        """
        start = max(bisect_right(self._orders, first - 1) - 1, 0)
        after, end = bisect_right(self._orders, first), bisect_right(self._orders, last - 1)
        return [self._values[start], *self._values[after:end]]


def throughout(line: Timeline[Known], first: int, last: int) -> Known:
    """Return the value when it is the same from ``first`` to ``last``, UNKNOWN when it changed in between."""
    values = set(line.during(first, last))
    return values.pop() if len(values) == 1 else Known.UNKNOWN
