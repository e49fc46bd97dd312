"""Captures as byte streams: plain, gzip or Zstandard, recognised by their first bytes, never by their name."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from zlib import error as ZlibError

from lmtrace.errors import CaptureError

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a capture for reading its uncompressed bytes; several compressed frames in one file are one stream.

    Raises CaptureError when the file cannot be opened.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise CaptureError(f"cannot open {path}: {error.strerror or error}") from error
    with raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic[:2] == GZIP:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw))
        elif magic == ZSTD:
            import zstandard

            reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(
                raw, read_across_frames=True
            )
            yield cast(BinaryIO, reader)
        else:
            yield cast(BinaryIO, raw)


def blocks(
    path: Path, size: int = 1 << 22, progress: Callable[[int, int], None] | None = None,
    damage: Callable[[int, str], None] | None = None,
) -> Iterator[bytes]:  # fmt: skip
    """Yield the uncompressed bytes of a capture in blocks of at most ``size``.

    ``progress`` is told (bytes of the file read, bytes of the file). A stream that is cut or corrupt ends at the last
    good byte; ``damage`` is then told the offset in the uncompressed stream and the reason.
    """
    total = path.stat().st_size if path.exists() else 0
    position = 0
    with opened(path) as stream:
        raw = getattr(stream, "fileobj", None) or stream
        while True:
            try:
                block = stream.read(size)
            except (EOFError, OSError, ZlibError) as error:
                reason = str(error)
            except Exception as error:
                if type(error).__module__.split(".")[0] != "zstandard":
                    raise
                reason = str(error)
            else:
                if not block:
                    return
                position += len(block)
                yield block
                if progress is not None:
                    try:
                        progress(min(total, raw.tell()), total)
                    except (AttributeError, OSError, io.UnsupportedOperation):
                        progress(min(total, position), total)
                continue
            if damage is not None:
                damage(position, reason)
            return


def head(path: Path, size: int) -> bytes:
    """Return up to ``size`` uncompressed bytes from the start of a capture, fewer when it is shorter or cut."""
    data = b""
    for block in blocks(path, size):
        data += block
        if len(data) >= size:
            break
    return data[:size]
