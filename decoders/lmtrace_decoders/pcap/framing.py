"""Framings: where in a packet a TLP lies, in words that a user can write.

``nettlp``, ``udp=14198``, ``offset=4,dll,little``, ``tcp=2115,antmicro``: words with commas between them; see `WORDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

from lmtrace.errors import UsageError
from lmtrace.spec.pcie import bdf, bdf_text

Carrier = Literal["packet", "udp", "tcp"]
Order = Literal["big", "little", "little-header"]
Records = Literal["plain", "antmicro", "agilent"]

USER_TYPES = range(147, 163)
PCI_EXPRESS = 125
MOST_OFFSET = 4096

NETTLP_PORTS = (0x3000, 0x4FFF)
NETTLP_HEADER = 6
ANTMICRO_PORT = 2115
AGILENT_TYPE = 158
AGILENT_HEADER = 20

WORDS = """\
  raw                  the packet is the TLP, on link types 125 and 147 to 162
  offset=N             the TLP begins N bytes into the packet, or into the payload of the port
  dll                  a 2-byte sequence number stands before the TLP and a 4-byte LCRC behind it
  seq, lcrc            only one of the two
  little               bytes of every dword are turned; little-header: only of the header's
  udp=PORT, tcp=PORT   in packets from or to this port, or range of ports, as udp=4000-4003
  link=TYPE            only on this link type
  nettlp               UDP ports 12288 to 20479, 6 bytes of header
  antmicro             TCP port 2115, records that begin with 02h (DLLP) or 03h (TLP)
  agilent              link type 158, 20 bytes of header, then symbols
  device=ADDRESS       address (TCP: address:port) of the side where the device is; may be repeated
  host=BDF             the host's requester id, where nothing else tells the direction
"""


@dataclass(frozen=True, slots=True)
class Framing:
    """Where a TLP lies in a packet; `parse` reads one, ``str`` writes it."""

    carrier: Carrier = "packet"
    ports: tuple[tuple[int, int], ...] = ()
    link_types: frozenset[int] = frozenset()
    offset: int = 0
    sequence: bool = False
    lcrc: bool = False
    order: Order = "big"
    records: Records = "plain"
    strict: bool = False
    """Packets that are no TLPs are something else, not damage."""
    devices: tuple[str, ...] = ()
    host: int | None = None

    def takes(self, link_type: int) -> bool:
        """Whether packets of a link type may hold TLPs."""
        if self.link_types:
            return link_type in self.link_types
        if self.carrier == "packet":
            return link_type in USER_TYPES or link_type == PCI_EXPRESS
        return link_type not in USER_TYPES and link_type != PCI_EXPRESS

    def __str__(self) -> str:
        name, base = next(
            ((name, one) for name, one in _PRESETS.items() if (self.strict, self.records) == (one.strict, one.records)),
            ("", Framing()),
        )
        words = [name] if name else []
        if self.ports != base.ports:
            words += [f"{self.carrier}={a}" if a == b else f"{self.carrier}={a}-{b}" for a, b in self.ports]
        words += [f"offset={self.offset}"] if self.offset != base.offset else []
        words += [f"link={one}" for one in sorted(self.link_types - base.link_types)]
        dll = (self.sequence and not base.sequence, self.lcrc and not base.lcrc)
        words += {(True, True): ["dll"], (True, False): ["seq"], (False, True): ["lcrc"]}.get(dll, [])
        words += [self.order] if self.order != "big" else []
        words += [f"device={one}" for one in self.devices]
        words += [f"host={bdf_text(self.host)}"] if self.host is not None else []
        return ",".join(words) or "raw"

    @property
    def text(self) -> str:
        """What it is, for people."""
        if self.strict:
            return "NetTLP over UDP"
        if self.records != "plain":
            return f"{self.records} records"
        where = "packets" if self.carrier == "packet" else self.carrier.upper()
        return f"TLPs in {where}, framing {self}"


NETTLP = Framing("udp", (NETTLP_PORTS,), offset=NETTLP_HEADER, strict=True)
ANTMICRO = Framing("tcp", ((ANTMICRO_PORT, ANTMICRO_PORT),), sequence=True, lcrc=True, records="antmicro")
AGILENT = Framing(
    "packet", (), frozenset({AGILENT_TYPE}), AGILENT_HEADER, sequence=True, lcrc=True, records="agilent"
)  # fmt: skip

_Change = Callable[[Framing, str], Framing]


def _ports(carrier: Carrier) -> _Change:
    def change(one: Framing, value: str) -> Framing:
        first, _, last = value.partition("-")
        span = int(first, 0), int(last or first, 0)
        if not 0 < span[0] <= span[1] < 1 << 16 or (one.ports and one.carrier != carrier):
            raise ValueError
        kept = () if any(one.ports == each.ports for each in _PRESETS.values()) else one.ports
        return replace(one, carrier=carrier, ports=(*kept, span))

    return change


def _offset(one: Framing, value: str) -> Framing:
    number = int(value, 0)
    if not 0 <= number <= MOST_OFFSET:
        raise ValueError
    return replace(one, offset=number)


def _link(one: Framing, value: str) -> Framing:
    number = int(value, 0)
    if not 0 <= number < 1 << 16:
        raise ValueError
    kept = frozenset() if one.records == "agilent" and one.link_types == AGILENT.link_types else one.link_types
    return replace(one, link_types=kept | {number})


def _device(one: Framing, value: str) -> Framing:
    return replace(one, devices=(*one.devices, endpoint_text(*endpoint(value))))


def endpoint(text: str) -> tuple[int, int]:
    """Return (address as a 128-bit number, port or 0) of ``10.0.0.1``, ``10.0.0.1:80``, ``fe80::1``, ``[fe80::1]:80``.

    An IPv4 address is the number of the IPv6 address that stands for it. Raises ValueError for another text.
    """
    port = 0
    if text.startswith("["):
        text, close, rest = text[1:].partition("]")
        if not close or rest[:1] not in ("", ":"):
            raise ValueError(text)
        port = int(rest[1:]) if rest[:1] == ":" else 0
    elif text.count(":") == 1:
        text, _, rest = text.partition(":")
        port = int(rest)
    address = ip_address(text)
    if not 0 <= port < 1 << 16:
        raise ValueError(text)
    return int(address) | (0xFFFF << 32 if address.version == 4 else 0), port


def endpoint_text(address: int, port: int) -> str:
    """Return an endpoint as `endpoint` reads it; port 0 is left out."""
    if address >> 32 == 0xFFFF:
        text = str(ip_address(address & 0xFFFFFFFF))
        return f"{text}:{port}" if port else text
    text = str(ip_address(address.to_bytes(16, "big")))
    return f"[{text}]:{port}" if port else text


_PRESETS = {
    "nettlp": NETTLP,
    "antmicro": ANTMICRO,
    "agilent": AGILENT,
}
_PLAIN: dict[str, _Change] = {
    "raw": lambda one, _: one,
    "dll": lambda one, _: replace(one, sequence=True, lcrc=True),
    "seq": lambda one, _: replace(one, sequence=True),
    "lcrc": lambda one, _: replace(one, lcrc=True),
    "big": lambda one, _: replace(one, order="big"),
    "little": lambda one, _: replace(one, order="little"),
    "little-header": lambda one, _: replace(one, order="little-header"),
}
_VALUED: dict[str, tuple[_Change, str]] = {
    "offset": (_offset, f"a number of bytes up to {MOST_OFFSET}"),
    "udp": (_ports("udp"), "a port or a range of ports, as 4000-4003, and not beside tcp"),
    "tcp": (_ports("tcp"), "a port or a range of ports, as 4000-4003, and not beside udp"),
    "link": (_link, "a link type, as 147"),
    "device": (_device, "an address, as 192.168.10.3, for TCP with its port, as 127.0.0.1:40000"),
    "host": (lambda one, value: replace(one, host=bdf(value)), "a function number, as 00:00.0"),
}


def parse(text: str) -> Framing:
    """Return the framing that a text describes; raises UsageError that says which word is wrong and what there is."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"the framing is empty; its words are:\n{WORDS}")
    found = Framing()
    for word in sorted(words, key=lambda one: one not in _PRESETS):
        name, _, value = word.partition("=")
        name = name.strip().lower()
        if name in _PRESETS and not value:
            if found != Framing():
                raise UsageError(f"framing {text!r}: {word} cannot stand beside another framing of its kind")
            found = _PRESETS[name]
        elif name in _PLAIN and not value:
            found = _PLAIN[name](found, "")
        elif name in _VALUED:
            change, wanted = _VALUED[name]
            try:
                found = change(found, value.strip())
            except ValueError:
                raise UsageError(f"framing {text!r}: {name}= takes {wanted}, not {value!r}") from None
        else:
            raise UsageError(f"framing {text!r}: no word {word!r}; there are:\n{WORDS}")
    return found
