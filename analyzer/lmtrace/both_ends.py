"""What tables say about both ends of a migration, as events of the link that is judged by them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmtrace import events as ev
from lmtrace.store import Capture, Store

_STEPS = (
    ("suspend", "suspended_ps"), ("get", "state_read_ps"), ("set", "committed_ps"), ("resume", "resumed_ps"),
)  # fmt: skip


def facts_of_both_ends(store: Store, capture: Capture, link: str) -> Iterator[ev.Event]:
    """Yield the facts that belong to one link; their order is for the caller to give.

    They come when everything else of the link was told, and carry the time and the place of what shows them.
    """
    migrations = {row["id"]: row for row in store.read("migrations").to_pylist()}
    if not migrations:
        return
    place = [("capture", "==", capture.name), ("link", "==", link)]
    rows = {
        name: store.read(name, None, place).to_pylist()
        for name in ("state_comparison", "migrated_commands", "user_data")
    }
    wanted = {
        row[name]
        for found in rows.values()
        for row in found
        for name in row
        if name.endswith("transaction_id") and row[name] is not None
    }
    mine = {number: row for number, row in migrations.items() if _judged(row) == (capture.name, link)}
    names = ("suspend_transaction_id", "resume_transaction_id")
    wanted |= {row[name] for row in mine.values() for name in names if row[name] is not None}
    places = _places(store, capture.name, link, wanted)
    for row in rows["state_comparison"]:
        yield _state_item(row, migrations[row["migration_id"]], places)
    for row in rows["migrated_commands"]:
        yield _migrated_command(row, migrations[row["migration_id"]], places)
    for row in rows["user_data"]:
        yield _migrated_blocks(row, places)
    lossy = {one.name for one in store.captures if one.troubles.losses}
    for row in mine.values():
        yield _handover(row, places, lossy)


def _judged(row: dict[str, Any]) -> tuple[str, str]:
    """Return the capture and link on which a migration is judged: those of its destination, or else of its source."""
    if row["destination"] is not None and row["outcome"] != "rolled back":
        return row["destination_capture"], row["destination_link"]
    return row["capture"], row["link"]


def _places(store: Store, capture: str, link: str, ids: set[int]) -> dict[int, dict[str, Any]]:
    """Return time, function and TLP of the commands among ``ids`` that are on the link."""
    columns = ("id", "function", "fetch_ps", "cqe_ps", "fetch_tlp_id", "cqe_tlp_id")
    terms = [("capture", "==", capture), ("link", "==", link), ("id", "in", sorted(ids))]
    found = {}
    for row in store.read("transactions", columns, terms).to_pylist() if ids else ():
        done = row["cqe_tlp_id"] is not None
        found[row["id"]] = {
            "time": (row["cqe_ps"] if done else row["fetch_ps"]) or 0, "function": row["function"],
            "transaction_id": row["id"], "tlp_id": row["cqe_tlp_id"] if done else row["fetch_tlp_id"],
        }  # fmt: skip
    return found


def _at(places: dict[int, dict[str, Any]], *ids: int | None) -> dict[str, Any]:
    """Return the place of the first of some commands that is on the link; without one the event has no place."""
    return next((places[one] for one in ids if one in places), {"function": 0})


def _state_item(row: dict[str, Any], migration: dict[str, Any], places: dict[int, dict[str, Any]]) -> ev.StateItem:
    same = (migration["capture"], migration["link"]) == (
        migration["destination_capture"],
        migration["destination_link"],
    )
    return ev.StateItem(
        **_at(places, row["second_transaction_id"], row["first_transaction_id"]), comparison=row["comparison"],
        item=row["item"], first=row["first"], second=row["second"], number=row["first_number"],
        other_number=row["second_number"], judgement=row["judgement"], reason=row["reason"] or "",
        match=migration["match"] or "", same_link=same,
    )  # fmt: skip


def _migrated_command(
    row: dict[str, Any], migration: dict[str, Any], places: dict[int, dict[str, Any]]
) -> ev.MigratedCommand:  # fmt: skip
    source, destination = row["source_transaction_id"], row["destination_transaction_id"]
    return ev.MigratedCommand(
        **_at(places, destination, migration["resume_transaction_id"], source), sqid=row["sqid"], slot=row["slot"],
        cid=row["cid"], result=row["result"], cause=row["cause"] or "", reason=row["reason"] or "", source=source,
        destination=destination,
    )  # fmt: skip


def _migrated_blocks(row: dict[str, Any], places: dict[int, dict[str, Any]]) -> ev.MigratedBlocks:
    ids = (row["write_transaction_id"], row["read_transaction_id"], row["change_transaction_id"])
    return ev.MigratedBlocks(
        **_at(places, *ids), nsid=row["nsid"], slba=row["slba"], blocks=row["blocks"], finding=row["finding"],
        reason=row["reason"] or "",
    )  # fmt: skip


def _handover(row: dict[str, Any], places: dict[int, dict[str, Any]], lossy: set[str]) -> ev.Handover:
    return ev.Handover(
        **_at(places, row["resume_transaction_id"], row["suspend_transaction_id"]), source=row["source"],
        destination=row["destination"], outcome=row["outcome"], tracked=row["tracking_ps"] is not None,
        final_report=row["final_report_ps"] is not None,
        source_resumed=row["source_resumed_ps"] is not None and row["outcome"] != "rolled back",
        source_capture_lossy=row["capture"] in lossy,
        steps="+".join(name for name, column in _STEPS if row[column] is not None),
    )  # fmt: skip
