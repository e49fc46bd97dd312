"""Put a large design around the bus of a VCD made by ``make_vcd.py``: thousands of signals that nobody binds.

Every clock edge gets changes of other signals, so that those of the bus are under 5 % of all. Usage:
``make_large.py INPUT OUTPUT [MEGABYTES]``; the output ends when it has that size.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

SIGNALS = 4096
WIDTHS = (1, 1, 1, 8, 16, 32, 64)
EDGE_CHANGES = 60
"""Changes of other signals at each clock edge."""
POOL = 4096


def code(number: int) -> str:
    """Return an identifier code that the input does not use: its own are shorter than four characters."""
    return "~" + "".join(chr(33 + number // 94**k % 94) for k in range(3))


def main() -> None:
    """Write the dump, and say what share of its changes the bus has."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    most = int(sys.argv[3] if len(sys.argv) > 3 else 400) * 1_000_000
    dice = random.Random(1)
    widths = [dice.choice(WIDTHS) for _ in range(SIGNALS)]
    declared = ["$scope module design $end"]
    for number, width in enumerate(widths):
        span = f" [{width - 1}:0]" if width > 1 else ""
        declared.append(f"$var reg {width} {code(number)} r{number}{span} $end")
    declared.append("$upscope $end")
    pool = []
    for _ in range(POOL):
        lines = []
        for number in dice.sample(range(SIGNALS), EDGE_CHANGES):
            width = widths[number]
            value = dice.getrandbits(width)
            lines.append(f"{value}{code(number)}" if width == 1 else f"b{value:b} {code(number)}")
        pool.append("\n".join(lines) + "\n")
    header, own, others, size = True, 0, 0, 0
    with source.open() as file, target.open("w") as out:
        for line in file:
            if header and line.startswith("$enddefinitions"):
                out.write("\n".join(declared) + "\n")
                header = False
            size += out.write(line)
            if header:
                continue
            if line[0] == "#":
                size += out.write(pool[dice.randrange(POOL)])
                others += EDGE_CHANGES
                if size > most:
                    break
            elif line[0] != "$":
                own += 1
    print(f"bytes   {target.stat().st_size}\nchanges {own + others}, {100 * own / (own + others):.1f} % of them own")


if __name__ == "__main__":
    main()
