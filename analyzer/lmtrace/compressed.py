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
from lmtrace.trouble import declare

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"

DAMAGED = declare(
    "compressed-stream-damaged", "data-loss",
    "The compressed file is damaged, so that what was read before that place may be wrong too; copy it again, or see "
    "what gzip -t or zstd -t says.",
    doubt=True,
)  # fmt: skip


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

            reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(raw, read_across_frames=True)
            yield cast(BinaryIO, reader)
        else:
            yield cast(BinaryIO, raw)


def blocks(
    path: Path, size: int = 1 << 22, progress: Callable[[int, int], None] | None = None,
    damage: Callable[[int, str, bool], None] | None = None,
) -> Iterator[bytes]:  # fmt: skip
    """Yield the uncompressed bytes of a capture in blocks of at most ``size``.

    ``progress`` is told (bytes of the file read, bytes of the file). A stream that is cut or corrupt ends at the last
    good byte; ``damage`` is then told the offset in the uncompressed stream, the reason, and whether what came before
    is in doubt (`DAMAGED`), as behind a wrong checksum.
    """
    total = path.stat().st_size if path.exists() else 0
    position = 0
    with opened(path) as stream:
        raw = getattr(stream, "fileobj", None) or stream
        read = getattr(stream, "read1", stream.read)
        while True:
            reason: str | None = None
            doubt = False
            parts: list[bytes] = []
            left = size
            try:
                while left and (part := read(left)):
                    parts.append(part)
                    left -= len(part)
            except (EOFError, OSError, ZlibError) as error:
                reason = str(error)
                doubt = not isinstance(error, EOFError) and "Not a gzipped file" not in reason
            except Exception as error:
                if type(error).__module__.split(".")[0] != "zstandard":
                    raise
                reason = str(error)
                doubt = "checksum" in reason
            block = parts[0] if len(parts) == 1 else b"".join(parts)
            position += len(block)
            if block:
                yield block
            elif reason is None:
                reason = _cut_zstandard(path)
                if reason is None:
                    return
            if reason is None:
                if progress is not None:
                    try:
                        progress(min(total, raw.tell()), total)
                    except (AttributeError, OSError, io.UnsupportedOperation):
                        progress(min(total, position), total)
                continue
            if damage is not None:
                damage(position, reason, doubt)
            return


def _cut_zstandard(path: Path) -> str | None:
    """Return what is wrong when a Zstandard file ends inside a frame, which its decoder passes over in silence."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        at = 0
        while at < size:
            file.seek(at)
            start = file.read(18)
            if start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
                at += 8 + int.from_bytes(start[4:8], "little")
                continue
            if start[:4] != ZSTD or len(start) < 5:
                return "the last frame is cut" if at and ZSTD.startswith(start[:4]) else None
            kind = start[4]
            at += 5 + (not kind >> 5 & 1) + (0, 1, 2, 4)[kind & 3] + (kind >> 5 & 1, 2, 4, 8)[kind >> 6]
            last = False
            while not last:
                file.seek(at)
                head = int.from_bytes(file.read(3).ljust(3, b"\0"), "little")
                last = bool(head & 1) or at + 3 > size
                at += 3 + (1 if head >> 1 & 3 == 1 else head >> 3)
            at += 4 * (kind >> 2 & 1)
    return "the last frame is cut" if at > size else None


def head(path: Path, size: int, damage: Callable[[int, str, bool], None] | None = None) -> bytes:
    """Return up to ``size`` uncompressed bytes from the start of a capture, fewer when it is shorter or cut.

    ``damage`` is told of what ends it early, as by `blocks`.
    """
    data = b""
    for block in blocks(path, size, damage=damage):
        data += block
        if len(data) >= size:
            break
    return data[:size]
