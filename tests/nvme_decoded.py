"""Captures decoded to NVMe tables, whole or from some packet on, and their truth files."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from lmtrace import bindings
from lmtrace.stage import Request, TlpChunk, format_of
from lmtrace.store import Capture, Store
from lmtrace.tables import ROLES
from lmtrace.trouble import Troubles
from lmtrace_decoders.nvme.decode import nvme

Keep = Callable[[np.ndarray], np.ndarray]


@dataclass
class Decoded:
    """The tables of one decoded capture."""

    store: Store
    rows: np.ndarray

    def table(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.store.read(name).to_pylist()
        return found

    def roles(self) -> dict[str, int]:
        return {ROLES[code]: count for code, count in sorted(Counter(self.rows["role"].tolist()).items())}

    def place(self, tlp: int) -> int:
        return int(self.rows["source_offset"][tlp])


@contextmanager
def decoded(path: Path, folder: Path, *, keep: Keep | None = None, binding: Path | None = None) -> Iterator[Decoded]:
    """Decode a capture; ``keep`` tells which TLP rows of a chunk stay, as a recorder that missed the others."""
    troubles = Troubles(path.name)
    bound = bindings.load(binding) if binding else None
    with Store(folder / "out") as store:
        reader = format_of(path).open(Request(path, bound, troubles))
        last = 0
        for chunk in reader.chunks():
            rows = chunk.rows if keep is None else chunk.rows[keep(chunk.rows)]
            store.append_tlps(TlpChunk(rows, chunk.payload))
            last = max(last, int(chunk.rows["time_ps"].max(initial=0)))
        store.captures.append(Capture(path.name, reader.format, list(reader.links), troubles, 0, store.tlp_count, last))
        nvme(store)
        store.finish_tables()
        yield Decoded(store, store.tlps(0, store.tlp_count))


def truth(path: Path) -> list[dict[str, str]]:
    """Return the rows of a ``commands.csv.zst``."""
    with path.open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file).read().decode()
    return list(csv.DictReader(io.StringIO(text)))


def number(text: str) -> int:
    return int(text, 0) if text else 0


def bdf_number(text: str) -> int:
    bus, rest = text.split(":")
    device, function = rest.split(".")
    return int(bus, 16) << 8 | int(device, 16) << 3 | int(function, 16)


def differences(mine: dict[str, Any], real: dict[str, str]) -> dict[str, tuple[Any, Any]]:
    """Return the fields of a command in which the tables and the controller's own record differ."""
    expected: dict[str, Any] = {
        "function": bdf_number(real["bdf"]), "sqid": int(real["sqid"]), "cqid": int(real["cqid"]),
        "cid": int(real["cid"]), "opcode": number(real["opcode"]), "psdt": number(real["flags"]) >> 6,
        "fuse": number(real["flags"]) & 3, "nsid": number(real["nsid"]), "mptr": number(real["mptr"]),
        "dptr1": number(real["prp1"]), "dptr2": number(real["prp2"]),
        **{f"cdw{n}": number(real[f"cdw{n}"]) for n in range(10, 16)},
        "bytes_to_device": number(real["bytes_h2d"]), "bytes_from_device": number(real["bytes_d2h"]),
    }  # fmt: skip
    completed = real["completed"] == "1"
    if completed:
        status = int(real["status"], 16)
        expected |= {
            "outcome": "completed", "sct": status >> 8, "sc": status & 0xFF, "dw0": number(real["cqe_dw0"]),
            "dw1": number(real["cqe_dw1"]), "sqhd": int(real["sqhd"]), "phase": real["phase"] == "1",
        }  # fmt: skip
    found = {name: (mine[name], value) for name, value in expected.items() if mine[name] != value}
    if not completed and mine["outcome"] == "completed":
        found["outcome"] = (mine["outcome"], "not completed")
    return found
