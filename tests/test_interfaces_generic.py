"""The generic TLP stream: every segment and length; under private names every order, missing roles, mistakes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bus_readers import DOWN, Sent
from framed_made import HIGH, LOW, Row, got, header, number, payload, segmented, sent, shown, write
from lmtrace.errors import BindingError


@pytest.mark.parametrize("segments", [1, 2, 3, 4])
def test_every_segment_of_a_generic_stream(tmp_path: Path, segments: int) -> None:
    """Every length of up to two beats behind every end, from every segment; dwords in use by strb."""
    plan = []
    for n, (length, segment) in enumerate(itertools.product(range(16 * segments + 1), range(segments))):
        one = write(length, (LOW, HIGH)[n % 2], n) if length else Sent(DOWN, "MRd", LOW, 1, tag=n)
        plan.append((one, segment))
    rows = [
        {name.replace("rx_st", "rx_req_tlp"): value for name, value in row.items()}
        for row in segmented("rx_st", plan, True, segments)
    ]
    for row in rows:
        row["rx_req_tlp_ready"] = 1
        empty, data = int(row.pop("rx_req_tlp_empty", 0)), int(row["rx_req_tlp_valid"])
        row["rx_req_tlp_strb"] = sum(
            (1 << 8 - (empty >> 3 * k & 7)) - 1 << 8 * k for k in range(segments) if data >> k & 1
        )
    widths = {"data": 256, "hdr": 128, "valid": 1, "sop": 1, "eop": 1, "strb": 8}
    signals = {f"rx_req_tlp_{role}": width * segments for role, width in widths.items()} | {"rx_req_tlp_ready": 1}
    found = got(tmp_path, signals, [one for row in rows for one in ({**row, "rx_req_tlp_ready": 0}, row)])
    assert shown(found) == sent([one for one, _ in plan])
    assert found.troubles == {}


# Under private names

ORDERS = list(itertools.product(("low-first", "high-first"), ("big", "little"), ("little", "big")))


def generic(lines: Sequence[str], roles: Sequence[str], stream: str = "rx") -> str:
    text = ["[link.a]", 'convention = "tlp-stream"', 'clock = "tb.user_clk"', 'side = "endpoint"', *lines]
    return "\n".join([*text, f"[link.a.{stream}]", *(f'{role} = "tb.q_{role}"' for role in roles)])


def reversed_bytes(word: int) -> int:
    return int.from_bytes(word.to_bytes(4, "little"), "big")


def private(tlps: Sequence[Sent], lanes: int, beside: bool, words: str, head: str, order: str, rank: str) -> list[Row]:
    rows: list[Row] = []
    for one in tlps:
        dwords, _ = header(one)
        if head == "little":
            dwords = [reversed_bytes(word) for word in dwords]
        stream = payload(one, order) if beside else dwords + payload(one, order)
        parts = [stream[at : at + lanes] for at in range(0, len(stream), lanes)] or [[]]
        for place, part in enumerate(parts):
            full = [*part, *([0xEEEEEEEE] * (lanes - len(part)))]
            four = [*dwords, *([0] * (4 - len(dwords)))]
            kept = (1 << len(part)) - 1
            if words == "high-first":
                kept = int(format(kept, f"0{lanes}b")[::-1], 2)
            rows.append({
                "q_data": number(full if words == "low-first" else full[::-1]), "q_valid": 1, "q_ready": 1,
                "q_sop": int(place == 0), "q_eop": int(place == len(parts) - 1), "q_empty": lanes - len(part),
                "q_strb": kept, "q_hdr": number(four if rank == "low-first" else four[::-1]),
            })  # fmt: skip
    return rows


WIDTHS = {"q_data": 128, "q_valid": 1, "q_ready": 1, "q_sop": 1, "q_eop": 1, "q_empty": 3, "q_strb": 4, "q_hdr": 128}
SOME = [write(length, address, length) for length in (1, 2, 3, 4, 5, 8, 9, 30) for address in (LOW, HIGH)]
MIXED = [*SOME, Sent(DOWN, "MRd", LOW, 4, last=0xF, tag=3), Sent(DOWN, "CplD", tag=1, byte_count=8, payload=bytes(8))]


@pytest.mark.parametrize(("words", "head", "order"), ORDERS)
@pytest.mark.parametrize("rank", ["high-first", "low-first", None])
def test_every_order_of_words_and_bytes(
    tmp_path: Path, words: str, head: str, order: str, rank: str | None
) -> None:  # fmt: skip
    """With a rank the header stands beside the data, without in them."""
    settings = [f'words = "{words}"', f'header_bytes = "{head}"', f'payload_bytes = "{order}"']
    roles = ["valid", "data", "sop", "eop", "ready"]
    if rank:
        settings.append(f'header_words = "{rank}"')
        roles.append("hdr")
    rows = private(MIXED, 4, rank is not None, words, head, order, rank or "high-first")
    found = got(tmp_path, WIDTHS, rows, generic(settings, roles))
    assert shown(found) == sent(MIXED)
    assert found.troubles == {}


@pytest.mark.parametrize("roles", [
    ["valid", "data", "eop"], ["valid", "data", "sop"], ["valid", "data"], ["valid", "data", "sop", "eop", "strb"],
    ["valid", "data", "eop", "empty"], ["valid", "data", "hdr", "sop"], ["valid", "data", "hdr", "eop"],
    ["valid", "data", "hdr"],
])  # fmt: skip
@pytest.mark.parametrize("words", ["low-first", "high-first"])
def test_what_marks_starts_and_ends_may_be_missing(tmp_path: Path, roles: list[str], words: str) -> None:
    rows = private(MIXED, 4, "hdr" in roles, words, "big", "little", "high-first")
    found = got(tmp_path, WIDTHS, rows, generic([f'words = "{words}"'], roles))
    assert shown(found) == sent(MIXED)
    assert found.troubles == {}


def test_both_ways_and_the_side(tmp_path: Path) -> None:
    lines = generic([], ["valid", "data", "sop", "eop"]) + "\n" + "\n".join(
        generic([], ["valid", "data", "sop", "eop"], "tx").splitlines()[4:]
    ).replace("q_", "p_")  # fmt: skip
    down = private(SOME, 4, False, "low-first", "big", "little", "high-first")
    up = [{name.replace("q_", "p_"): value for name, value in row.items()} for row in down]
    signals = WIDTHS | {name.replace("q_", "p_"): width for name, width in WIDTHS.items()}
    found = got(tmp_path, signals, [*down, *up], lines)
    assert [one.direction for one in found.tlps] == ["downstream"] * len(SOME) + ["upstream"] * len(SOME)
    turned = got(tmp_path, signals, [*down, *up], lines.replace('"endpoint"', '"root-port"'))
    assert [one.direction for one in turned.tlps] == ["upstream"] * len(SOME) + ["downstream"] * len(SOME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("words =", "word ="),
         "test.toml: [link.a]: tlp-stream has no setting 'word'; did you mean 'words'?"),
        (lambda text: text.replace("words =", "zzz ="),
         "test.toml: [link.a]: tlp-stream has no setting 'zzz'; there are: convention, clock, side, straddle, "
         "header_words, header_bytes, words, payload_bytes"),
        (lambda text: text.replace('"low-first"', '"first"'),
         'test.toml: [link.a]: words is \'first\', it is one of: "low-first", "high-first"'),
        (lambda text: text.replace('"low-first"', "3"),
         'test.toml: [link.a]: words is 3, it is one of: "low-first", "high-first"'),
        (lambda text: text.replace("eop =", "end ="),
         "test.toml: [link.a]: rx has no role 'end'; it has: valid, data, hdr, sop, eop, ready, strb, empty, bar_id, "
         "func_num"),
        (lambda text: text.replace('data = "tb.q_data"\n', ""),
         "test.toml: [link.a]: rx lacks the role 'data'; it needs: valid, data"),
        (lambda text: text.replace('"tb.q_data"', '"tb.q_ready"'),
         "test.toml: [link.a]: rx: 1 segments do not divide data into dwords"),
        (lambda text: text + '\nhdr = "tb.q_strb"', "test.toml: [link.a]: rx.hdr has 4 bits, 128 fit 1 segment"),
        (lambda text: text + '\nstrb = "tb.q_empty"', "test.toml: [link.a]: rx.strb has 3 bits, 4 or 16 fit 1 segment"),
        (lambda text: text + '\nempty = "tb.q_data"',
         "test.toml: [link.a]: rx.empty has 128 bits, 1 or 2 or 3 or 4 or 5 fit 1 segment"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    text = generic(['words = "low-first"'], ["valid", "data", "eop"])
    assert change(text) != text
    with pytest.raises(BindingError) as error:
        got(tmp_path, WIDTHS, private(SOME, 4, False, "low-first", "big", "little", "high-first"), change(text))
    assert str(error.value) == message
