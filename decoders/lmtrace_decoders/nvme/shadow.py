"""What every logical block touched should hold: a hash table from namespace and LBA to the digest last written.

Memory is bounded by the blocks touched. What two overlapping commands left, what failed, and what was never seen is
unknown, never wrong.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from lmtrace.native import njit
from lmtrace_decoders.nvme.digests import digest

MOST_BLOCKS = 1 << 22
"""Blocks that are remembered; what is touched beyond them stays unknown."""
LARGE_RANGE = 4096
"""Blocks of a range that are all remembered; of larger ones only those that were already."""
NAMESPACE_SHIFT = 52
MOST_NAMESPACES = 1 << 11
MOST_LBA = 1 << NAMESPACE_SHIFT


class Basis(IntEnum):
    """Why a block should hold what it should; the position is the code used in memory and in `BASES`."""

    UNKNOWN = 0
    WRITTEN = 1
    COPIED = 2
    READ = 3
    ZEROES = 4
    DEALLOCATED = 5
    UNCORRECTABLE = 6
    FORMATTED = 7
    SANITIZED = 8


BASES = tuple(one.name.lower() for one in Basis)
OTHERS = len(BASES)
WHO_SHIFT = 44

RECORD = np.dtype([
    ("key", "<u8"), ("value", "<u8"), ("start", "<i8"), ("end", "<i8"), ("writer", "<i8"), ("basis", "u1"),
    ("known", "u1"), ("busy", "<u2"),
])  # fmt: skip
"""One block: its key plus 1, 0 for a free place; the digest; fetch and completion of the command that changed it last
(TLP ids) and that writer. ``known`` says of a deallocated block that ``value`` was known before, of a zeroed one
that it may have been deallocated. Of a formatted or sanitized block
``value`` is what must not come back. ``busy`` counts the commands in flight that change it."""

TALLY = np.dtype([
    ("judged", "<i8"), ("differ", "<i8"), ("first", "<i8"), ("writer", "<i8"), ("expected", "<u8"), ("found", "<u8"),
])  # fmt: skip
"""What comparing blocks gave, for one basis: the first that differs, with what it should hold and what it does."""

_UNKNOWN, _WRITTEN, _READ, _ZEROES, _DEALLOCATED, _UNCORRECTABLE = (
    int(one) for one in (Basis.UNKNOWN, Basis.WRITTEN, Basis.READ, Basis.ZEROES, Basis.DEALLOCATED, Basis.UNCORRECTABLE)
)

_FORMATTED = int(Basis.FORMATTED)


@njit(cache=True)
def _place(table, key):  # type: ignore[no-untyped-def]
    """Return where a key is, or the free place where it would go."""
    mixed = (key ^ (key >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64((mixed >> np.uint64(17)) & np.uint64(len(table) - 1))
    while table[at]["key"] != 0 and table[at]["key"] != key:
        at = (at + 1) & (len(table) - 1)
    return at


@njit(cache=True)
def _begin(table, first, count, state):  # type: ignore[no-untyped-def]
    for i in range(count):
        key = first + np.uint64(i)
        at = _place(table, key)
        if table[at]["key"] == 0:
            table[at]["key"] = key
            table[at]["start"] = table[at]["end"] = -1
            state[0] += 1
        table[at]["busy"] += 1


@njit(cache=True)
def _end(table, first, count, values, whole, basis, start, end, writer, counted, released):  # type: ignore[no-untyped-def]
    for i in range(count):
        at = _place(table, first + np.uint64(i))
        if table[at]["key"] == 0:
            continue
        if counted and table[at]["busy"] > 0:
            table[at]["busy"] -= 1
        alone = table[at]["busy"] == 0 and table[at]["end"] < start
        before = table[at]["basis"]
        if not alone or not whole[i]:
            table[at]["basis"] = _UNKNOWN
        elif basis == _DEALLOCATED:
            table[at]["known"] = _WRITTEN <= before <= _READ
            table[at]["basis"] = _DEALLOCATED
        else:
            table[at]["basis"] = basis
            table[at]["value"] = values[i]
            table[at]["known"] = released
        table[at]["start"] = start
        table[at]["end"] = max(end, table[at]["end"])
        table[at]["writer"] = writer


@njit(cache=True)
def _check(table, first, count, values, whole, start, reader, zeroes, ones, tallies, state, room):  # type: ignore[no-untyped-def]
    """Compare blocks that a command showed; a block that was unknown is known from now on."""
    for i in range(count):
        if not whole[i]:
            continue
        key = first + np.uint64(i)
        at = _place(table, key)
        new = table[at]["key"] == 0
        if not new and (table[at]["busy"] > 0 or table[at]["end"] >= start):
            continue
        basis = _UNKNOWN if new else table[at]["basis"]
        value = values[i]
        if basis == _UNKNOWN:
            if new and state[0] >= room:
                continue
            if new:
                table[at]["key"] = key
                state[0] += 1
            table[at]["basis"] = _READ
            table[at]["value"] = value
            table[at]["start"] = table[at]["end"] = start
            table[at]["writer"] = reader
            continue
        expected = table[at]["value"]
        erased = basis >= _FORMATTED
        if basis == _ZEROES:
            expected = np.uint64(0)
            good = value == 0 or (table[at]["known"] == 1 and ones != 0 and value == ones)
        elif basis == _DEALLOCATED:
            good = (zeroes and value == 0) or (ones != 0 and value == ones) or value == expected
            if not table[at]["known"]:
                continue
        elif basis == _UNCORRECTABLE:
            good = False
        elif erased:
            good = value != expected or value == 0 or value == ones
        else:
            good = value == expected
        if table[at]["writer"] >> WHO_SHIFT != reader >> WHO_SHIFT:
            basis += OTHERS
        tallies[basis]["judged"] += 1
        if not good:
            if tallies[basis]["differ"] == 0:
                tallies[basis]["first"] = i
                tallies[basis]["writer"] = table[at]["writer"]
                tallies[basis]["expected"] = expected
                tallies[basis]["found"] = value
            tallies[basis]["differ"] += 1
        if erased or not good:
            # what was read is what the next reader will find; one cause, one accusation
            table[at]["basis"] = _READ
            table[at]["value"] = value
            table[at]["writer"] = reader


@njit(cache=True)
def _read_out(table, first, count, values, whole, start):  # type: ignore[no-untyped-def]
    for i in range(count):
        at = _place(table, first + np.uint64(i))
        known = table[at]["key"] != 0 and table[at]["busy"] == 0 and table[at]["end"] < start
        basis = table[at]["basis"]
        if known and basis == _ZEROES:
            values[i], whole[i] = 0, True
        elif known and _WRITTEN <= basis <= _READ:
            values[i], whole[i] = table[at]["value"], True


@njit(cache=True)
def _settled(table, first, count, start, low, high):  # type: ignore[no-untyped-def]
    found = 0
    for i in range(count):
        at = _place(table, first + np.uint64(i))
        if table[at]["key"] != 0 and table[at]["busy"] == 0 and table[at]["end"] < start:
            found += low <= table[at]["basis"] <= high
    return found


@njit(cache=True)
def _rehash(old, table):  # type: ignore[no-untyped-def]
    for i in range(len(old)):
        if old[i]["key"] != 0:
            table[_place(table, old[i]["key"])] = old[i]


def by(function: int, transaction: int) -> int:
    """Return a writer: a transaction and the number of the function it went to."""
    return function << WHO_SHIFT | transaction


def transaction_of(writer: int) -> int:
    """Return the transaction of a writer."""
    return writer & ((1 << WHO_SHIFT) - 1)


class Shadow:
    """Every namespace's blocks, as far as they were touched. Orders are TLP ids, writers are `by` their function."""

    def __init__(self) -> None:
        self._table = np.zeros(1 << 12, RECORD)
        self._state = np.zeros(1, np.int64)
        self._pending: list[tuple[int, int, int]] = []
        """(namespace, first, end) of large ranges that are being changed."""
        self._ones: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many blocks are remembered."""
        return int(self._state[0])

    def _reserve(self, count: int) -> bool:
        """Make room for more blocks; return whether there is."""
        wanted = len(self) + count
        if wanted > MOST_BLOCKS:
            return False
        if 2 * wanted > len(self._table):
            table = np.zeros(1 << (2 * wanted - 1).bit_length(), RECORD)
            _rehash(self._table, table)
            self._table = table
        return True

    def begin(self, namespace: int, slba: int, count: int) -> bool:
        """A command that changes blocks was fetched; return whether they are followed, which `end` must be told."""
        if not self._fits(namespace, slba, count):
            return False
        if count > LARGE_RANGE or not self._reserve(count):
            self._pending.append((namespace, slba, slba + count))
            return False
        _begin(self._table, _key(namespace, slba), count, self._state)
        return True

    def end(
        self, namespace: int, slba: int, count: int, basis: Basis, start: int, end: int, writer: int, counted: bool,
        values: np.ndarray | None = None, whole: np.ndarray | None = None, released: bool = False,
    ) -> None:  # fmt: skip
        """A command that changes blocks ended; ``counted`` is what `begin` returned.

        ``values`` are digests, ``whole`` says of which blocks they are complete; without them, all hold what
        ``basis`` says. ``released`` says that zeroed blocks may be deallocated.
        """
        if not self._fits(namespace, slba, count):
            return
        if not counted:
            self._pending = [one for one in self._pending if one != (namespace, slba, slba + count)]
            if count > LARGE_RANGE:
                self._large(namespace, slba, count, basis, start, end, writer)
                return
        values = np.zeros(count, np.uint64) if values is None else values
        whole = np.ones(count, np.bool_) if whole is None else whole
        _end(
            self._table, _key(namespace, slba), count, values, whole, int(basis), start, end, writer, counted, released
        )  # fmt: skip

    def _large(
        self, namespace: int, slba: int, count: int, basis: Basis, start: int, end: int, writer: int
    ) -> None:  # fmt: skip
        """Change the blocks of a large range that are remembered."""
        table = self._table
        first = np.uint64(_key(namespace, slba))
        hit = np.flatnonzero((table["key"] >= first) & (table["key"] - first < np.uint64(count)))
        alone = (table["busy"][hit] == 0) & (table["end"][hit] < start)
        before = table["basis"][hit]
        if basis is Basis.DEALLOCATED:
            table["known"][hit] = (before >= _WRITTEN) & (before <= _READ)
        table["basis"][hit] = np.where(alone, int(basis), _UNKNOWN)
        table["start"][hit], table["end"][hit], table["writer"][hit] = start, end, writer

    def forget(self, namespace: int, order: int, basis: Basis = Basis.UNKNOWN) -> None:
        """What a namespace holds is not known any more from ``order`` on; with a ``basis``, not what it held."""
        hit = self._table["key"] >> np.uint64(NAMESPACE_SHIFT) == np.uint64(namespace)
        held, busy = self._table["basis"][hit], self._table["busy"][hit]
        erased = (held >= _WRITTEN) & (held <= _READ) & (busy == 0)
        self._table["basis"][hit] = np.where(erased, int(basis), _UNKNOWN)
        self._table["end"][hit] = order

    def check(
        self, namespace: int, slba: int, values: np.ndarray, whole: np.ndarray, size: int, start: int, reader: int,
        deallocated: int,
    ) -> np.ndarray:  # fmt: skip
        """Compare what a command showed of blocks with what they should hold; return a TALLY for each basis.

        The first half is about blocks that a command of the same function changed last, the second about others.

        ``size`` is that of a block in bytes, ``deallocated`` is DLFEAT[2:0] of the namespace: what a deallocated
        block reads as, 0 for not reported.
        """
        tallies = np.zeros(2 * OTHERS, TALLY)
        count = len(values)
        last = slba + count
        busy = any(one[0] == namespace and one[1] < last and slba < one[2] for one in self._pending)
        if busy or not self._fits(namespace, slba, count):
            return tallies
        room = MOST_BLOCKS if self._reserve(count) else len(self)
        ones = 0 if deallocated == 1 else self.ones(size)
        _check(
            self._table, _key(namespace, slba), count, values, whole, start, reader, deallocated != 2,
            np.uint64(ones), tallies, self._state, room,
        )  # fmt: skip
        return tallies

    def read_out(self, namespace: int, slba: int, count: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (digests of blocks, which of them are known) as a command fetched at ``start`` finds them."""
        values, whole = np.zeros(count, np.uint64), np.zeros(count, np.bool_)
        if self._fits(namespace, slba, count):
            _read_out(self._table, _key(namespace, slba), count, values, whole, start)
        return values, whole

    def settled(self, namespace: int, slba: int, count: int, start: int, bases: tuple[Basis, Basis]) -> int:
        """Return how many blocks are surely of a basis between two for a command fetched at ``start``."""
        last = slba + count
        if not self._fits(namespace, slba, count) or any(
            one[0] == namespace and one[1] < last and slba < one[2] for one in self._pending
        ):
            return 0
        return int(_settled(self._table, _key(namespace, slba), count, start, int(bases[0]), int(bases[1])))

    def ones(self, size: int) -> int:
        """Return the digest of a block of ones."""
        if size not in self._ones:
            self._ones[size] = digest(b"\xff" * size)
        return self._ones[size]

    def _fits(self, namespace: int, slba: int, count: int) -> bool:
        return 0 <= namespace < MOST_NAMESPACES and count > 0 and slba + count < MOST_LBA


def _key(namespace: int, slba: int) -> np.uint64:
    return np.uint64((namespace << NAMESPACE_SHIFT | slba) + 1)
