"""What the session learns of features and log pages, and what events tell of them."""

from __future__ import annotations

import pytest

from lmtrace.events import Command, GetFeatures, GetLogPage, SetFeatures
from lmtrace.known import Known
from lmtrace.pieces import Pieces
from lmtrace.session import Session
from lmtrace.session.administration import Administration
from lmtrace.session.events import observe
from lmtrace.session.fetched import begin
from lmtrace.spec.admin_data import (
    SMART_LOG,
    feature_bytes,
    reserved_cns,
    reserved_feature,
    reserved_log_page,
)
from lmtrace.story import MMC, parse


def play(text: str) -> tuple[Administration, Session, Command | None]:
    """Return what is known of the MMC just before the last event of a story is observed, and that event."""
    session, steps = parse(text)
    last = None
    for number, step in enumerate(steps, 1):
        if step.begins:
            assert isinstance(step.event, Command)
            begin(session, step.event)
        elif number < len(steps):
            observe(session, step.event)
        else:
            last = step.event if isinstance(step.event, Command) else None
    return session.of_function(MMC).administration, session, last


SET = "1us set_features fid=6 cdw11=1\n"
GET = "9us get_features fid=6"


@pytest.mark.parametrize(
    ("between", "value"),
    [
        ("", 1),
        ("2us set_features fid=6 cdw11=0", 0),
        ("2us set_features fid=6 cdw11=0 status=0/02h", 1),
        ("2us set_features fid=8 cdw11=7", 1),
        ("2us set_features fid=6 cdw11=0 status=none", None),
        ("2us set_features fid=6 cdw11=0 fetch=500ns", None),
        ("2us reset", None),
        ("2us set_features function=01:00.1 fid=6 cdw11=0", 1),
    ],
)
def test_the_setting_that_get_features_must_return(between: str, value: int | None) -> None:
    administration, _, last = play(f"{SET}{between}\n{GET}")
    assert isinstance(last, GetFeatures)
    setting = administration.setting(last)
    assert (None if setting is None else setting.field("CDW11")) == value


def test_a_setting_that_is_on_its_way_is_not_certain() -> None:
    administration, _, last = play(
        f"{SET}8us set_features fid=6 cdw11=0 fetch=7us\n9us get_features fid=6 fetch=7500ns"
    )
    assert isinstance(last, GetFeatures)
    assert administration.setting(last) is None


@pytest.mark.parametrize(
    ("second", "left"),
    [
        ("fid=5 nsid=2 cdw11=7", 2), ("fid=5 nsid=0xffffffff cdw11=7", 1), ("fid=5 nsid=1 cdw11=7", 1),
    ],
)  # fmt: skip
def test_every_namespace_has_settings_of_its_own(second: str, left: int) -> None:
    administration, _, _ = play(f"1us set_features fid=5 nsid=1 cdw11=3\n2us set_features {second}\n3us end_of_capture")
    assert len(administration.settings) == left


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("", Known.NO),
        ("1us set_features fid=0x0d cdw11=1", Known.YES),
        ("1us set_features fid=0x0d cdw11=1 status=0/02h", Known.NO),
        ("1us set_features fid=0x0d cdw11=1\n2us set_features fid=0x0d cdw11=0", Known.NO),
        ("1us set_features fid=0x0d cdw11=1\n2us reset", Known.NO),
        ("1us set_features fid=0x0d cdw11=1 status=none", Known.UNKNOWN),
        ("0us midway", Known.UNKNOWN),
        ("0us midway\n1us set_features fid=0x0d cdw11=0", Known.NO),
    ],
)
def test_whether_memory_is_lent(text: str, known: Known) -> None:
    administration, _, _ = play(f"{text}\n9us end_of_capture")
    assert administration.host_memory.now is known


def test_a_committed_state_is_that_of_another_controller() -> None:
    text = """
1us set_features function=01:00.1 fid=6 cdw11=1
1us get_log_page function=01:00.1 lid=2
    data duw=7
2us suspend target=1 stype=1
3us set_controller_state target=1 seqind=3 csvi=1
    nvme niosq=0
9us end_of_capture
"""
    _, session, _ = play(text)
    moved = session.controller(1).administration
    assert moved.settings == {} and moved.pages == {}


def test_a_new_controller_over_fabrics_counts_anew() -> None:
    text = "1us get_log_page function=0x10001 lid=2\n    data neile=7\n2us connect function=0x10001\n9us end_of_capture"
    _, session, _ = play(text)
    assert session.of_function(0x10001).administration.pages == {}


def test_supported_log_pages() -> None:
    administration, _, _ = play("1us get_log_page lid=0\n    data raw=1 at=8 size=64\n9us end_of_capture")
    assert [administration.lists_page(lid) for lid in (2, 3, 16)] == [Known.YES, Known.NO, Known.UNKNOWN]


def log_page(offset: int, data: bytes, ot: int = 0) -> GetLogPage:
    sqe = bytearray(64)
    sqe[40], sqe[48:56], sqe[58] = 2, offset.to_bytes(8, "little"), ot << 7
    return GetLogPage(sqe=bytes(sqe), data=Pieces.of(data, [0, len(data)]))


def test_a_log_page_read_in_pieces_tells_what_the_piece_holds() -> None:
    page = SMART_LOG.encode(CTEMP=300, DUW=5, NEILE=9)
    first, second = log_page(0, page[:64]), log_page(64, page[64:])
    assert (first.value(SMART_LOG, "CTEMP"), second.value(SMART_LOG, "CTEMP")) == (300, None)
    assert (first.value(SMART_LOG, "NEILE"), second.value(SMART_LOG, "NEILE")) == (None, 9)
    assert (first.part(60, 68), second.part(60, 68), second.part(64, 68)) == (None, None, page[64:68])
    assert log_page(1, page, ot=1).value(SMART_LOG, "CTEMP") is None


def test_commands_are_told_by_what_they_are_about() -> None:
    _, _, last = play("1us command opc=9 cdw10=0x80000006")
    assert isinstance(last, SetFeatures) and last.fid == 6 and last.saves
    _, _, last = play("1us command opc=0x0a cdw10=0x0306")
    assert isinstance(last, GetFeatures) and last.select == 3
    _, _, last = play("1us command opc=2 cdw10=0x000f0002 cdw11=1")
    assert isinstance(last, GetLogPage) and last.length == 4 * 0x10010


def test_reserved_codes() -> None:
    assert [cns for cns in range(0x30) if reserved_cns(cns)] == [*range(0x0B, 0x10), *range(0x21, 0x30)]
    assert not reserved_cns(0xC0) and not reserved_log_page(0xC0) and not reserved_feature(0xC0)
    assert reserved_log_page(0x24) and not reserved_log_page(0x70) and not reserved_log_page(0xBF)
    assert reserved_feature(0) and reserved_feature(0x22) and not reserved_feature(0x21) and not reserved_feature(0x85)


def test_data_of_features() -> None:
    assert [feature_bytes(0x81, True, wide) for wide in (0, 1)] == [8, 16]
    assert [feature_bytes(0x0D, get, 1) for get in (True, False)] == [4096, 0]
    assert feature_bytes(6, True, 0) == 0 and feature_bytes(0xC1, True, 0) is None
