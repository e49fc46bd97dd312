"""Phrases that every report uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmtrace import describe
from lmtrace.spec.pcie import bdf_text
from lmtrace.units import count, exact, short, size

PARTIES = {"controller": "the controller's duty", "host": "the host's duty", "both": "the duty of both"}


def clean(text: object) -> str:
    """Return text of a capture without anything that could steer a terminal or break a line."""
    said = str(text)
    if said.isprintable():
        return said
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in said)


def headline(summary: Mapping[str, Any]) -> str:
    """Return the verdict and the numbers it rests on, in a line."""
    if not summary["settings"]["judged"]:
        return "decoded, not judged"
    counts = summary["counts"]
    found = [count(number, one) for one, number in counts["violations"].items() if number]
    if counts["waived"]:
        found.append(f"{counts['waived']} waived")
    verdict = summary["verdict"]
    if verdict == "held" and any(counts["violations"].values()):
        found.insert(0, "no error")
    if verdict == "nothing judged":
        return "nothing judged: no rule applied to what the capture shows"
    rules = counts["outcomes"]
    rest = f"{count(rules['held'], 'rule')} held"
    return f"{verdict}: {', '.join(found)}; {rest}" if found else f"{verdict}: no violation; {rest}"


def asked_words(summary: Mapping[str, Any]) -> str:
    """Return which rules were asked, and about which time, where not all of them were; else nothing."""
    asked = summary["settings"]
    said = [f"--{name} {asked[name]}" for name in ("select", "ignore", "profile") if asked[name]]
    rules = count(sum(summary["counts"]["outcomes"].values()), "rule")
    parts = [f"{rules} asked, by {' '.join(said)}"] if said else []
    times = {"from": asked["from_ps"], "to": asked["to_ps"]}
    window = " ".join(f"{word} {exact(ps)}" for word, ps in times.items() if ps is not None)
    return ", ".join([*parts, f"judged {window}"] if window else parts)


def commandless_words(summary: Mapping[str, Any]) -> str:
    """Return that no command was found, where TLPs were judged all the same; else nothing."""
    judged = summary["settings"]["judged"] and summary["verdict"] != "nothing judged"
    if not judged or any(one["transactions"] for one in summary["captures"]):
        return ""
    doubts = [
        f"; {link['name']} is {link['bound']}"
        for one in summary["captures"] for link in one["links"] if link["confidence"] < 1
    ]  # fmt: skip
    return "No NVMe command was found: TLPs were judged, and nothing of NVMe" + "".join(doubts)


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


def leftover_title(summary: Mapping[str, Any]) -> str:
    """Return how many TLPs belong to nothing, as far as there are TLPs; also for runs of an older lmtrace."""
    tlps = sum(one["tlps"] for one in summary["captures"] if one.get("unit", "TLP") == "TLP")
    left = sum(summary["counts"].get("remainder", {}).values())
    if "remainder" not in summary or not tlps:
        return ""
    return f"{left:,} of {count(tlps, 'TLP')}" if left else f"none: each of {count(tlps, 'TLP')} has an owner"


def leftover_sender(row: Mapping[str, Any]) -> str:
    """Return who sent requests that belong to nothing; nothing of completions."""
    if row["function"] is not None:
        return bdf_text(row["function"])
    return "" if row["class"].endswith("completion") else "the host"


def leftover_span(row: Mapping[str, Any]) -> str:
    """Return where TLPs that belong to nothing went."""
    return "" if row["start"] is None else f"{row['start']:X}h..{max(row['end'] - 1, row['start']):X}h"


def leftover_nearest(row: Mapping[str, Any]) -> str:
    """Return the region that lies nearest, and how near."""
    if row["nearest"] is None:
        return "" if row["start"] is None else "no region is known there"
    return f"{size(row['distance'])} from {row['nearest']}" if row["distance"] else f"within {row['nearest']}"


def leftover_words(row: Mapping[str, Any], several: bool = False) -> str:
    """Return a line on TLPs that belong to nothing."""
    sender = f" of {leftover_sender(row)}" if leftover_sender(row) else ""
    where = f" in {leftover_span(row)}, {leftover_nearest(row)}" if row["start"] is not None else ""
    first = f"{row['capture']}: TLP {row['tlp_id']}" if several else f"TLP {row['tlp_id']}"
    return (
        f"{row['class']}: {row['tlps']:,} {row['kind']}{sender}, {size(row['bytes'])}{where}; "
        f"first {first} at {exact(row['time_ps'])}"
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
