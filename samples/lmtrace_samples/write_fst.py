"""FST of a user interface, in one of the bus conventions: what `write_vcd` writes, handed to libfst."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lmtrace.errors import UsageError
from lmtrace.scenario import WireTlp, writer
from lmtrace_samples.write_vcd import played

TICK = -12
"""A tick is 10**-12 seconds, as in the dump."""


@writer(".fst")
def write_fst(tlps: Iterator[WireTlp], path: Path, bus: str, seed: int) -> None:
    """Write TLPs as `write_vcd` does, in the format of GTKWave.

    Raises UsageError where libfst cannot be had, and as `write_vcd` does.
    """
    try:
        from pylibfst import ffi, lib
    except ImportError as error:
        raise UsageError(
            f"writing FST needs the package pylibfst ({error}); it exists for Python before 3.14. Write a VCD"
        ) from None
    wave = played(tlps, path.parent, bus, seed)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with tempfile.TemporaryFile(dir=path.parent) as dump:
            wave.close(dump)
            dump.seek(0)
            context = lib.fstWriterCreate(os.fsencode(aside), 1)
            if context == ffi.NULL:
                raise UsageError(f"cannot write {path}")
            try:
                _Copy(ffi, lib, context).lines(dump)
            finally:
                lib.fstWriterClose(context)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


class _Copy:
    """A dump of ours going into an FST: one statement or change a line, scalars, vectors and reals."""

    def __init__(self, ffi: Any, lib: Any, context: Any) -> None:
        self.ffi, self.lib, self.context = ffi, lib, context
        self.nets: dict[str, tuple[int, int]] = {}
        lib.fstWriterSetTimescale(context, TICK)
        lib.fstWriterSetVersion(context, b"lmtrace synth")
        lib.fstWriterSetDate(context, b"")
        lib.fstWriterSetPackType(context, lib.FST_WR_PT_LZ4)

    def lines(self, dump: BinaryIO) -> None:
        """Take every line."""
        lib, context, nets = self.lib, self.context, self.nets
        for raw in dump:
            line = raw.decode("ascii").rstrip()
            match line[:1]:
                case "$":
                    self.statement(line.split())
                case "#":
                    lib.fstWriterEmitTimeChange(context, int(line[1:]))
                case "b":
                    digits, code = line[1:].split()
                    net, width = nets[code]
                    fill = "0" if digits[0] == "1" else digits[0]
                    lib.fstWriterEmitValueChange(context, net, digits.rjust(width, fill).encode())
                case "r":
                    number, code = line[1:].split()
                    lib.fstWriterEmitValueChange(context, nets[code][0], self.ffi.new("double *", float(number)))
                case "0" | "1" | "x" | "z":
                    lib.fstWriterEmitValueChange(context, nets[line[1:]][0], line[:1].encode())

    def statement(self, words: list[str]) -> None:
        """Take a statement of the header, of which scopes and variables count."""
        lib = self.lib
        if words[0] == "$scope":
            lib.fstWriterSetScope(self.context, lib.FST_ST_VCD_MODULE, words[2].encode(), self.ffi.NULL)
        elif words[0] == "$upscope":
            lib.fstWriterSetUpscope(self.context)
        elif words[0] == "$var":
            kind = {"reg": lib.FST_VT_VCD_REG, "real": lib.FST_VT_VCD_REAL}.get(words[1], lib.FST_VT_VCD_WIRE)
            width, code, name = int(words[2]), words[3], " ".join(words[4:-1])
            alias = self.nets.get(code, (0, 0))[0]
            net = lib.fstWriterCreateVar(self.context, kind, lib.FST_VD_IMPLICIT, width, name.encode(), alias)
            self.nets.setdefault(code, (net, width))
