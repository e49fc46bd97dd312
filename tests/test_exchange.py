"""TLPs as Parquet, CSV and JSON lines: what was written comes back, and what makes no sense is told by its line."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lmtrace
from lmtrace.check import find_interfaces
from lmtrace.errors import CaptureError, LmtraceError, UsageError
from lmtrace.exchange import EXAMPLE, EXAMPLE_DATA, NEEDS, document
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import Flag, Request, format_of
from lmtrace.tables import TLPS
from lmtrace.trouble import Troubles
from lmtrace_decoders.exchange.columns import parse_columns

ASIDE = {"id", "capture", "source_offset", "fingerprint", "pairing"}


def read(file: Path, columns: str | None = None) -> tuple[np.ndarray, bytes, Troubles, list[str]]:
    troubles = Troubles(file.name)
    reader = format_of(file, {"columns"}).open(Request(file, None, troubles, layout=columns))
    chunks = list(reader.chunks())
    rows = np.concatenate([chunk.rows for chunk in chunks])
    payload = b"".join(
        chunk.payload[row["payload_start"] : row["payload_start"] + row["payload_bytes"]].tobytes()
        for chunk in chunks for row in chunk.rows
    )  # fmt: skip
    return rows, payload, troubles, [link.name for link in reader.links]


def text_rows(run: Run) -> list[dict[str, Any]]:
    rows = run.table("tlps", list(NEEDS)).to_pylist()
    for row in rows:
        row["payload"] = row["payload"].hex() if row["payload"] is not None else None
    return rows


def as_csv(run: Run, file: Path) -> Path:
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(NEEDS))
        writer.writeheader()
        writer.writerows(text_rows(run))
    return file


def as_json(run: Run, file: Path) -> Path:
    lines = (json.dumps({name: value for name, value in row.items() if value is not None}) for row in text_rows(run))
    file.write_text("\n".join(lines) + "\n")
    return file


def as_parquet(run: Run, file: Path) -> Path:
    file.write_bytes((run.folder / "tlps.parquet").read_bytes())
    return file


def same(one: Run, other: Run, *tables: str) -> None:
    for name in tables:
        wanted = [column for column in one.table(name).column_names if column not in ASIDE]
        for column in wanted:
            assert one.table(name, [column]).equals(other.table(name, [column])), f"{name}.{column}"


@pytest.mark.parametrize("write", [as_parquet, as_csv, as_json])
def test_a_run_is_read_again_from_its_tlps(tmp_path: Path, write: Callable[[Run, Path], Path]) -> None:
    (capture,) = synth("migration", tmp_path / "a.pcapng")
    before = lmtrace.check(capture)
    suffix = {as_parquet: ".parquet", as_csv: ".csv", as_json: ".jsonl"}[write]
    after = lmtrace.check(write(before, tmp_path / f"b{suffix}"))
    same(before, after, "transactions", "children", "violations", "controllers", "queues", "controller_states")
    assert {row["name"] for row in after.table("troubles").to_pylist()} == {"payload-not-there"}


@pytest.mark.parametrize("bus", ["xilinx-us-256-msix-pins", "xilinx-us-128-root-port", "tlp-stream-512x2"])
def test_what_a_bus_does_not_carry_stays_unknown(tmp_path: Path, bus: str) -> None:
    (capture,) = synth("plain-io", tmp_path / "a.vcd", bus=bus)
    before = lmtrace.check(capture, payload="keep")
    after = lmtrace.check(as_parquet(before, tmp_path / "b.parquet"), payload="keep")
    same(before, after, "tlps", "transactions", "children", "violations", "interrupts")


def test_bind_names_the_links_of_a_table(tmp_path: Path) -> None:
    (capture,) = synth("plain-io", tmp_path / "a.pcapng")
    for write, name in ((as_parquet, "b.parquet"), (as_csv, "b.csv"), (as_json, "b.jsonl")):
        found = find_interfaces(write(lmtrace.check(capture), tmp_path / name))
        assert found.startswith(f"# {name}: ") and '[link."pcie0".given]' in found


def test_several_captures_in_one_table_stay_apart(tmp_path: Path) -> None:
    files = synth("migration-two-captures", tmp_path / "a.pcapng")
    before = lmtrace.check(files)
    after = lmtrace.check(as_parquet(before, tmp_path / "b.parquet"))
    names = ["sqid", "cid", "opcode", "cdw10", "sct", "sc", "outcome", "bytes_to_device", "bytes_from_device"]
    assert before.table("transactions", names).equals(after.table("transactions", names))


# -- single rows ---------------------------------------------------------------------------------------------------


def write_json(folder: Path, *rows: dict[str, object]) -> Path:
    file = folder / "a.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_the_examples_of_the_documentation(tmp_path: Path) -> None:
    rows, payload, _, links = read(write_json(tmp_path, EXAMPLE))
    whole, same_payload, _, _ = read(write_json(tmp_path, EXAMPLE_DATA))
    file = tmp_path / "a.csv"
    lines = document().splitlines()
    at = lines.index(",".join(EXAMPLE))
    file.write_text("\n".join(lines[at : at + 2]))
    from_csv = read(file)
    for one in (rows[0], whole[0], from_csv[0][0]):
        assert (Kind(one["kind"]), Direction(one["direction"])) == (Kind.MWr, Direction.UPSTREAM)
        assert (one["address"], one["length_dw"], one["first_be"], one["last_be"]) == (0x1_0000_1000, 2, 15, 15)
        assert (one["time_ps"], one["requester_id"], one["flags"]) == (1_500_000, 0x100, 0)
    assert payload == same_payload == from_csv[1] == bytes.fromhex("0011223344556677")
    assert links == ["pcie0"]
    assert set(NEEDS) < {column.name for column in TLPS.columns}


def row(**values: object) -> dict[str, object]:
    return {"time_ps": 5, "direction": "downstream", "kind": "MRd", "requester_id": 8, "address": 4096, **values}


def test_what_is_missing_is_filled_in(tmp_path: Path) -> None:
    file = write_json(
        tmp_path,
        row(length_dw=4),
        row(kind="CfgRd0", completer_id="01:00.0", address="0x10"),
        row(kind="CplD", payload="00 11-22:33"),
        row(kind="MWr", length_dw=8, payload="00112233445566"),
        row(kind="Msg", message_code="20h"),
        {
            "time_ps": 9,
            "direction": "up",
            "kind": "mwr",
            "address": "fee00000h",
            "payload": "01000000",
            "function": 256,
        },
    )
    rows, payload, troubles, _ = read(file)
    assert rows["length_dw"].tolist() == [4, 1, 1, 8, 0, 1]
    assert rows["completer_id"].tolist()[1] == 0x100
    assert rows["address"].tolist() == [4096, 16, 0, 4096, 0, 0xFEE00000]
    assert rows["first_be"].tolist() == [15, 15, 0, 15, 0, 15]
    assert rows["last_be"].tolist() == [15, 0, 0, 15, 0, 0]
    assert rows["byte_count"].tolist() == [0, 0, 4, 0, 0, 0]
    assert rows["message_code"][4] == 0x20
    assumed, cut, side = Flag.BE_ASSUMED, Flag.CUT, Flag.SIDE_BAND
    assert rows["flags"].tolist() == [assumed, assumed, 0, assumed | cut, 0, side]
    assert rows["requester_id"].tolist() == [8, 8, 8, 8, 8, 0x100]
    assert payload == bytes.fromhex("00112233 00112233 01000000")
    assert rows["source_offset"].tolist() == [1, 2, 3, 4, 5, 6]
    assert [one["name"] for one in troubles.rows()] == ["payload-not-there"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (row(kind="MRdd", length_dw=1), "line 2: kind: 'MRdd' is not known"),
        (row(direction="sideways", length_dw=1), "line 2: direction: 'sideways' is not known"),
        (row(tag=1024, length_dw=1), "line 2: tag: 1024 is more than 1023"),
        (row(tag="x", length_dw=1), "line 2: tag: 'x' is not a number"),
        (row(tag=-1, length_dw=1), "line 2: tag: '-1' is not a number"),
        (row(), "line 2: length_dw: is missing"),
        (row(kind="MWr", length_dw=1, payload="0011223344"), "line 2: payload: has 5 bytes, and length_dw is 1"),
        (row(kind="MWr", payload="001"), "line 2: payload: '001' is not hexadecimal"),
        (row(length_dw=1, time_ps="soon"), "line 2: time_ps: 'soon' is not a time"),
        (row(length_dw=1, time_ps=1 << 63), "line 2: time_ps: '9223372036854775808' is not a time"),
        (row(length_dw=1, address=None), "line 2: address: is missing"),
        ({"time_ps": 1, "direction": "up", "length_dw": 1, "address": 1}, "line 2: kind: is missing"),
        ([1], "line 2: not an object"),
        ({"direction": "up", "kind": "MRd"}, "line 2: time_ps: is missing"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_wrong_cell_is_told_by_its_line(tmp_path: Path, wrong: dict[str, object], says: str) -> None:
    with pytest.raises(CaptureError) as error:
        read(write_json(tmp_path, row(length_dw=1), wrong))
    assert f"a.jsonl: {says}" in str(error.value)


def test_a_broken_line_is_told_and_a_cut_one_is_the_end(tmp_path: Path) -> None:
    file = write_json(tmp_path, row(length_dw=1), row(length_dw=1))
    good = file.read_text()
    file.write_text(good.replace("}\n", "\n"))
    with pytest.raises(CaptureError, match=r"a\.jsonl is no capture|line 1"):
        read(file)
    file.write_text(good + "\n{,}\n" + good)
    with pytest.raises(CaptureError, match=r"a\.jsonl: line 3: Expecting property name"):
        read(file)
    file.write_text(good[:-5])
    rows, _, troubles, _ = read(file)
    assert len(rows) == 1 and [one["name"] for one in troubles.rows()] == ["capture-cut"]


# -- CSV -----------------------------------------------------------------------------------------------------------

EXPORT = """\
Protocol analyzer 3.1,,,
exported by somebody,,,

Packet,Time (us),Dir,Raw Data
1,10.000001,Host,0x00000001 0100050F 00001000
2,"10.5",Device,4A000001 00080004 01000500 64617461
3,11,Device,60000002 010000FF 00000001 00001000 7061796C 6F616421
"""


def test_an_export_with_names_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text(EXPORT)
    with pytest.raises(CaptureError, match=r"columns are Packet, Time \(us\), Dir, Raw Data.*\n.*--columns"):
        read(file)
    rows, payload, troubles, _ = read(file, "time=Time (us):us,dir=Dir:Host/Device,data=Raw Data")
    assert [Kind(one).name for one in rows["kind"]] == ["MRd", "CplD", "MWr"]
    assert rows["time_ps"].tolist() == [0, 499_999, 999_999]
    assert rows["direction"].tolist() == [0, 1, 1]
    assert payload == b"datapayload!"
    assert rows["source_offset"].tolist() == [5, 6, 7]
    assert troubles.rows() == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("packed", [False, True])
def test_delimiters_marks_and_ends_of_lines(tmp_path: Path, delimiter: str, packed: bool) -> None:
    text = EXPORT.replace(",", delimiter).replace("\n", "\r\n")
    data = b"\xef\xbb\xbf" + text.encode()
    file = tmp_path / "export.csv.gz"
    file.write_bytes(gzip.compress(data) if packed else data)
    rows, payload, _, _ = read(file, 'time="Time (us)":us,dir=Dir:Host/Device,data=Raw Data')
    assert (len(rows), payload) == (3, b"datapayload!")


def test_header_and_payload_in_two_columns_and_the_host_by_its_id(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "t,h,p\n1.5,000000010000050F00001000,\n2.5,4A0000010100000400000500,64617461\n"
        "3.5,60000002010000FF0000000100001000,7061\n"
    )
    rows, payload, troubles, _ = read(file, "time=t:ns,header=h,payload=p,host=00:00.0")
    assert rows["direction"].tolist() == [0, 1, 1]
    assert rows["time_ps"].tolist() == [0, 1000, 2000]
    assert payload == b"data"
    assert rows["flags"].tolist() == [0, 0, Flag.CUT]
    assert [one["name"] for one in troubles.rows()] == ["payload-cut"]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0.001500 ms", ""), ("1.5us", ""), ("1500 ns", ""), ("1.5 µs", ""), ("0.0000015", "s"), ("1.5e-06", "s"),
        ("15E-7 s", ""), ("00:00:00.0000015", "s"), ("0.000 001 500", "s"), ("1,5", "us"), ("1500,0", "ns"),
        ("1.500,0", "ns"), ("1 500", "ns"),
    ],
)  # fmt: skip
def test_times_as_analyzers_write_them(tmp_path: Path, text: str, unit: str) -> None:
    """All are one and a half microseconds."""
    file = tmp_path / "a.csv"
    zero = "".join("0" if c.isdigit() else c for c in text)
    tlp = "00000001 0100050F 00001000"
    file.write_text(f"Time;Dir;Data\n{zero};down;{tlp}\n{text};up;{tlp}\n")
    rows, _, _, _ = read(file, f"time=Time{unit and ':' + unit},dir=Dir,data=Data")
    assert rows["time_ps"].tolist() == [0, 1_500_000]


def test_a_comma_in_a_time_is_never_guessed(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    for delimiter, first, second, steps in (
        (",", '"1,500"', '"2,500"', 10**9), (";", "1,500", "2,500", 10**6), ("\t", "1,500", "2,50", 10**6),
        ("\t", "1,500", "2,500.0", 10**9),
    ):  # fmt: skip
        rows = [["Time", "Dir", "Data"], *([one, "down", "000000010100050F00001000"] for one in (first, second))]
        file.write_text("\n".join(delimiter.join(row) for row in rows))
        found, _, _, _ = read(file, "time=Time:us,dir=Dir,data=Data")
        assert found["time_ps"].tolist() == [0, steps]
    file.write_text(file.read_text().replace("2,500.0", "2,500"))
    with pytest.raises(CaptureError, match="line 2: Time: '1,500' may be a thousand times more or less"):
        read(file, "time=Time:us,dir=Dir,data=Data")


def test_lines_of_something_else_are_left_out(tmp_path: Path) -> None:
    """Analyzers list DLLPs and events of the link beside TLPs."""
    tlp = "000000010100050F00001000"
    file = tmp_path / "a.csv"
    file.write_text(f"t,d,Data\n1,down,{tlp}\n2,up,\n,,  \n3,up,800100020A0B\n4,up,{tlp}\n")
    rows, _, troubles, _ = read(file, "time=t:us,dir=d,data=Data")
    assert rows["time_ps"].tolist() == [0, 3_000_000]
    assert [(one["name"], one["count"]) for one in troubles.rows()] == [("packet-not-a-tlp", 3)]
    file.write_text("t,d,Data\n1,down,\n")
    with pytest.raises(CaptureError, match="no line has a TLP in the column Data"):
        read(file, "time=t:us,dir=d,data=Data")


def test_utf16(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    for coding in ("utf-16", "utf-16-be"):
        mark = b"" if coding == "utf-16" else b"\xfe\xff"
        file.write_bytes(mark + EXPORT.replace("Dir", "Richtung ↕").encode(coding))
        rows, payload, _, _ = read(file, "time=Time (us):us,dir=Richtung ↕:Host/Device,data=Raw Data")
        assert (len(rows), payload) == (3, b"datapayload!")


def test_words_for_the_direction_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("t,d,Data\n1,Tx,000000010100050F00001000\n")
    with pytest.raises(CaptureError, match=r"line 2: d: 'Tx' is not known; say which words .* dir=COLUMN:DOWN/UP"):
        read(file, "time=t:us,dir=d,data=Data")
    file.write_text("t,d,Data\n1,down,000000010100050F00001000\n")
    with pytest.raises(CaptureError, match="line 2: t: '1' has no unit; say which"):
        read(file, "time=t,dir=d,data=Data")


def test_columns_of_tlps_under_other_names(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("When,Way,What,Who,Where,Dwords\n0.001,in,MRd,01:00.0,fee0,1\n")
    text = "time=When:ms,dir=Way:in/out,kind=What,requester_id=Who,address=Where:hex,length_dw=Dwords"
    rows, _, _, _ = read(file, text)
    assert (rows["address"][0], rows["requester_id"][0], rows["length_dw"][0]) == (0xFEE0, 0x100, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("0x00000001", "FF000001"), "line 5: Raw Data: is no TLP"),
        (
            ("0x00000001 0100050F 00001000", "000000010100050F00"),
            "line 5: Raw Data: is shorter than the header of a TLP",
        ),
        (("Host", "host computer"), "line 5: Dir: 'host computer' is not known"),
        (("11,", "eleven,"), "line 7: Time (us): 'eleven' is not a time"),
        (("11,", ","), "line 7: Time (us): None is not a time"),
        (("11,", "99999999999999,"), "line 7: Time (us): lies more than 53 days away"),
        (("11,", "11,more,"), "line 7 has 5 fields, the names of the columns in line 4 are 4"),
        (("Raw Data", "Data"), "no line names the column Raw Data; the columns are Packet, Time (us), Dir, Data"),
    ],
)
def test_a_wrong_field_is_told_by_its_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    file = tmp_path / "export.csv"
    file.write_text(EXPORT.replace(*change, 1))
    with pytest.raises(CaptureError) as error:
        read(file, "time=Time (us):us,dir=Dir:Host/Device,data=Raw Data")
    assert f"export.csv: {says}" in str(error.value)


def test_a_cut_last_line_is_the_end(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text(EXPORT[: EXPORT.index(",Device,6000")])
    rows, _, troubles, _ = read(file, "time=Time (us):us,dir=Dir:Host/Device,data=Raw Data")
    assert len(rows) == 2
    assert [(one["name"], one["first_offset"]) for one in troubles.rows()] == [("capture-cut", 7)]


def test_a_line_without_end_is_told(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text(EXPORT + "x" * (3 << 20))
    with pytest.raises(CaptureError, match=r"line 8 is longer than"):
        read(file, "time=Time (us):us,dir=Dir:Host/Device,data=Raw Data")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data=a,dir=b", "time=COLUMN:UNIT is needed"),
        ("time=t:weeks,data=a,dir=b", "with one of the units"),
        ("time=t:us,dir=b", "data=COLUMN, header=COLUMN or kind=COLUMN is needed"),
        ("time=t:us,data=a", "dir=COLUMN:DOWN/UP is needed"),
        ("time=t:us,data=a,dir=b:up", "dir= takes COLUMN:DOWN/UP"),
        ("time=t:us,data=a,dir=b,wrong=c", "no word 'wrong'; there are time, dir, data, header"),
        ("time=t:us,data=,dir=b", "data= names no column"),
        ("time=t:us,data=a:b,dir=b", "put a name with a colon in double quotes"),
        ("time=t:us,data=a,data=b,dir=b", "data stands there twice"),
        ("time=t:us,kind=a,dir=b,dll", "dll is for data= and header="),
        ("", "time=COLUMN:UNIT is needed"),
    ],
)
def test_columns_without_sense(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_columns(text)
    assert says in str(error.value)


# -- Parquet -------------------------------------------------------------------------------------------------------


def test_parquet_of_other_types_and_a_wrong_row(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    columns = {
        "time_ps": [1, 2], "direction": pa.array(["up", "down"]).dictionary_encode(), "data": [
            "000000010000050F00001000", "4A0000010100000400000500 64617461",
        ],
    }  # fmt: skip
    pq.write_table(pa.table(columns), file)
    rows, payload, _, _ = read(file)
    assert (rows["direction"].tolist(), payload) == ([1, 0], b"data")
    columns["data"] = ["000000010000050F00001000", "zz"]
    pq.write_table(pa.table(columns), file)
    with pytest.raises(CaptureError, match=r"a\.parquet: row 2: data: 'zz' is not hexadecimal"):
        read(file)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(CaptureError, match=r"no table of TLPs, its columns are a; lmtrace tlps schema"):
        read(file)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("column", ["payload", "kind", "direction", "link", "capture", "time_ps"])
def test_texts_that_are_no_utf8(tmp_path: Path, kind: str, column: str) -> None:
    """One that is a name is read with escapes, and every other is told."""
    good = {name: str(cell) for name, cell in row(kind="CplD", payload="00112233", link="x", capture="y").items()}
    good[column] = "1\x7f"
    file = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        file.write_text(json.dumps(good, ensure_ascii=False) + "\n")
    elif kind == "csv":
        file.write_text(f"{','.join(good)}\n{','.join(good.values())}\n")
    else:
        pq.write_table(pa.Table.from_pylist([good]), file, compression="none", use_dictionary=False)
    file.write_bytes(file.read_bytes().replace(b"1\x7f", b"1\xb0"))
    try:
        rows, _, _, _ = read(file)
        assert column in ("link", "capture") and len(rows) == 1
    except CaptureError as error:
        assert f"a.{kind}" in str(error)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_never_raises_but_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes changed, cut or repeated: rows, or an error that names the file."""
    folder = tmp_path_factory.mktemp("damage")
    kind = data.draw(st.sampled_from(["jsonl", "csv", "parquet"]))
    file = folder / f"a.{kind}"
    some = [row(length_dw=1), row(kind="CplD", payload="00112233"), row(kind="MWr", payload="0011223344556677")]
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(one) for one in some))
    elif kind == "csv":
        names = list(dict.fromkeys(name for one in some for name in one))
        file.write_text("\n".join([",".join(names), *(",".join(str(o.get(n, "")) for n in names) for o in some)]))
    else:
        pq.write_table(pa.Table.from_pylist(some), file)
    raw = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        read(file)
    except LmtraceError as error:
        assert f"a.{kind}" in str(error)
    except ValueError as error:
        assert "need at least one array" in str(error)
