"""``--columns``: which columns of a CSV are the time, the direction and the bytes of a TLP, or columns of ``tlps``."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.errors import UsageError
from lmtrace.exchange import NEEDS
from lmtrace_decoders.pcap.framing import Framing, parse

UNITS = {"s": 12, "ms": 9, "us": 6, "µs": 6, "ns": 3, "ps": 0}
"""Units of time to the power of ten of a picosecond."""

EACH = -1
"""The unit of a column whose cells have one each."""

_OWN = ("time", "dir", "data", "header")
_FRAMING = ("offset", "dll", "seq", "lcrc", "little", "little-header", "host")


RAW = Framing()


@dataclass(frozen=True, slots=True)
class Columns:
    """What the user said: names of columns by what they hold, and how their cells are written."""

    names: dict[str, str] = field(default_factory=dict)
    """From ``time``, ``data``, ``header`` or a column of ``tlps`` (``direction`` among them) to the file's column."""
    unit: int = 0
    """Of ``time``: the power of ten of a picosecond, or `EACH`."""
    ways: tuple[str, str] | None = None
    """The words for downstream and upstream."""
    hexadecimal: frozenset[str] = frozenset()
    framing: Framing = RAW

    @property
    def whole(self) -> bool:
        """Whether TLPs stand whole in the file, as bytes."""
        return "data" in self.names or "header" in self.names


def parse_columns(text: str) -> Columns:
    """Return what a text like ``time=Time:us,dir=Dir:Host/Device,data=Data`` says.

    Raises UsageError that says which word is wrong and what there is.
    """
    names: dict[str, str] = {}
    unit, ways = 0, None
    hexadecimal: set[str] = set()
    framing: list[str] = []
    for word in _split(text, ","):
        key, _, value = word.partition("=")
        key = key.strip().lower()
        if key in _FRAMING:
            framing.append(word.strip())
            continue
        if key not in _OWN and key not in NEEDS:
            raise UsageError(
                f"columns {text!r}: no word {key!r}; there are {', '.join((*_OWN, *_FRAMING))} and the columns of "
                "lmtrace tlps schema"
            )
        column, _, extra = _last(value)
        if not column:
            raise UsageError(f"columns {text!r}: {key}= names no column of the file")
        name = "direction" if key == "dir" else key
        if name in names:
            raise UsageError(f"columns {text!r}: {key} stands there twice")
        names[name] = column
        if key == "time":
            if extra and extra not in UNITS:
                raise UsageError(f"columns {text!r}: time= takes COLUMN:UNIT, with one of the units s, ms, us, ns, ps")
            unit = UNITS[extra] if extra else EACH
        elif name == "direction" and extra:
            down, slash, up = extra.partition("/")
            if not slash or not down or not up or down == up:
                raise UsageError(f"columns {text!r}: dir= takes COLUMN:DOWN/UP, the words for the two directions")
            ways = down.strip(), up.strip()
        elif extra == "hex" and name in NEEDS:
            hexadecimal.add(name)
        elif extra:
            raise UsageError(f"columns {text!r}: {key}= takes no {extra!r}; put a name with a colon in double quotes")
    return _checked(text, Columns(names, unit, ways, frozenset(hexadecimal), parse(",".join(framing) or "raw")))


def _checked(text: str, found: Columns) -> Columns:
    names = found.names
    if "time" not in names and "time_ps" not in names:
        raise UsageError(f"columns {text!r}: time=COLUMN:UNIT is needed")
    if not found.whole and "kind" not in names:
        raise UsageError(f"columns {text!r}: data=COLUMN, header=COLUMN or kind=COLUMN is needed")
    if "direction" not in names and not (found.whole and found.framing.host is not None):
        raise UsageError(f"columns {text!r}: dir=COLUMN:DOWN/UP is needed, or with data= the host's id, host=00:00.0")
    if not found.whole and found.framing != RAW:
        raise UsageError(f"columns {text!r}: {found.framing} is for data= and header=")
    return found


def _split(text: str, mark: str) -> list[str]:
    """Split at ``mark`` outside double quotes, which stay; empty parts are left out."""
    parts, quoted = [""], False
    for c in text:
        quoted ^= c == '"'
        if c == mark and not quoted:
            parts.append("")
        else:
            parts[-1] += c
    return [part for part in parts if part.strip()]


def _last(value: str) -> tuple[str, str, str]:
    """Return (name, colon, what follows it) of ``NAME:EXTRA`` or ``"NA:ME":EXTRA``, without the quotes."""
    value = value.strip()
    if value.startswith('"'):
        name, _, extra = value[1:].partition('"')
        return name, extra[:1], extra.removeprefix(":").strip()
    name, colon, extra = value.partition(":")
    return name.strip(), colon, extra.strip()
