"""Value change dumps as captures: header, binding, scan, assembly, in one pass over the body."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.compressed import blocks
from lmtrace.stage import CONTENT, Format, Link, Request, TlpChunk, register_format
from lmtrace_decoders.interfaces.waveform import bind, binding_text
from lmtrace_decoders.vcd.body import BLOCK, Body
from lmtrace_decoders.vcd.header import BYTE_ORDER_MARK, Header, read_header

KEYWORDS = (b"$date", b"$version", b"$timescale", b"$comment", b"$scope", b"$var", b"$attrbegin", b"$enddefinitions")


class VcdReader:
    """A value change dump."""

    format = "vcd"
    block = BLOCK
    """Bytes read at a time; what comes out does not depend on it."""

    def __init__(self, request: Request) -> None:
        """Read the header and bind the links.

        Raises CaptureError for a header that cannot be used, BindingError for a binding that does not fit, and
        CaptureError when there is no binding and no bus is recognised.
        """
        self._request = request
        self._header = _header(request)
        self._waveform = bind(request, self._header.signals)

    @property
    def links(self) -> list[Link]:
        """The links; their texts are final once ``chunks`` gave the first chunk."""
        return self._waveform.links

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order in which they began."""
        body = Body(self._request, self._header, self._waveform.plan, self.links, self.block)
        yield from self._waveform.tlps(body.beats())


def _header(request: Request) -> Header:
    return read_header(request.path.name, blocks(request.path, 1 << 20), request.troubles)


def _find(request: Request) -> str:
    """Return a binding to start from: every bus recognised in the dump."""
    return binding_text(request.path.name, _header(request).signals)


def _matches(head: bytes) -> int:
    """Return whether a file begins like a dump: with one of its keywords."""
    return CONTENT * head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(KEYWORDS)


register_format(Format("vcd", (".vcd",), _matches, VcdReader, _find))
