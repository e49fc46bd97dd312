"""A dump under construction: TLPs played cycle by cycle on the streams of a bus."""

from __future__ import annotations

import io
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from vcd import VCDWriter

from lmtrace_samples.bus import Bus, Packet, Part, Signal, Stream, Value
from lmtrace_samples.tlp_header import Tlp

PERIOD_PS = 4000
"""250 MHz."""
MAX_IDLE = 32
"""Cycles an idle gap is squeezed to."""

_RESET_CYCLES = 16
_ANSWER_CYCLES = 3
_READY, _NOT_READY = 120, 6
"""Bounds of the cycles a ready stays up and down."""
_BUBBLE, _STALE = 0.04, 0.1
"""How often valid falls inside a packet, and how often the data lanes change while it is down."""
_CHUNK = 4096


class _Var:
    """A signal of the dump: its last value, and what stands before and behind a new one."""

    __slots__ = ("last", "name", "scalar", "tail")

    def __init__(self, name: str, width: int, ident: str) -> None:
        self.name, self.scalar = name, width == 1
        self.tail = f"{ident}\n" if width == 1 else f" {ident}\n"
        self.last: Value = "x"

    def text(self, value: Value) -> str:
        if self.scalar:
            return f"{value}{self.tail}"
        return f"b{value:b}{self.tail}" if type(value) is int else f"b{value}{self.tail}"


class _Port:
    """A stream at work: the packet it is in, the beat it shows, and the moods of its ready."""

    __slots__ = (
        "answer_at",
        "link",
        "moved_at",
        "offset",
        "packet",
        "parts",
        "ready",
        "ready_var",
        "shown",
        "side",
        "stream",
        "toggle_at",
        "used",
        "vars",
    )  # fmt: skip

    def __init__(self, link: _Link, side: object, stream: Stream, signals: list[_Var], ready: _Var | None):
        self.link, self.side, self.stream, self.vars, self.ready_var = link, side, stream, signals, ready
        self.packet: Packet | None = None
        self.offset = self.used = self.toggle_at = 0
        self.parts: list[Part] = []
        self.shown = False
        self.ready = True
        self.answer_at: int | None = None
        self.moved_at = 0

    def place(self, packet: Packet | None = None) -> None:
        """Put what fits of the packet in hand, or of a new one, into the beat that is being filled."""
        if packet is not None:
            self.packet, self.offset = packet, 0
        assert self.packet is not None
        at = self.used
        count = min(self.packet.size - self.offset, self.stream.width - at)
        self.parts.append(Part(self.packet, at, self.offset, count))
        self.offset += count
        grain = self.stream.grain
        self.used = -(-(at + max(count, 1)) // grain) * grain
        if self.offset == self.packet.size:
            self.packet = None

    @property
    def room(self) -> bool:
        """Whether a new packet may start in the beat that is being filled."""
        return self.packet is None and self.used < self.stream.width and self.answer_at is None


class _Link:
    """The ports of one link, and the cycle at which its reset ends."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.ports: dict[str, _Port] = {}
        self.reset = _Var("", 1, "")
        self.up_at = 0


class Waveform:
    """A dump under construction: ``play`` appends TLPs, ``close`` writes header and body to a file.

    A TLP starts only after every TLP before it has started, and after every TLP before it that travels the
    other way or on another link has ended: nothing is seen before its cause. Values change just after the
    rising edge, so that a beat is what stood there before the next one. The body is kept in a temporary
    file in ``folder``, because a link is declared when its first TLP comes.
    """

    def __init__(
        self,
        bus: Callable[[], Bus],
        seed: str,
        folder: Path,
        period_ps: int = PERIOD_PS,
        max_idle: int = MAX_IDLE,
    ) -> None:
        self.bus, self.period, self.max_idle = bus, period_ps, max_idle
        self.random = random.Random(seed)
        self.cycle = 1
        self.links: dict[str, _Link] = {}
        self.scopes: set[str] = set()
        self.body = cast(BinaryIO, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        self.out: list[str] = []
        self.header = io.StringIO()
        self.vcd = VCDWriter(self.header, timescale="1 ps", date="", version="lmtrace synth")
        clock = self.vcd.register_var("tb", "clk_250mhz", "wire", 1, init=0)
        self.vcd.register_alias("tb.dut", "clk", clock)
        self.clock, self.clock_ident = clock, clock.ident
        self.counter = self._var("tb.dut.core", Signal("dbg_cycle_reg", 16), "reg")
        self.state = self._var("tb.dut.core", Signal("sched_state", 5), "reg")
        self.uart = self._var("tb", Signal("uart_rxd", 1), "wire")
        self.temperature = self.vcd.register_var("tb.dut.core.sysmon", "temp_celsius", "real", init=36.5).ident
        self.starting: _Port | None = None
        self.busy: list[_Port] = []
        self.silent: list[_Port] = []
        self.next_toggle = 0
        self.seen: tuple[int, int] | None = None

    def _var(self, scope: str, signal: Signal, kind: str = "wire", inner: tuple[str, str] | None = None) -> _Var:
        span = f" [{signal.width - 1}:0]" if signal.width > 1 else ""
        made = self.vcd.register_var(scope, signal.name + span, kind, signal.width, init="x")
        if inner:
            self.vcd.register_alias(inner[0], inner[1] + span, made)
        return _Var(signal.name, signal.width, made.ident)

    def _link(self, name: str) -> _Link:
        link = self.links.get(name)
        if link is None:
            bus = self.bus()
            link = self.links[name] = _Link(bus)
            scope = "tb.dut." + re.sub(r"\W", "_", name or "pcie")
            if scope in self.scopes:
                scope += f"_{len(self.links)}"
            self.scopes.add(scope)
            self.vcd.register_alias(scope, "user_clk", self.clock)
            link.reset = self._var(scope, Signal("user_reset", 1))
            link.up_at = self.cycle + _RESET_CYCLES
            self.next_toggle = 0
            for stream_name, stream in bus.streams.items():
                stream.fill = self.random.choice("0x")

                def add(signal: Signal) -> _Var:
                    inner = (f"{scope}.{bus.inner}", bus.inner_name(signal.name)) if bus.inner else None
                    return self._var(scope, signal, inner=inner)

                signals = [add(signal) for signal in stream.signals]
                ready = add(Signal(stream.ready, 1)) if stream.ready else None
                side = name, stream_name in bus.inward
                link.ports[stream_name] = _Port(link, side, stream, signals, ready)
        return link

    def _change(self, var: _Var, value: Value) -> None:
        if value is not None and value != var.last:
            var.last = value
            self.out.append(var.text(value))

    def play(self, tlps: Iterator[Tlp]) -> None:
        """Append TLPs in order and return when the last has been transferred."""
        queue = iter(tlps)
        head = self._next(queue)
        while head is not None or self.busy:
            if head is not None and not self.busy:
                rest = min(head[2], self.next_toggle, (self.cycle + 15) & ~15) - self.cycle
                if rest > 0:
                    self.idle(rest)
            time = self.cycle * self.period
            out = self.out
            out.append(f"#{time}\n1{self.clock_ident}\n")
            if self.busy:
                self._transfer()
            filling: list[_Port] = []
            for port in self.busy:
                if port.packet is not None and not port.shown:
                    if port.stream.apart and port.moved_at == self.cycle:
                        continue
                    if port.stream.bubbles and self.random.random() < _BUBBLE:
                        continue
                    port.place()
                    filling.append(port)
            while head is not None and self._may_start(head[0], head[2]):
                port, packet = head[0], head[1]
                port.place(packet)
                self.starting = port
                if port not in filling:
                    filling.append(port)
                    if port not in self.busy:
                        self.busy.append(port)
                head = self._next(queue)
            if filling or self.silent:
                self._show(filling)
            if self.cycle >= self.next_toggle:
                self._toggle()
            if not self.cycle & 15:
                self._noise(time)
            out.append(f"#{time + self.period // 2}\n0{self.clock_ident}\n")
            self.cycle += 1
            if len(out) > _CHUNK:
                self.flush()

    def _next(self, queue: Iterator[Tlp]) -> tuple[_Port, Packet, int] | None:
        """Return the next TLP's port, its packet and the cycle it is due."""
        tlp = next(queue, None)
        if tlp is None:
            return None
        link = self._link(tlp.link)
        port = link.ports[link.bus.route(tlp)]
        before, due = self.seen or (tlp.time_ps, self.cycle)
        due += min(max(tlp.time_ps - before, 0) // self.period, self.max_idle)
        self.seen = max(tlp.time_ps, before), due
        return port, port.stream.packet(tlp), due

    def _may_start(self, port: _Port, due: int) -> bool:
        if due > self.cycle or self.cycle <= port.link.up_at or port.shown or not port.room:
            return False
        if self.starting is not None and self.starting is not port:
            return False
        if port.stream.apart and port.moved_at == self.cycle:
            return False
        if port.stream.answer is not None:
            return not self.busy
        return all(one.side == port.side for one in self.busy)

    def _transfer(self) -> None:
        """Complete the beats that met a ready; ports that have nothing left are no longer busy."""
        still: list[_Port] = []
        for port in self.busy:
            answer = port.stream.answer
            if port.shown and port.ready:
                port.shown = False
                port.moved_at = self.cycle
                port.parts, port.used = [], 0
                self.silent.append(port)
                if self.starting is port:
                    self.starting = None
                if answer is not None:
                    port.answer_at = self.cycle + _ANSWER_CYCLES
            if answer is not None and port.answer_at is not None:
                self._change(port.vars[answer], int(self.cycle == port.answer_at))
                if self.cycle > port.answer_at:
                    port.answer_at = None
            if port.shown or port.packet is not None or port.answer_at is not None:
                still.append(port)
        self.busy = still

    def _show(self, filling: list[_Port]) -> None:
        """Drive the beats that were filled, and take valid away where the next one is not there yet."""
        for port in filling:
            port.shown = True
            for var, value in zip(port.vars, port.stream.beat(port.parts), strict=True):
                if value is not None and value != var.last:
                    var.last = value
                    self.out.append(var.text(value))
        for port in self.silent:
            if not port.shown:
                self._change(port.vars[port.stream.valid], 0)
                if self.random.random() < _STALE:
                    self._change(port.vars[0], self.random.getrandbits(port.stream.signals[0].width))
        self.silent.clear()

    def _toggle(self) -> None:
        """Drive the resets and the ready signals that are due, and set when the next one is."""
        self.next_toggle = self.cycle + 1000
        for link in self.links.values():
            if self.cycle < link.up_at:
                self._change(link.reset, 1)
                self.next_toggle = min(self.next_toggle, link.up_at)
                continue
            if link.reset.last:
                self._change(link.reset, 0)
                for port in link.ports.values():
                    for signal, var in zip(port.stream.signals, port.vars, strict=True):
                        self._change(var, signal.reset)
            for port in link.ports.values():
                if port.ready_var is None:
                    continue
                if self.cycle >= port.toggle_at:
                    port.ready = port.ready_var.last != 1
                    self._change(port.ready_var, int(port.ready))
                    port.toggle_at = self.cycle + self.random.randrange(1, _READY if port.ready else _NOT_READY)
                self.next_toggle = min(self.next_toggle, port.toggle_at)

    def _noise(self, time: int) -> None:
        """Change signals that have nothing to do with the bus, one of them between the clock edges."""
        self._change(self.counter, self.cycle >> 4 & 0xFFFF)
        if not self.cycle & 127:
            self._change(self.state, self.random.getrandbits(5))
        if not self.cycle & 1023:
            self.out.append(f"r{self.random.uniform(36, 40):.4g} {self.temperature}\n")
            self.out.append(f"#{time + self.period // 5}\n")
            self._change(self.uart, self.random.getrandbits(1))

    def idle(self, cycles: int) -> None:
        """Let the clock run with nothing on the buses."""
        for cycle in range(self.cycle, self.cycle + cycles):
            time = cycle * self.period
            self.out.append(f"#{time}\n1{self.clock_ident}\n#{time + self.period // 2}\n0{self.clock_ident}\n")
        self.cycle += cycles

    def restate(self) -> None:
        """Write every signal's value again, at the time of the last change."""
        for link in self.links.values():
            ports = link.ports.values()
            every = [link.reset, *(var for port in ports for var in (*port.vars, port.ready_var) if var)]
            self.out += [var.text(var.last) for var in every if var.last is not None]
        self.out += [var.text(var.last) for var in (self.counter, self.state, self.uart) if var.last is not None]

    def flush(self) -> None:
        """Move what is written so far to the temporary file."""
        self.body.write("".join(self.out).encode("ascii"))
        self.out.clear()

    def close(self, file: BinaryIO) -> None:
        """Write header and body to ``file``; nothing can be played after that."""
        self.flush()
        self.vcd.close()
        file.write(self.header.getvalue().encode("ascii"))
        self.body.seek(0)
        shutil.copyfileobj(self.body, file, 1 << 20)
        self.body.close()
