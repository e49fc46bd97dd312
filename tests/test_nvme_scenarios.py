"""Scenarios played by the model of host and subsystem: the tables hold what the model did."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmtrace.scenario import Options, scenarios, synth
from lmtrace.stage import Request, format_of
from lmtrace.store import Capture, Store
from lmtrace.trouble import Troubles
from lmtrace_decoders.nvme.decode import nvme
from lmtrace_samples.plots import plots
from lmtrace_samples.record import Done
from lmtrace_samples.write_pcapng import write_pcapng
from nvme_decoded import decoded

scenarios()


def told(done: Done) -> dict[str, object]:
    """Return a command of the model as the table tells it."""
    dword = [int.from_bytes(done.sqe[at : at + 4], "little") for at in range(0, 64, 4)]
    row: dict[str, object] = {
        "function": done.function, "sqid": done.sqid, "sq_slot": done.slot, "cid": done.cid, "opcode": done.opcode,
        "nsid": dword[1], "dptr1": dword[6] | dword[7] << 32, "dptr2": dword[8] | dword[9] << 32,
        **{f"cdw{n}": dword[n] for n in range(10, 16)},
        "bytes_to_device": done.bytes_to_device, "bytes_from_device": done.bytes_from_device,
    }  # fmt: skip
    if done.cqe_ps is not None and done.status is not None:
        row |= {
            "outcome": "completed", "sct": done.status.sct, "sc": done.status.sc, "dw0": done.dw0, "dw1": done.dw1,
            "sqhd": done.sqhd, "phase": bool(done.phase), "cqid": done.cqid,
        }  # fmt: skip
    return row


@pytest.mark.parametrize("name", sorted(one for one, plot in plots.items() if set(plot.captures) == {""}))
def test_the_tables_hold_what_the_model_did(name: str, tmp_path: Path) -> None:
    captures, record = plots[name].play(Options(), keep=True)
    path = tmp_path / "played.pcapng"
    write_pcapng(captures[""], path, "", 1)
    with decoded(path, tmp_path) as run:
        commands = run.table("transactions")
        entries = [row["data"] for row in run.table("cdq_entries")]
        assert "unrelated" not in run.roles()
    mine = sorted(commands, key=lambda row: (row["fetch_ps"], row["function"], row["sqid"], row["sq_slot"]))
    theirs = sorted(record.commands, key=lambda one: (one.fetch_ps, one.function, one.sqid, one.slot))
    assert len(mine) == len(theirs) > 20
    waiting: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for row in mine:
        waiting.setdefault(tuple(row[key] for key in ("function", "sqid", "sq_slot", "cid", "opcode")), []).append(row)
    for done in theirs:
        expected = told(done)
        row = waiting[done.function, done.sqid, done.slot, done.cid, done.opcode].pop(0)
        assert {key: row[key] for key in expected} == expected
    assert entries == [data for *_, data in record.entries]


def test_two_captures_of_one_migration_belong_together(tmp_path: Path) -> None:
    """The bytes of the state tell which source and destination are one migration; ids go on from capture to capture."""
    files = synth("migration-two-captures", tmp_path / "played.pcapng")
    with Store(tmp_path / "out") as store:
        for path in sorted(files, key=lambda one: "destination" in one.name):
            troubles = Troubles(path.name)
            reader = format_of(path).open(Request(path, None, troubles))
            first = store.tlp_count
            for chunk in reader.chunks():
                store.append_tlps(chunk)
            store.captures.append(
                Capture(path.name, reader.format, list(reader.links), troubles, first, store.tlp_count)
            )
        nvme(store)
        store.finish_tables()
        migrations = store.read("migrations").to_pylist()
        commands = store.read("transactions").to_pylist()
        children = store.read("children").to_pylist()
        kept = store.read("command_data").to_pylist()
        rows = store.tlps(0, store.tlp_count)
    assert [one["id"] for one in commands] == list(range(len(commands)))
    assert len(migrations) == 1
    one = migrations[0]
    assert (one["capture"], one["destination_capture"]) == ("played.source.pcapng", "played.destination.pcapng")
    assert commands[one["suspend_transaction_id"]]["name"] == "Migration Send"
    assert commands[one["resume_transaction_id"]]["capture"] == "played.destination.pcapng"
    for child in children:
        command = commands[child["transaction_id"]]
        if child["kind"] == "sqe_fetch":
            assert rows["time_ps"][child["first_tlp_id"]] == command["fetch_ps"]
    for data in kept:
        command = commands[data["transaction_id"]]
        assert command["sqid"] == 0 or command["name"] in ("Dataset Management", "Copy")
