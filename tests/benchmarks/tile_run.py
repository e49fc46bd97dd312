"""Make a run of many TLPs by repeating one: its rows again and again, with later ids and times.

``python tests/benchmarks/tile_run.py RUN COPIES FOLDER``
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

REPEATED = ("tlps", "tlp_transactions", "transactions", "children", "doorbells", "properties", "interrupts")


def tile(source: Path, copies: int, target: Path) -> int:
    """Write ``copies`` of a run one behind the other; return the number of TLPs."""
    shutil.copytree(source, target)
    counts = {name: pq.ParquetFile(source / f"{name}.parquet").metadata.num_rows for name in REPEATED}
    summary = json.loads((source / "summary.json").read_text())
    period = summary["captures"][0]["duration_ps"] + 1
    for name in REPEATED:
        table = pq.read_table(source / f"{name}.parquet")
        with pq.ParquetWriter(target / f"{name}.parquet", table.schema) as writer:
            for copy in range(copies):
                writer.write_table(_shifted(table, copy, period, counts))
    summary["captures"][0]["duration_ps"] = period * copies
    (target / "summary.json").write_text(json.dumps(summary))
    return counts["tlps"] * copies


def _shifted(table: pa.Table, copy: int, period: int, counts: dict[str, int]) -> pa.Table:
    own = table.schema.metadata[b"lmtrace.table"].decode()
    for number, field in enumerate(table.schema):
        if field.name.endswith("_ps"):
            step = period
        elif field.name == "id":
            step = counts[own]
        elif field.name.endswith("tlp_id"):
            step = counts["tlps"]
        elif field.name == "transaction_id":
            step = counts["transactions"]
        else:
            continue
        moved = pc.add(table.column(number), pa.scalar(step * copy, field.type))
        table = table.set_column(number, field, moved)
    return table


if __name__ == "__main__":
    print(f"{tile(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])):,} TLPs")
