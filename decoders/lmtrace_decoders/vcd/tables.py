"""The tables by which the scan finds what a change means: identifier codes to slots, slots to words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.sample import slots_of
from lmtrace_decoders.vcd.header import Header
from lmtrace_decoders.vcd.scan import ABSENT, SHORT_CODES, UNBOUND, enter_codes


@dataclass(slots=True)
class Tables:
    """``slots`` as the scan reads them; ``short`` is indexed by codes of up to 3 characters, the rest are hashed."""

    slots: np.ndarray
    short: np.ndarray
    long_keys: np.ndarray
    long_values: np.ndarray


def tables(header: Header, plan: Plan) -> Tables:
    """Return the tables for the signals bound in ``plan``."""
    slots, heads = slots_of(plan)
    codes = sorted(header.codes)
    raw = [code.encode("latin-1") for code in codes]
    ends = np.cumsum([len(code) for code in raw], dtype=np.int64)
    values = np.array([heads.get(code, UNBOUND) for code in codes], np.int32)
    text = np.frombuffer(b"".join(raw), np.uint8)
    long = sum(len(code) > 3 or not code.isascii() for code in codes)
    size = 1 << max(4, (2 * long + 1).bit_length())
    made = Tables(
        slots, np.full(SHORT_CODES, ABSENT, np.int32), np.zeros(size, np.uint64),
        np.full(size, ABSENT, np.int32),
    )  # fmt: skip
    enter_codes(text, ends, values, made.short, made.long_keys, made.long_values)
    return made
