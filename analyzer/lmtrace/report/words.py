"""Phrases that every report uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmtrace import describe
from lmtrace.spec.pcie import bdf_text
from lmtrace.units import count, short, size

PARTIES = {"controller": "the controller's duty", "host": "the host's duty", "both": "the duty of both"}


def clean(text: object) -> str:
    """Return text of a capture without anything that could steer a terminal or break a line."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(text))


def headline(summary: Mapping[str, Any]) -> str:
    """Return the verdict and the numbers it rests on, in a line."""
    if not summary["settings"]["judged"]:
        return "decoded, not judged"
    counts = summary["counts"]
    found = [count(number, one) for one, number in counts["violations"].items() if number]
    if counts["waived"]:
        found.append(f"{counts['waived']} waived")
    verdict = summary["verdict"]
    if verdict == "nothing judged":
        return "nothing judged: no rule applied to what the capture shows"
    rules = counts["outcomes"]
    rest = f"{count(rules['held'], 'rule')} held"
    return f"{verdict}: {', '.join(found)}; {rest}" if found else f"{verdict}: no violation; {rest}"


def outcome_lines(summary: Mapping[str, Any], answers: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return (outcome, what it says) for each kind of outcome."""
    number = summary["counts"]["outcomes"]
    return [
        ("held", f"{count(number['held'], 'rule')}, {count(answers['held'], 'answer')}"),
        ("broken", f"{count(number['broken'], 'rule')}, {count(answers['broken'], 'violation')}"),
        ("not exercised", f"{count(number['not exercised'], 'rule')}: nothing in the capture is about them"),
        ("not observable", f"{count(number['not observable'], 'rule')}: the evidence is not in the capture"),
    ]


def listed_words(number: int) -> str:
    """Return what is said of the requirements that no rule judges."""
    return f"{count(number, 'requirement')} judged by no rule; lmtrace rules lists them and says why"


def capture_line(capture: Mapping[str, Any]) -> str:
    """Return what was in one capture."""
    links = ", ".join(one["name"] for one in capture["links"])
    return (
        f"{count(capture['tlps'], capture.get('unit', 'TLP'))}, {count(capture['transactions'], 'command')}, "
        f"{short(capture['duration_ps'])} on {links or 'no link'}"
    )


def who(row: Mapping[str, Any]) -> str:
    """Return the controller of a row: its CNTLID, else its function."""
    if row["controller"] is not None:
        return f"controller {row['controller']}"
    return f"function {bdf_text(row['function'])}"


def command_words(transaction: Mapping[str, Any]) -> str:
    """Return which command it is: ``SQ 0, CID 12 Migration Send: Suspend``."""
    return f"SQ {transaction['sqid']}, CID {transaction['cid']} {describe.operation(transaction)}"


def tlp_words(tlp: Mapping[str, Any]) -> str:
    """Return which TLP it is: ``TLP 12 MWr 1000h, 16 B``."""
    address = f" {tlp['address']:X}h" if tlp["address"] is not None else ""
    return f"TLP {tlp['id']} {tlp['kind']}{address}, {size(4 * tlp['length_dw'])}"
