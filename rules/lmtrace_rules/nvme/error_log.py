"""nvme-checklist G16: the error log, against the commands that failed."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CommandFailed, EndOfCapture, GetLogPage
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.administration import MOST_KEPT
from lmtrace.spec.admin_data import ERROR_ENTRY, NO_COMMAND, Lid
from lmtrace.spec.nvme import Status

SECTION = "G16 Identify and Get Log Page"
PROFILE = ("nvme", "logs")

Entry = dict[str, int]


def _entries(command: GetLogPage) -> list[Entry]:
    """Return the entries of a read of the error log, as far as they were seen in a row; unused ones too."""
    found: list[Entry] = []
    for at in range(0, command.length, ERROR_ENTRY.size):
        raw = command.part(at, at + ERROR_ENTRY.size)
        if raw is None:
            break
        found.append(ERROR_ENTRY.decode(raw))
    return found


def _names(entry: Entry) -> tuple[int, int, Status]:
    return entry["SQID"], entry["CID"], Status(entry["SCT"], entry["SC"])


@rule("NVM21-5.1.12.1.2-n1", spec="NVMe Base 2.1, 5.1.12.1.2", party="controller", severity="warning")
def error_log_disagrees(event: EndOfCapture, session: Session) -> Iterator[Verdict]:
    """What is new in the error log are commands that failed, and those that failed with More are in it.

    A host would look for the error elsewhere. New is what the read before did not count.

    Holds::

        1us get_log_page lid=1 numdl=15
            data errcnt=0 size=64
        2us command_failed sqid=1 cid=5 status=0/80h more=1
        3us get_log_page lid=1 numdl=31
            data errcnt=1 sqid=1 cid=5 sc=0x80
            data raw=0 at=64 size=128
        9us end_of_capture

    Breaks::

        1us get_log_page lid=1 numdl=15
            data errcnt=4
        2us command_failed sqid=1 cid=5 status=0/80h
        3us get_log_page lid=1 numdl=15
            data errcnt=5 sqid=1 cid=5 sc=2
        9us end_of_capture

    Breaks::

        2us command_failed sqid=1 cid=5 status=0/80h more=1
        3us get_log_page lid=1 numdl=15
            data errcnt=0
        9us end_of_capture

    Silent::

        3us get_log_page lid=1 numdl=15
            data errcnt=7 sqid=1 cid=9 sc=2
        9us end_of_capture

    Silent::

        1us get_log_page lid=1 numdl=15
            data errcnt=4
        3us get_log_page lid=1 numdl=15
            data errcnt=5 sqid=0xffff cid=0xffff sc=6
        9us end_of_capture

    Silent::

        2us command_failed sqid=1 cid=5 status=0/80h more=1
        3us get_log_page lid=1 numdl=15
            data errcnt=9 sqid=1 cid=7 sc=2
        9us end_of_capture
    """
    for controller in session.functions.values():
        administration = controller.administration
        failures, before = administration.failures, None
        for log in administration.errors:
            if len(failures) > MOST_KEPT:
                yield not_observable("more commands failed than lmtrace remembers", log)
                break
            entries = _entries(log)
            wrong = _unfounded(entries, before, failures) or _left_out(entries, before, log, failures)
            if wrong:
                yield broken(wrong, log)
            elif before is not None or any(one.order < log.fetched for one in failures):
                yield held(log)
            before = log


def _unfounded(entries: list[Entry], before: GetLogPage | None, failures: list[CommandFailed]) -> str:
    """Return what is said of an entry that is new since the read before, and is no command that failed."""
    known = [] if before is None else _entries(before)
    if before is None or not known:
        return ""
    counted = max(one["ERRCNT"] for one in known)
    failed = {(one.sqid, one.cid, one.status) for one in failures if one.order > before.fetched}
    for entry in entries:
        if entry["ERRCNT"] <= counted or NO_COMMAND in (entry["SQID"], entry["CID"]):
            continue
        if _names(entry) not in failed:
            sqid, cid, status = _names(entry)
            return f"error {entry['ERRCNT']} is CID {cid} of SQ {sqid} with {status}, which did not fail so"
    return ""


def _left_out(
    entries: list[Entry], before: GetLogPage | None, log: GetLogPage, failures: list[CommandFailed]
) -> str:  # fmt: skip
    """Return what is said of a command that failed with More and is not in the next log, which has room for it."""
    if all(one["ERRCNT"] for one in entries):
        return ""
    there = {_names(one)[:2] for one in entries if one["ERRCNT"]}
    for one in failures:
        since = before is None or one.order > before.order
        if one.more and since and one.order < log.fetched and (one.sqid, one.cid) not in there:
            return f"CID {one.cid} of SQ {one.sqid} failed with {one.status} and More, and is not in the error log"
    return ""


@rule("NVM21-5.1.12.1.2-n2", spec="NVMe Base 2.1, 5.1.12.1.2", party="controller", severity="info", local=True)
def error_of_no_command_misnamed(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """An error that no command has is told with neither a queue nor a command identifier.

    With one of them a host looks for a command that was never sent.

    Holds::

        3us get_log_page lid=1 numdl=15
            data errcnt=5 sqid=0xffff cid=0xffff sc=6

    Breaks::

        3us get_log_page lid=1 numdl=15
            data errcnt=5 sqid=1 cid=0xffff sc=6

    Silent::

        3us get_log_page lid=1 numdl=15
            data errcnt=0 sqid=1 cid=0xffff
    """
    if command.lid != Lid.ERROR_INFORMATION or not command.succeeded:
        return
    for entry in _entries(command):
        if entry["ERRCNT"]:
            ok = (entry["CID"] == NO_COMMAND) == (entry["SQID"] == NO_COMMAND)
            text = f"error {entry['ERRCNT']} has CID {entry['CID']:X}h and SQID {entry['SQID']:X}h"
            yield expect(ok, text, command)
