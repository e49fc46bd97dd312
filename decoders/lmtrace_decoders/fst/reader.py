"""Fast signal traces as captures: structure, hierarchy, binding, values, assembly."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from lmtrace.compressed import GZIP, ZSTD, blocks
from lmtrace.errors import CaptureError
from lmtrace.stage import Format, Link, Request, TlpChunk, register_format
from lmtrace_decoders.fst.hierarchy import GZIP_WBITS, read_hierarchy
from lmtrace_decoders.fst.structure import WRAPPER, WRAPPER_HEAD, Structure, looks_like, read_structure
from lmtrace_decoders.fst.values import Values
from lmtrace_decoders.interfaces.signals import Signal
from lmtrace_decoders.interfaces.waveform import bind, binding_text

BLOCK = 1 << 20


class FstReader:
    """A fast signal trace."""

    format = "fst"

    def __init__(self, request: Request) -> None:
        """Look at the blocks, read the hierarchy and bind the links.

        Raises CaptureError for a file that cannot be used, BindingError for a binding that does not fit, and
        CaptureError when there is no binding and no bus is recognised.
        """
        self._request = request
        self._plain = _Plain(request.path)
        self._structure, signals = _read(request, self._plain.path)
        self._waveform = bind(request, signals)

    @property
    def links(self) -> list[Link]:
        """The links; their texts are final once ``chunks`` gave the first chunk."""
        return self._waveform.links

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order in which they began."""
        values = Values(self._request, self._plain.path, self._structure, self._waveform.plan, self.links)
        try:
            yield from self._waveform.tlps(values.beats())
        finally:
            self._plain.close()


class _Plain:
    """The file itself, or what is packed in it, unpacked aside: libfst seeks, so it needs a file.

    Raises CaptureError when the file cannot be opened, or is cut or damaged where it is packed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside: list[IO[bytes]] = []
        try:
            with path.open("rb") as file:
                head = file.read(4)
        except OSError as error:
            raise CaptureError(f"cannot open {path}: {error.strerror or error}") from error
        try:
            if head[:2] == GZIP or head == ZSTD:
                _unpack(path, self._next())
            with self.path.open("rb") as file:
                if file.read(1) == bytes([WRAPPER]):
                    _unwrap(path.name, file, self._next())
        except BaseException:
            self.close()
            raise

    def _next(self) -> IO[bytes]:
        """Return a new file that is now the one to read."""
        self._aside.append(tempfile.NamedTemporaryFile(prefix="lmtrace-", suffix=".fst"))  # noqa: SIM115
        self.path = Path(self._aside[-1].name)
        return self._aside[-1]

    def close(self) -> None:
        """Remove what was unpacked."""
        for file in self._aside:
            file.close()
        self._aside.clear()


def _unpack(path: Path, to: IO[bytes]) -> None:
    """Unpack a gzip or Zstandard file."""
    cut: list[tuple[int, str, bool]] = []
    for block in blocks(path, BLOCK, damage=lambda *what: cut.append(what)):
        to.write(block)
    to.flush()
    for at, why, _ in cut:
        raise CaptureError(
            f"{path.name}: the compressed stream ends at byte {at}: {why}; an FST is useless without its end"
        )


def _unwrap(name: str, file: BinaryIO, to: IO[bytes]) -> None:
    """Unpack what follows the first byte of a file that its writer compressed as a whole."""
    head = file.read(WRAPPER_HEAD - 1)
    if len(head) < WRAPPER_HEAD - 1 or not any(head[:8]):
        raise CaptureError(f"{name}: the wrapped file was never finished; write it again")
    size = left = int.from_bytes(head[8:], "big")
    packed, data = zlib.decompressobj(GZIP_WBITS), b""
    try:
        while left and not packed.eof:
            data = packed.unconsumed_tail or file.read(BLOCK)
            piece = packed.decompress(data, min(left, BLOCK))
            if not data and not piece:
                break
            to.write(piece)
            left -= len(piece)
    except zlib.error as error:
        raise CaptureError(f"{name}: the wrapped file is damaged, {size - left} bytes in: {error}") from None
    if left:
        raise CaptureError(f"{name}: the wrapped file ends after {size - left} of {size} bytes; it was cut")
    to.flush()


def _read(request: Request, file: Path) -> tuple[Structure, list[Signal]]:
    structure = read_structure(file, request.path.name)
    return structure, read_hierarchy(file, request.path.name, structure)


def _find(request: Request) -> str:
    """Return a binding to start from: every bus recognised in the file."""
    plain = _Plain(request.path)
    try:
        return binding_text(request.path.name, _read(request, plain.path)[1])
    finally:
        plain.close()


register_format(Format("fst", (".fst",), looks_like, FstReader, _find, grows=False))
