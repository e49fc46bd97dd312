"""Field layouts: where each named field of a structure lies, and which bits are reserved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a little-endian structure.

    ``lo`` counts bits from bit 0 of byte 0. ``used`` is False for a field that the operation ignores: its value
    means nothing and is not a reserved bit either. ``codes`` names the defined values of a coded field;
    ``vendor`` is the range of values left to vendors. Every other value of a coded field is reserved.
    """

    name: str
    lo: int
    width: int
    text: str = ""
    used: bool = True
    codes: Mapping[int, str] | None = None
    vendor: range | None = None

    def of(self, data: bytes) -> int:
        """Return the field's value in ``data``; the structure's byte 0 is ``data[0]``."""
        first, last = self.lo // 8, (self.lo + self.width + 7) // 8
        return int.from_bytes(data[first:last], "little") >> (self.lo % 8) & ((1 << self.width) - 1)

    def reserved_code(self, value: int) -> bool:
        """Whether ``value`` is a coded value that the specification keeps reserved."""
        if self.codes is None or value in self.codes:
            return False
        return self.vendor is None or value not in self.vendor

    @property
    def place(self) -> str:
        """The field's place, as ``bytes 3:2`` or ``byte 2 bit 0``."""
        first, last = self.lo // 8, (self.lo + self.width - 1) // 8
        if self.lo % 8 == 0 and self.width % 8 == 0:
            return f"byte {first}" if first == last else f"bytes {last}:{first}"
        hi = self.lo % 8 + self.width - 1
        if first == last:
            return f"byte {first} bit {hi}" if self.width == 1 else f"byte {first} bits {hi}:{self.lo % 8}"
        return f"bits {self.lo + self.width - 1}:{self.lo}"


@dataclass(frozen=True, slots=True)
class Layout:
    """A structure of ``size`` bytes with its fields and the section that defines it."""

    name: str
    section: str
    size: int
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        taken = 0
        for field in self.fields:
            mask = ((1 << field.width) - 1) << field.lo
            if taken & mask or field.lo + field.width > 8 * self.size:
                raise ValueError(f"{self.name}: field {field.name} overlaps another or leaves the structure")
            taken |= mask

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.name} has no field {name}")

    def decode(self, data: bytes, offset: int = 0) -> dict[str, int]:
        """Return every field's value by name, read from ``data[offset:offset + size]``.

        Raises ValueError when ``data`` is shorter than the structure.
        """
        if len(data) < offset + self.size:
            raise ValueError(f"{self.name} needs {self.size} bytes at {offset}, {len(data) - offset} are there")
        part = bytes(data[offset : offset + self.size])
        return {field.name: field.of(part) for field in self.fields}

    def encode(self, **values: int) -> bytes:
        """Return the structure with the given fields set and every other bit 0."""
        number = 0
        for name, value in values.items():
            field = self[name]
            if not 0 <= value < 1 << field.width:
                raise ValueError(f"{self.name}.{name} is {field.width} bits wide, {value:#x} does not fit")
            number |= value << field.lo
        return number.to_bytes(self.size, "little")

    @property
    def reserved_mask(self) -> int:
        """The reserved bits as one number; bit 0 is bit 0 of byte 0."""
        mask = (1 << 8 * self.size) - 1
        for field in self.fields:
            mask &= ~(((1 << field.width) - 1) << field.lo)
        return mask

    def reserved_bits(self, data: bytes, offset: int = 0, known: int | None = None) -> list[int]:
        """Return the numbers of the reserved bits that are 1 in ``data[offset:offset + size]``.

        A shorter ``data`` is judged as far as it goes. ``known`` masks the bits that were really seen.
        """
        number = int.from_bytes(data[offset : offset + self.size], "little") & self.reserved_mask
        if known is not None:
            number &= known
        return [bit for bit in range(number.bit_length()) if number >> bit & 1]

    def reserved_codes(self, data: bytes) -> Iterator[tuple[Field, int]]:
        """Yield every used coded field of ``data`` whose value is reserved, with that value."""
        for field in self.fields:
            if field.used and field.reserved_code(value := field.of(data)):
                yield field, value


def at(name: str, last: int, first: int, text: str = "", **more: object) -> Field:
    """Return a field that fills the bytes ``last:first``, in the specification's order of writing."""
    return Field(name, 8 * first, 8 * (last - first + 1), text, **more)  # type: ignore[arg-type]


def bits(name: str, byte: int, hi: int, lo: int, text: str = "", **more: object) -> Field:
    """Return the field of bits ``hi:lo`` of a little-endian word that starts at ``byte``."""
    return Field(name, 8 * byte + lo, hi - lo + 1, text, **more)  # type: ignore[arg-type]


def describe_bits(numbers: list[int]) -> str:
    """Return bit numbers of a structure as ``byte 5 bit 3, byte 8 bits 7:0``."""
    parts: list[str] = []
    index = 0
    while index < len(numbers):
        end = index
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1 and numbers[end + 1] % 8:
            end += 1
        byte, lo, hi = numbers[index] // 8, numbers[index] % 8, numbers[end] % 8
        parts.append(f"byte {byte} bit {lo}" if lo == hi else f"byte {byte} bits {hi}:{lo}")
        index = end + 1
    return ", ".join(parts[:6]) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")
