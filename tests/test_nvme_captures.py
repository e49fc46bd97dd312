"""Real captures: every command as the controller model itself recorded it, every TLP with a role."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nvme_decoded import Decoded, bdf_number, decoded, differences, number, truth

Find = Callable[[str], Path]


def check_packets(run: Decoded, real: list[dict[str, str]]) -> list[str]:
    """Return what differs, commands told apart by the packet of their fetch."""
    mine = {(run.place(one["fetch_tlp_id"]), one["sqid"], one["cid"]): one for one in run.table("transactions")}
    wrong = []
    for row in real:
        one = mine.pop((int(row["frame_sqe_mrd"]), int(row["sqid"]), int(row["cid"])), None)
        if one is None:
            wrong.append(f"command {row['n']} is missing")
            continue
        found = differences(one, row)
        if row["completed"] == "1" and run.place(one["cqe_tlp_id"]) != int(row["frame_cqe_mwr"]):
            found["cqe"] = (one["cqe_tlp_id"], row["frame_cqe_mwr"])
        if found:
            wrong.append(f"command {row['n']}: {found}")
    return wrong + [f"{one} is not in the record" for one in mine]


@pytest.mark.parametrize(
    ("name", "commands", "tlps"),
    [("nvme_linux_mixed_io", 737, 77199), ("nvme_sriov", 673, 52269), ("nvme_hmlm_full_life", 362, 15618)],
)
def test_every_command_of_a_packet_capture_equals_the_record(
    name: str, commands: int, tlps: int, capture: Find, tmp_path: Path
) -> None:
    real = truth(capture(f"{name}/commands.csv.zst"))
    with decoded(capture(f"{name}/{name}.pcapng.zst"), tmp_path) as run:
        assert len(real) == len(run.table("transactions")) == commands
        assert check_packets(run, real) == []
        assert run.rows.size == tlps
        assert "unrelated" not in run.roles()
        assert (run.rows["request"][(run.rows["kind"] == 3) | (run.rows["kind"] == 4)] >= 0).all()


@pytest.mark.parametrize(("name", "commands"), [("nvme_hmlm_full_life", 362), ("nvme_linux_mixed_io", 737)])
def test_the_waveform_gives_the_same_commands_without_configuration(
    name: str, commands: int, capture: Find, tmp_path: Path
) -> None:
    real = truth(capture(f"{name}/commands.csv.zst"))
    with decoded(capture(f"{name}/{name}.vcd.zst"), tmp_path) as run:
        mine = run.table("transactions")
        assert "config" not in run.roles() and "unrelated" not in run.roles()

    def key(function: int, sqid: int, cid: int, opcode: int, prp1: int, cdw10: int, cdw12: int) -> tuple[int, ...]:
        return function, sqid, cid, opcode, prp1, cdw10, cdw12

    waiting: dict[tuple[int, ...], list[dict[str, object]]] = {}
    for one in mine:
        place = key(*(one[n] for n in ("function", "sqid", "cid", "opcode", "dptr1", "cdw10", "cdw12")))
        waiting.setdefault(place, []).append(one)
    assert len(mine) == len(real) == commands
    for row in real:
        place = key(
            bdf_number(row["bdf"]), int(row["sqid"]), int(row["cid"]), number(row["opcode"]), number(row["prp1"]),
            number(row["cdw10"]), number(row["cdw12"]),
        )  # fmt: skip
        assert differences(waiting[place].pop(0), row) == {}, row["n"]


def test_migrated_queues_are_followed_from_the_state_alone(capture: Find, tmp_path: Path) -> None:
    with decoded(capture("nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"), tmp_path) as run:
        restored = {(one["kind"], one["qid"]): one for one in run.table("queues") if one["origin"] == "state data"}
        commands = [one for one in run.table("transactions") if one["function"] == 0x102 and one["sqid"]]
        steps = [(one["step"], one["target"], one["status"]) for one in run.table("migration_steps")]
        migrations = run.table("migrations")
        entries = run.table("cdq_entries")
        states = run.table("controller_states")
        state_queues = run.table("controller_state_queues")
    assert set(restored) == {("SQ", 1), ("SQ", 2), ("CQ", 1), ("CQ", 2)}
    assert all(one["function"] == 0x102 and one["controller"] == 2 for one in restored.values())
    assert (restored["SQ", 1]["first_head"], restored["SQ", 1]["first_tail"]) == (15, 18)
    assert (restored["SQ", 2]["first_head"], restored["SQ", 2]["first_tail"]) == (13, 15)
    assert [one["size"] for _, one in sorted(restored.items())] == [64, 16, 64, 16]
    # five commands were posted while the source was suspended; each completes once, at the destination
    paused = [one for one in commands if one["sqid"] == 1 and 15 <= one["sq_slot"] < 18][:3]
    paused += [one for one in commands if one["sqid"] == 2 and 13 <= one["sq_slot"] < 15][:2]
    assert sorted(one["cid"] for one in paused) == [13, 14, 60, 61, 62]
    assert all(one["outcome"] == "completed" and one["sc"] == 0 for one in paused)
    assert ("resume", 2, "Successful Completion") in steps and ("first completion", 2, None) in steps
    assert ("suspended", 1, None) in steps
    assert len(migrations) == 1
    one = migrations[0]
    assert (one["source"], one["destination"], one["outcome"]) == (1, 2, "resumed")
    assert one["suspend_ps"] < one["suspended_ps"] < one["state_read_ps"] < one["state_set_ps"] < one["resume_ps"]
    assert one["resumed_ps"] < one["first_completion_ps"]
    assert [row["slot"] for row in entries] == list(range(13))
    assert [row["esa"] for row in entries] == [1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 3]
    assert all(row["target"] == 1 and row["cdqp"] for row in entries)
    assert [(row["set"], row["target"], row["offset"], row["length"]) for row in states] == [
        (False, 1, 0, 56), (False, 1, 0, 64), (False, 1, 64, 88), (True, 2, 0, 152),
    ]  # fmt: skip
    assert states[-1]["committed"] and states[-1]["data"][16:] == states[2]["data"][16:]
    assert [row["kind"] for row in state_queues if row["controller_state_id"] == states[-1]["id"]] == [
        "SQ", "SQ", "CQ", "CQ",
    ]  # fmt: skip


def test_lives_of_the_controllers_of_an_sriov_device(capture: Find, tmp_path: Path) -> None:
    with decoded(capture("nvme_sriov/nvme_sriov.pcapng.zst"), tmp_path) as run:
        lives = run.table("controllers")
        queues = run.table("queues")
    assert {one["function"]: one["is_virtual"] for one in lives} == {0x100: False, 0x101: True, 0x102: True}
    assert {(one["function"], one["controller"]) for one in lives} == {(0x100, 0), (0x101, 1), (0x102, 2)}
    assert all(one["learnt"] == "seen" and one["ended_ps"] for one in lives if one["function"] != 0x100)
    for one in queues:
        assert one["ended_by"] in ("reset", "delete", None)


def test_two_drives_seen_mid_stream_from_the_root_port(capture: Find, root: Path, tmp_path: Path) -> None:
    path, binding = capture("plnvme_write/test020.vcd.gz"), root / "samples" / "bindings" / "plnvme.toml"
    with decoded(path, tmp_path, binding=binding) as run:
        commands = run.table("transactions")
        queues = run.table("queues")
        roles = run.roles()
    assert len(commands) == 9 and len({one["link"] for one in commands}) == 2
    assert sum(one["outcome"] == "completed" for one in commands) == 7
    assert sum(one["outcome"] == "outstanding" for one in commands) == 2
    assert [one["opcode"] for one in commands].count(1) == 7
    assert sum(one["bytes_to_device"] == 4096 for one in commands) >= 5
    assert all(one["learnt"] == "inferred" for one in commands)
    assert all(one["learnt"] == "inferred" and one["confidence"] < 1 for one in queues)
    assert {(one["kind"], one["qid"], one["base"]) for one in queues} == {
        ("SQ", 1, 0x2010000), ("CQ", 1, 0x2110000),
    }  # fmt: skip
    assert "unrelated" not in roles
    assert roles["sq_doorbell"] + roles["cq_doorbell"] == 18 and roles["cqe"] == 7


@pytest.mark.parametrize(("name", "packet"), [("nvme_linux_mixed_io", 20000), ("nvme_sriov", 30000)])
def test_a_capture_that_starts_midway(name: str, packet: int, capture: Find, tmp_path: Path) -> None:
    real = [row for row in truth(capture(f"{name}/commands.csv.zst")) if int(row["frame_sqe_mrd"]) >= packet]
    path = capture(f"{name}/{name}.pcapng.zst")
    with decoded(path, tmp_path, keep=lambda rows: rows["source_offset"] >= packet) as run:
        assert check_packets(run, real) == []
        first = {(one["function"], one["kind"], one["qid"]): one for one in reversed(run.table("queues"))}
        assert all(one["learnt"] == "inferred" and one["confidence"] < 1 for one in first.values())


def test_lost_packets_lose_only_what_they_carried(capture: Find, tmp_path: Path) -> None:
    import numpy as np

    name = "nvme_linux_mixed_io"
    random = np.random.default_rng(7)
    real = truth(capture(f"{name}/commands.csv.zst"))
    with decoded(
        capture(f"{name}/{name}.pcapng.zst"), tmp_path, keep=lambda rows: random.random(len(rows)) > 0.005
    ) as run:
        mine = {(run.place(one["fetch_tlp_id"]), one["sqid"], one["cid"]) for one in run.table("transactions")}
        theirs = {(int(row["frame_sqe_mrd"]), int(row["sqid"]), int(row["cid"])) for row in real}
        assert len(mine & theirs) > 0.97 * len(theirs)
        assert len(mine - theirs) < 0.02 * len(theirs)
        assert run.roles().get("unrelated", 0) < 0.05 * len(run.rows)
