"""Small dumps made by hand, for tests of the reader: one generic stream of 64 bits."""

from __future__ import annotations

HEADER = """$timescale 1ns $end
$scope module tb $end
$var wire 1 ! clk $end
$var wire 64 " rx_req_tlp_data [63:0] $end
$var wire 128 # rx_req_tlp_hdr [127:0] $end
$var wire 1 $ rx_req_tlp_valid $end
$var wire 1 % rx_req_tlp_sop $end
$var wire 1 & rx_req_tlp_eop $end
$var wire 1 ' rx_req_tlp_ready $end
$var wire 8 ( other $end
$upscope $end
$enddefinitions $end
"""
START = "#0\n$dumpvars\n0!\nbx \"\nbx #\n0$\nx%\nx&\n1'\nbx (\n$end\n"


def write_header(address: int, dws: int, tag: int = 0, byte_enables: int = 0xFF) -> int:
    """Return the header of a 3-dword memory write as the stream carries it."""
    return (0x40000000 | dws) << 96 | (tag << 8 | byte_enables) << 64 | address << 32


def beat(time: int, data: int | str, header: int | str | None, last: bool) -> str:
    """Return the changes of one accepted beat: set up at ``time``, taken 5 ns later, withdrawn with that edge."""
    words = data if isinstance(data, str) else f"{data:b}"
    head = "" if header is None else f"b{header if isinstance(header, str) else format(header, 'b')} #\n"
    start = "0" if header is None else "1"
    return f'#{time}\nb{words} "\n{head}1$\n{start}%\n{int(last)}&\n#{time + 5}\n1!\n0$\n#{time + 10}\n0!\n'


def write(time: int, address: int, payload: bytes, tag: int = 0) -> str:
    """Return the beats of a memory write."""
    dws = len(payload) // 4
    header = write_header(address, dws, tag, 0xFF if dws > 1 else 0x0F)
    out = ""
    for at in range(0, len(payload), 8):
        part = payload[at : at + 8]
        out += beat(time + 2 * at, int.from_bytes(part, "little"), None if at else header, at + 8 >= len(payload))
    return out


def dump(*bodies: str, header: str = HEADER, start: str = START) -> bytes:
    """Return a whole dump."""
    return (header + start + "".join(bodies)).encode("latin-1")


def cycles(widths: dict[str, int], rows: list[dict[str, int | str]]) -> bytes:
    """Return a dump of a 250 MHz clock and signals that take the values of one row a cycle; what a row omits is 0."""
    codes = {name: f"s{number}" for number, name in enumerate(widths)}
    out = ["$timescale 1ps $end", "$scope module tb $end", "$var wire 1 ! user_clk $end"]
    out += [f"$var wire {width} {codes[name]} {name} [{width - 1}:0] $end" for name, width in widths.items()]
    out += ["$upscope $end", "$enddefinitions $end", "#0", "0!"]
    for number, row in enumerate([*rows, {}]):
        out += [f"#{4000 * number + 100}"]
        for name in widths:
            value = row.get(name, 0)
            out.append(f"b{value if isinstance(value, str) else format(value, 'b')} {codes[name]}")
        out += [f"#{4000 * number + 2000}", "1!", f"#{4000 * number + 4000}", "0!"]
    return ("\n".join(out) + "\n").encode()
