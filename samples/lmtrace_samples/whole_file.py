"""A capture file that appears whole or not at all, compressed as its name says."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing beside ``path`` and put it in place when the block ends without an exception.

    A name that ends in ``.gz`` or ``.zst`` is compressed; the same bytes give the same file (the gzip header
    holds no time and no name).
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            elif path.suffix == ".zst":
                with zstandard.ZstdCompressor(level=5).stream_writer(raw, closefd=False) as packer:
                    buffered = io.BufferedWriter(cast(io.RawIOBase, packer), 1 << 20)
                    yield cast(BinaryIO, buffered)
                    buffered.flush()
            else:
                yield raw
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
