"""How a table is declared: once, with its columns, their types and a sentence for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its type (``uint16``, ``str``, ``bytes``, ``bool``, ``list[uint64]``), its meaning."""

    name: str
    type: str
    text: str


@dataclass(frozen=True)
class Table:
    """One table: what one row is, and its columns."""

    name: str
    text: str
    columns: tuple[Column, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The column names in order."""
        return tuple(column.name for column in self.columns)

    def schema(self) -> pa.Schema:
        """Return the Arrow schema, with the schema version and the sentences in its metadata."""
        return self._schema

    @cached_property
    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        plain = {"str": pa.string(), "bytes": pa.binary(), "bool": pa.bool_()}

        def arrow(name: str) -> Any:
            if name.startswith("list["):
                return pa.list_(arrow(name[5:-1]))
            return plain.get(name) or getattr(pa, name)()

        fields = [pa.field(one.name, arrow(one.type), metadata={"text": one.text}) for one in self.columns]
        return pa.schema(fields, metadata={"lmtrace.schema": str(SCHEMA_VERSION), "lmtrace.table": self.name})


def table(name: str, text: str, columns: str) -> Table:
    """Build a table from lines of ``name type sentence``."""
    rows = (line.strip().split(None, 2) for line in columns.splitlines() if line.strip())
    return Table(name, text, tuple(Column(*row) for row in rows))


PLACE = """
id uint64 Row number.
capture str Name of the capture file.
link str Name of the link in the capture.
"""
