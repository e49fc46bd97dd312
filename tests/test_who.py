"""Who owned an address and who touched it, on a real migration and on a run made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmtrace.check import check
from lmtrace.moment import lines as state_lines
from lmtrace.run import Run
from lmtrace.units import parse_address, parse_time
from lmtrace.who import MOST_TOUCHES
from lmtrace.who import lines as who_lines

HMLM = Path(__file__).parent.parent / "samples/captures/nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return check(HMLM, output=tmp_path_factory.mktemp("who") / "run")


def section(lines: list[str], title: str) -> list[str]:
    """Return the lines below a title."""
    start = next(number for number, line in enumerate(lines) if line.split("  ")[0] == title)
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return lines[start + 1 : end]


def test_a_doorbell_rung_while_its_controller_is_suspended(run: Run) -> None:
    lines = list(who_lines(run, parse_address("FE605008h"), parse_time("20.895842s")))
    owner = section(lines, "Owner")
    assert owner[0].startswith("  doorbells of 01:00.1  FE605000h..FE605FFFh  offset 8h of 4 KiB")
    touched = section(lines, "Touched by")
    assert touched[0].startswith("  18 TLPs")
    assert max(map(len, lines)) <= 80
    assert sum("  host  MWr FE605008h 4 B  sq_doorbell" in one for one in touched) == 18
    assert "for controller 1, SQ 1, CID 62 Write -> Successful Completion" in touched[2]


def test_a_buffer_belongs_to_a_command_while_it_is_outstanding(run: Run) -> None:
    data = run.table("tlps", None, [("role", "==", "data"), ("direction", "==", "upstream")]).to_pylist()
    row = next(one for one in data if one["kind"] == "MWr")
    (link,) = run.table("tlp_transactions", None, [("tlp_id", "==", row["id"])]).to_pylist()
    (command,) = run.table("transactions", None, [("id", "==", link["transaction_id"])]).to_pylist()
    during = list(who_lines(run, row["address"], row["time_ps"]))
    assert any(f"data of controller {command['controller']}" in one for one in section(during, "Owner"))
    assert any(one.strip().startswith("for ") for one in section(during, "Touched by"))
    after = list(who_lines(run, row["address"], run.summary["captures"][0]["duration_ps"]))
    assert not any("data of" in one for one in section(after, "Owner"))


def test_an_address_that_nobody_has(run: Run) -> None:
    lines = list(who_lines(run, 0xDEAD_0000_0000))
    assert section(lines, "Owner")[0] == "  no region that lmtrace knows"
    assert "behind it" in section(lines, "Owner")[1]
    assert section(lines, "Touched by") == ["  no TLP"]


def test_only_enabled_bytes_are_touched(run: Run) -> None:
    row = run.table("tlps", None, [("role", "==", "cqe"), ("kind", "==", "MWr")]).to_pylist()[0]
    touched = [section(list(who_lines(run, row["address"] + at)), "Touched by")[0] for at in (0, 15)]
    assert "no TLP" not in touched[0] and touched[0].split(",")[0] == touched[1].split(",")[0]


def test_many_touches_are_shown_from_both_ends(run: Run) -> None:
    fetches = run.table("tlps", None, [("role", "==", "sqe_fetch"), ("kind", "==", "MRd")]).to_pylist()
    addresses = [one["address"] for one in run.table("tlps", None, [("kind", "==", "MWr")]).to_pylist() + fetches]
    busiest = max(set(addresses), key=addresses.count)
    touched = section(list(who_lines(run, busiest)), "Touched by")
    shown = [one for one in touched if "  TLP " in one]
    assert addresses.count(busiest) > MOST_TOUCHES >= len(shown)
    assert any(one.strip() == "..." for one in touched)


def test_queues_stand_where_the_controller_state_says(run: Run) -> None:
    state = run.table("controller_states", None, [("set", "==", False), ("niosq", ">", 0)]).to_pylist()[-1]
    (get,) = run.table("transactions", None, [("id", "==", state["transaction_id"])]).to_pylist()
    listed = run.table("controller_state_queues", None, [("controller_state_id", "==", state["id"])]).to_pylist()
    lines = section(list(state_lines(run, get["fetch_ps"])), "Queues")
    assert len(listed) == 4
    for one in listed:
        (line,) = [text for text in lines if f"01:00.1  {one['kind']} {one['qid']}  " in text]
        assert f"at {one['prp1']:X}h, {one['size']:,} entries" in line
        # five commands were posted while the controller was suspended
        assert f"head {one['head']}, tail {one['tail']}," in line


def test_controllers_and_outstanding_commands_of_a_moment(run: Run) -> None:
    suspended = list(state_lines(run, parse_time("20.899s")))
    assert any(
        "controller 1, enabled since 20.52218561s, suspended since" in one for one in section(suspended, "Controllers")
    )
    assert "Outstanding  0 commands" in suspended
    (one,) = run.table("transactions", None, [("id", "==", 300)]).to_pylist()
    busy = list(state_lines(run, (one["fetch_ps"] + one["cqe_ps"]) // 2))
    shown = section(busy, "Outstanding")
    assert any(f"SQ {one['sqid']} CID {one['cid']}" in text and "ago" in text for text in shown)
    before = list(state_lines(run, 0))
    assert section(before, "Controllers") == ["  none is enabled"] and section(before, "Queues") == ["  none exists"]


def test_a_time_behind_the_end_says_so(run: Run) -> None:
    lines = list(state_lines(run, parse_time("100s")))
    assert lines[1].startswith("  the capture ends at 21.3")


@pytest.mark.parametrize("text", ["", "h", "0x", "12g", "1" * 17, "-5", "0x1_g"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


def test_addresses_as_people_write_them() -> None:
    assert {parse_address(one) for one in ("1FFDC005h", "0x1ffdc005", "1ffdc005", " 0x1FFD_C005 ")} == {0x1FFDC005}


def test_a_buffer_is_known_before_anything_touches_it(run: Run) -> None:
    rows = run.table("transactions", None, [("bytes_expected", ">", 4096), ("psdt", "==", 0)]).to_pylist()
    command = next(one for one in rows if one["first_data_ps"] and one["first_data_ps"] > one["fetch_ps"])
    at = command["fetch_ps"]
    name = f"CID {command['cid']} {command['name']}"
    for address in (command["dptr1"], command["dptr1"] + 100):
        owners = section(list(who_lines(run, address, at)), "Owner")
        assert any(one.startswith("  data of controller") and name in one for one in owners)
    held = section(list(state_lines(run, at)), "Outstanding")
    assert any(f"CID {command['cid']}" in one for one in held)
    assert any(one.startswith("      data ") and f"{command['dptr1']:X}h.." in one for one in held)
    assert max(len(one) for one in state_lines(run, at)) <= 80
