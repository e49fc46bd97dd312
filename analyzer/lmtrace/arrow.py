"""Arrow arrays from Python values and NumPy arrays.

``pyarrow.array`` imports pandas as a side effect, which takes longer than judging a small capture; these build the
same arrays from buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def column(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Return an Arrow array of Python values, None for null. Integers must fit the type."""
    count = len(values)
    valid = np.fromiter((value is not None for value in values), np.bool_, count)
    nulls = count - int(valid.sum())
    mask = None if nulls == 0 else _bits(valid)
    if pa.types.is_string(type_) or pa.types.is_binary(type_):
        text = pa.types.is_string(type_)
        parts = [b"" if value is None else value.encode() if text else bytes(value) for value in values]
        offsets = _offsets([len(part) for part in parts])
        buffers = [mask, pa.py_buffer(offsets), pa.py_buffer(b"".join(parts))]
        return pa.Array.from_buffers(type_, count, buffers, nulls)
    if pa.types.is_list(type_):
        offsets = _offsets([0 if value is None else len(value) for value in values])
        flat = column([one for value in values if value is not None for one in value], type_.value_type)
        return pa.Array.from_buffers(type_, count, [mask, pa.py_buffer(offsets)], nulls, children=[flat])
    if nulls:
        values = [0 if value is None else value for value in values]
    return from_numpy(np.array(values, _dtype(type_)), type_, valid if nulls else None)


def from_numpy(values: np.ndarray, type_: pa.DataType, valid: np.ndarray | None = None) -> pa.Array:
    """Return an Arrow array over a NumPy array; ``valid`` is a boolean mask of the values that are not null."""
    nulls = 0 if valid is None else int(len(values) - valid.sum())
    mask = _bits(valid) if valid is not None and nulls else None
    if pa.types.is_boolean(type_):
        return pa.Array.from_buffers(type_, len(values), [mask, _bits(values.astype(np.bool_))], nulls)
    data = np.ascontiguousarray(values, dtype=_dtype(type_))
    return pa.Array.from_buffers(type_, len(data), [mask, pa.py_buffer(data)], nulls)


def coded(codes: np.ndarray, words: Sequence[str], valid: np.ndarray | None = None) -> pa.Array:
    """Return a string array of ``words[code]``; codes out of range, or not ``valid``, are null."""
    good = (codes >= 0) & (codes < len(words))
    if valid is not None:
        good &= valid
    indices = from_numpy(np.where(good, codes, 0).astype(np.int32), pa.int32(), good)
    return pa.DictionaryArray.from_arrays(indices, column(list(words) or [""], pa.string())).cast(pa.string())


def to_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers or booleans as a NumPy array, 0 for null."""
    if isinstance(values, pa.ChunkedArray):
        return np.concatenate([to_numpy(one) for one in values.chunks] or [np.zeros(0, _dtype(values.type))])
    if pa.types.is_boolean(values.type):
        data = _unpacked(values.buffers()[1], values)
    else:
        dtype = _dtype(values.type)
        data = np.frombuffer(values.buffers()[1], dtype, len(values), values.offset * dtype.itemsize)
    if values.null_count:
        data = np.where(_unpacked(values.buffers()[0], values), data, data.dtype.type(0))
    return data


def _unpacked(bits: pa.Buffer, values: pa.Array) -> np.ndarray:
    """Return the bits of a validity or boolean buffer that belong to ``values``."""
    end = values.offset + len(values)
    return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little", count=end)[values.offset :].astype(np.bool_)


def _offsets(lengths: list[int]) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if int(offsets[-1]) >= 1 << 31:
        raise OverflowError("more than 2 GiB of text in one batch")
    return offsets.astype(np.int32)


def _bits(values: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _dtype(type_: pa.DataType) -> np.dtype:
    return np.dtype("bool" if pa.types.is_boolean(type_) else type_.to_pandas_dtype())
