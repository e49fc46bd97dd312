"""The replay on tables made by hand: orders, outcomes, and what makes an accusation weaker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmtrace.replay import replay
from lmtrace.rule import rules, select
from lmtrace.spec.nvme import Status
from lmtrace.stage import TLP_ROW, Link, TlpChunk
from lmtrace.store import Capture, Store
from lmtrace.trouble import Troubles, declare

LOSS = declare("test-loss", "data-loss", "Nothing; this is a test.")
MMC, MC = 0x0100, 0x0101
RULE = "HMLM-5.1.17.1.2-n1"


def command(tlp: int, opcode: int, cdw10: int, cdw11: int, status: Status | None, **more: Any) -> dict[str, Any]:
    """One admin command of the MMC whose fetch is TLP ``tlp`` and whose completion is the next."""
    row: dict[str, Any] = {
        "capture": "a.vcd", "link": "pcie0", "function": MMC, "controller": 0, "epoch": 0, "sqid": 0, "cqid": 0,
        "cid": tlp, "opcode": opcode, "nsid": 0, "cdw10": cdw10, "cdw11": cdw11, "fetch_ps": tlp * 1000,
        "fetch_tlp_id": tlp, "first_tlp_id": tlp, "last_tlp_id": tlp + 1, "outcome": "outstanding", "learnt": "seen",
    }  # fmt: skip
    if status is not None:
        row |= {
            "cqe_ps": tlp * 1000 + 500, "cqe_tlp_id": tlp + 1, "sct": status.sct, "sc": status.sc, "dnr": False,
            "dw0": 0, "dw1": 0, "outcome": "completed",
        }  # fmt: skip
    return row | more


def suspend(tlp: int) -> dict[str, Any]:
    return command(tlp, 0x41, 0, 1 | 1 << 16, Status(0, 0))


def resume(tlp: int, status: Status | None, **more: Any) -> dict[str, Any]:
    return command(tlp, 0x41, 1, 1, status, **more)


@contextmanager
def judged(
    folder: Path, transactions: list[dict[str, Any]], *, lost_ps: int | None = None, until_ps: int | None = None,
    rule: str = RULE,
    **asked: Any,
) -> Iterator[Store]:  # fmt: skip
    """A store of one capture in which both controllers were seen being enabled, after the replay."""
    troubles = Troubles("a.vcd")
    if lost_ps is not None:
        troubles.add(LOSS, time_ps=lost_ps, until_ps=until_ps)
    with Store(folder / "a.vcd.lmtrace") as store:
        rows = np.zeros(100, TLP_ROW)
        rows["source_offset"] = np.arange(100) * 10
        store.append_tlps(TlpChunk(rows, np.zeros(0, np.uint8)))
        store.captures.append(Capture("a.vcd", "vcd", [Link("pcie0", "")], troubles, 0, 100, 100_000))
        for number, function in enumerate((MMC, MC)):
            store.writer("controllers").add({
                "capture": "a.vcd", "link": "pcie0", "function": function, "controller": number, "epoch": 0,
                "enabled_ps": 0, "enabled_tlp_id": number, "page_size": 4096, "learnt": "seen",
            })  # fmt: skip
        for row in transactions:
            store.writer("transactions").add(row)
        store.finish_tables()
        replay(store, select(rules(), rule), **asked)
        store.finish_tables()
        yield store


def outcome(store: Store) -> dict[str, Any]:
    return dict(store.read("outcomes").to_pylist()[0])


def test_a_broken_rule_is_a_row_with_its_place(tmp_path: Path) -> None:
    with judged(tmp_path, [resume(10, Status(0, 0))]) as store:
        (row,) = store.read("violations").to_pylist()
        assert (row["rule"], row["severity"], row["party"], row["controller"]) == (RULE, "error", "controller", 0)
        assert (row["time_ps"], row["transaction_id"], row["tlp_id"], row["source_offset"]) == (10_500, 0, 11, 110)
        assert outcome(store)["outcome"] == "broken"


def test_held_and_not_exercised(tmp_path: Path) -> None:
    with judged(tmp_path, [resume(10, Status(1, 0x3A))]) as store:
        assert (outcome(store)["outcome"], outcome(store)["held"]) == ("held", 1)
    with judged(tmp_path, []) as store:
        assert outcome(store)["outcome"] == "not exercised"


def test_a_suspended_target_may_be_resumed(tmp_path: Path) -> None:
    with judged(tmp_path, [suspend(10), resume(20, Status(0, 0))]) as store:
        assert store.read("violations").num_rows == 0


def test_a_suspend_that_completes_meanwhile_makes_it_unknown(tmp_path: Path) -> None:
    first = command(10, 0x41, 0, 1 | 1 << 16, Status(0, 0), cqe_tlp_id=25)
    with judged(tmp_path, [first, resume(20, Status(0, 0), cqe_tlp_id=30)]) as store:
        assert outcome(store)["outcome"] == "not observable"


def test_a_loss_before_it_silences_an_accusation(tmp_path: Path) -> None:
    with judged(tmp_path, [resume(10, Status(0, 0))], lost_ps=5_000) as store:
        assert outcome(store)["outcome"] == "not observable"
        assert "lost" in outcome(store)["reason"]
    with judged(tmp_path, [resume(10, Status(0, 0))], lost_ps=20_000) as store:
        assert outcome(store)["outcome"] == "broken"


def test_behind_a_loss_counts_what_is_seen_again(tmp_path: Path) -> None:
    known = [suspend(10), resume(20, Status(0, 0)), resume(30, Status(0, 0))]
    with judged(tmp_path, known, lost_ps=5_000, until_ps=6_000) as store:
        assert [row["time_ps"] for row in store.read("violations").to_pylist()] == [30_500]
    for since, until in ((5_000, 30_200), (31_000, 32_000)):  # the loss touches it, or comes after it
        with judged(tmp_path, known, lost_ps=since, until_ps=until) as store:
            found = [row["time_ps"] for row in store.read("violations").to_pylist()]
            assert found == ([] if since < 30_000 else [30_500]), since
    with judged(tmp_path, [resume(10, Status(0, 0))], lost_ps=5_000, until_ps=6_000) as store:
        assert outcome(store)["outcome"] == "not observable"  # it may have been suspended unseen


def test_a_loss_silences_what_was_due_by_entries_before(tmp_path: Path) -> None:
    rows = [command(tlp, 0x18, 0, 0, Status(0, 0), cq_slot=tlp, cq_slot_due=9) for tlp in (10, 20)]
    with judged(tmp_path, rows, lost_ps=15_000, rule="NVM21-4.2.1-n1") as store:
        assert [row["time_ps"] for row in store.read("violations").to_pylist()] == [10_500]
        assert (outcome(store)["broken"], outcome(store)["not_observable"]) == (1, 1)


def test_what_rests_on_inference_is_info(tmp_path: Path) -> None:
    with judged(tmp_path, [resume(10, Status(0, 0), learnt="inferred")]) as store:
        assert [row["severity"] for row in store.read("violations").to_pylist()] == ["info"]


def test_only_what_lies_in_the_window_is_judged(tmp_path: Path) -> None:
    with judged(tmp_path, [resume(10, Status(0, 0))], first_ps=20_000) as store:
        assert outcome(store)["outcome"] == "not exercised"
    with judged(tmp_path, [suspend(10), resume(30, Status(0, 0))], first_ps=20_000) as store:
        assert store.read("violations").num_rows == 0, "what happened before the window is still known"


def test_fingerprints_do_not_depend_on_time(tmp_path: Path) -> None:
    prints = []
    for tlp in (10, 40):
        with judged(tmp_path, [resume(tlp, Status(0, 0), cid=7)]) as store:
            prints.append(store.read("violations").to_pylist()[0]["fingerprint"])
    assert prints[0] == prints[1]


def test_a_waiver_is_shown_and_does_not_remove(tmp_path: Path) -> None:
    class Waiver:
        reason = "known, PR 12"

        def covers(self, rule: str, capture: str, link: str, controller: int | None) -> bool:
            return (rule, capture, link, controller) == (RULE, "a.vcd", "pcie0", 0)

    with judged(tmp_path, [resume(10, Status(0, 0))], waivers=[Waiver()]) as store:
        assert [row["waived"] for row in store.read("violations").to_pylist()] == ["known, PR 12"]


def test_an_outstanding_command_is_asked_about_at_the_end(tmp_path: Path) -> None:
    with judged(tmp_path, [resume(10, None)]) as store:
        assert outcome(store)["outcome"] == "not exercised"


def test_the_store_leaves_nothing_without_commit(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), judged(tmp_path, []):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
