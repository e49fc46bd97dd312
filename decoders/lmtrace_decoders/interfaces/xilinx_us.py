"""AMD/Xilinx UltraScale and UltraScale+: the AXI streams CQ, CC, RQ and RC at 64 to 512 bits, and the MSI-X pins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from lmtrace_decoders.interfaces import xilinx_descriptor as x
from lmtrace_decoders.interfaces.assembly import Assembly, Finished, room
from lmtrace_decoders.interfaces.beats import Beats, Plan
from lmtrace_decoders.interfaces.convention import (
    NEVER,
    Convention,
    Judgement,
    LinkShape,
    Stream,
    register_convention,
)
from lmtrace_decoders.interfaces.filled_in import CoreFacts, TagPins
from lmtrace_decoders.interfaces.signals import Signal
from lmtrace_decoders.interfaces.xilinx_assemble import INT_EDGE, MEMORY, assemble

_NEEDED, _MORE = ("valid", "data", "last"), ("ready", "keep", "user")
STREAMS = {
    "cq": Stream("downstream", 0, _NEEDED, _MORE, "completer requests: into the core's user"),
    "rc": Stream("downstream", 1, _NEEDED, _MORE, "requester completions: answers to rq"),
    "rq": Stream("upstream", 2, _NEEDED, _MORE, "requester requests: out of the core's user"),
    "cc": Stream("upstream", 3, _NEEDED, _MORE, "completer completions: answers to cq"),
    "msix": Stream(
        "upstream", 4, ("int", "address", "data"), ("sent", "fail", "function"),
        "MSI-X sent by the core from side-band pins", ("int", "sent", "fail"), None,
    ),
    "rq_tag": Stream(
        "upstream", 5, ("valid", "tag"), ("valid1", "tag1"), "tags the core gave to requests of rq",
        ("valid", "valid1"), None,
    ),
}  # fmt: skip

_WHAT = {"cq": x.CQ, "cc": x.CC, "rq": x.RQ, "rc": x.RC, "msix": x.MSIX, "rq_tag": x.RQ_TAG}
_STRADDLE = {"auto": x.AUTO, "none": x.OFF, "on": x.ON}
_NARROW_USER = {"cq": (85, 88), "cc": (33,), "rq": (60, 62), "rc": (75,)}
_WIDE_USER = {"cq": (183,), "cc": (81,), "rq": (137,), "rc": (161,)}
_LEAST_NARROW = {"cq": 42, "cc": 1, "rq": 12, "rc": 43}
_LEAST_WIDE = {"cq": 97, "cc": 17, "rq": 37, "rc": 97}
"""User must have at least these bits for the fields that are read."""


class XilinxUs:
    """Assembles the CQ, CC, RQ and RC streams of a capture."""

    def __init__(self, plan: Plan, links: Sequence[LinkShape]) -> None:
        """Note where each role of each stream stands."""
        self._number = np.full(max(len(plan.bindings), 1), -1, np.int64)
        config: list[list[int]] = []
        for link in links:
            for name, index in link.streams.items():
                self._number[index] = len(config)
                config.append(_config(plan, index, name, link))
        self._config = np.array(config, np.int64).reshape(-1, x.FIELDS)
        self._plan_number = np.flatnonzero(self._number >= 0)
        self._state = Assembly.of(len(config), x.RAW_DWORDS)
        self._memory = np.zeros((len(config), MEMORY), np.int64)
        self._memory[:, INT_EDGE] = -2
        self._pins = {link.link: TagPins() for link in links if "rq_tag" in link.streams}
        self._facts = {link.link: CoreFacts() for link in links}

    @property
    def troubles(self) -> list[list[int]]:
        """See `Bus`."""
        return self._state.named(self._plan_number)

    def take(self, beats: Beats, ending: bool = False) -> Finished:
        """See `Bus`."""
        out, state = room(beats, len(self._config), 4), self._state
        tags = np.zeros((2 * len(beats.index) + 1, 3), np.int64)
        rows, dwords, tagged = assemble(
            beats.index, beats.value, beats.unknown, self._config, self._number, self._memory, state.open, state.row,
            state.data, state.unknown, state.troubles, out.rows, out.keys, out.dwords, x.REQUEST_KIND, tags, ending,
        )  # fmt: skip
        done = out.cut(rows, dwords)
        for link, pins in self._pins.items():
            done = pins.take(done, link, tags[:tagged][tags[:tagged, 0] == link, 1], ending)
        return done

    def end(self) -> Finished:
        """See `Bus`."""
        return self.take(Beats.none(), True)

    def oldest(self) -> int:
        """See `Bus`."""
        return min([self._state.oldest(NEVER), *(pins.oldest(NEVER) for pins in self._pins.values())])

    def learn(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`."""
        for link, facts in self._facts.items():
            facts.learn(rows[rows["link"] == link])

    def settle(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`."""
        for link, facts in self._facts.items():
            facts.apply(rows, rows["link"] == link, link in self._pins)


def _config(plan: Plan, index: int, name: str, link: LinkShape) -> list[int]:
    stream = STREAMS[name]
    common = [_WHAT[name], int(stream.direction == "upstream"), stream.rank, link.link, x.AUTO]
    if name == "msix":
        return [
            1, plan.place(index, "data"), plan.place(index, "sent"), plan.place(index, "fail"),
            plan.place(index, "int"), plan.place(index, "address"), x.NO_USER, plan.place(index, "function"), *common,
        ]  # fmt: skip
    if name == "rq_tag":
        return [
            1, plan.place(index, "tag"), plan.place(index, "valid1"), 0, plan.place(index, "valid"),
            plan.place(index, "tag1"), x.NO_USER, x.OFF, *common,
        ]  # fmt: skip
    lanes, user, keep = plan.width(index, "data") // 32, plan.width(index, "user"), plan.width(index, "keep")
    wide = lanes == 16
    layout = x.NO_USER
    if user >= (_LEAST_WIDE if wide else _LEAST_NARROW)[name]:
        layout = x.WIDE if wide else x.NARROW
    return [
        lanes, plan.place(index, "data"), plan.place(index, "keep"),
        keep // lanes if keep in (lanes, 4 * lanes) else 0, plan.place(index, "last"), plan.place(index, "user"),
        layout, _STRADDLE[link.straddle] if wide or name == "rc" else x.AUTO, *common,
    ]  # fmt: skip


_STREAM_NAME = re.compile(r"(.*?)(?:([ms])_)?(?:axis_)?(cq|cc|rq|rc)_t(data|keep|last|valid|ready|user)")
_MSIX_NAME = re.compile(r"(.*?)cfg_interrupt_(msix_(int|address|data|sent|fail)|msi_(function)_number)")
_TAG_NAME = re.compile(r"(.*?)pcie_rq_tag(_vld)?([01]?)")


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, whose side names it) of a name like ``s_axis_rq_tdata``."""
    match = _STREAM_NAME.fullmatch(local.lower())
    if match:
        return match[1], match[3], match[4], match[2] or ""
    match = _MSIX_NAME.fullmatch(local.lower())
    if match:
        return match[1], "msix", match[3] or match[4], ""
    match = _TAG_NAME.fullmatch(local.lower())
    if match:
        return match[1], "rq_tag", ("valid" if match[2] else "tag") + ("1" if match[3] == "1" else ""), ""
    return None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths of data, keep and user; widths of user tell UltraScale from UltraScale+."""
    confidence, remarks, family = 1.0, [], set()
    if straddle not in _STRADDLE:
        return Judgement(0.0, (f"straddle is {straddle!r}, it is one of: {', '.join(_STRADDLE)}",))
    for name, roles in streams.items():
        if name in ("msix", "rq_tag"):
            continue
        bits = roles["data"].width
        if bits not in (64, 128, 256, 512):
            return Judgement(0.0, (f"{name}.data has {bits} bits, it is 64, 128, 256 or 512",))
        user = roles["user"].width if "user" in roles else 0
        keep = roles["keep"].width if "keep" in roles else bits // 32
        known = (_WIDE_USER if bits == 512 else _NARROW_USER)[name]
        if not user:
            confidence = min(confidence, 0.7)
            remarks.append(f"{name} has no user: byte enables are assumed, packets start after last")
            if straddle == "on" and (bits == 512 or name == "rc"):
                return Judgement(0.0, (f"{name} has no user, and straddled packets cannot be told apart without",))
        elif user not in known:
            confidence = min(confidence, 0.6)
            remarks.append(
                f"{name}.user has {user} bits where the core has {' or '.join(map(str, known))}: repacked by a wrapper?"
            )
        elif bits < 512 and len(known) == 2:
            family.add("UltraScale" if user == known[0] else "UltraScale+")
        elif bits == 512:
            family.add("UltraScale+")
        if keep not in (bits // 32, bits // 8):
            confidence = min(confidence, 0.7)
            remarks.append(f"{name}.keep has {keep} bits; lengths are taken from the descriptors")
    if len(family) == 1:
        remarks.insert(0, f"{family.pop()} by the widths of user")
    elif family:
        confidence = min(confidence, 0.6)
        remarks.insert(0, "widths of user mix UltraScale and UltraScale+")
    missing = sorted({"cq", "cc", "rq", "rc"} - set(streams))
    if missing:
        confidence = min(confidence, 0.8)
        remarks.append("not found: " + ", ".join(missing))
    return Judgement(confidence, tuple(remarks))


register_convention(
    Convention(
        "xilinx-us", STREAMS, place, judge, XilinxUs, 0, frozenset({"cq", "rq"}), ("none", "on", "auto"),
    )
)  # fmt: skip
