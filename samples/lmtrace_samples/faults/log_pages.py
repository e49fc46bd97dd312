"""Faults of log pages: which are asked for, refused, and what they say (nvme-checklist G16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.admin_data import EFFECTS_ADMIN, ERROR_ENTRY, Lid
from lmtrace.spec.nvme import Admin
from lmtrace_samples.administered import SCENARIO, asks, drive, forgets, logs
from lmtrace_samples.administration import put
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.world import World


def _health(name: str, rule: str, text: str, change: Callable[[bytes, int], bytes]) -> None:
    """Register the fault of a controller whose SMART log page is changed, by the number of its read."""

    def apply(world: World) -> None:
        instead(drive(world).logs, "health", lambda original, count: change(original(count), count))

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


def _errors(name: str, rule: str, text: str, change: Callable[[bytes], bytes]) -> None:
    """Register the fault of a controller whose error log has wrong entries."""

    def apply(world: World) -> None:
        instead(drive(world).logs, "entry", lambda original, *arguments: change(original(*arguments)))

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


asks("reserved-log-page-asked-for", "NVM21-5.1.12-n3", "log-unknown", "The host asks for a reserved log page.")
forgets(
    "reserved-log-page-returned", "NVM21-5.1.12-n4", "log-unknown", "A reserved log page is returned.", shared=True
)  # fmt: skip
asks("offset-within-dword", "NVM21-5.1.12-n5", "log-dword", "The host reads a log page from within a dword.")
forgets("read-beyond-log-page", "NVM21-5.1.12-n6", "log-beyond", "A read that begins beyond a log page succeeds.")
_errors(
    "error-log-names-other-status", "NVM21-5.1.12.1.2-n1", "The error log has another status than the completion.",
    lambda data: put(data, ERROR_ENTRY["SC"].lo // 8, 2 << 1, 2),
)  # fmt: skip
_errors(
    "error-log-names-no-command", "NVM21-5.1.12.1.2-n2", "The error log names a queue, and no command of it.",
    lambda data: put(data, ERROR_ENTRY["CID"].lo // 8, 0xFFFF, 2),
)  # fmt: skip
_health(
    "data-written-shrink", "NVM21-5.1.12-n8", "The count of data units written goes back.",
    lambda data, count: put(data, 48, 9000 - count, 16),
)  # fmt: skip
_health(
    "temperature-in-celsius", "NVM21-5.1.12-n9", "The temperature is told in degrees Celsius.",
    lambda data, count: put(data, 1, 37, 2),
)  # fmt: skip
logs(
    "firmware-slot-misnamed", "NVM21-5.1.12-n10", Lid.FIRMWARE_SLOT, "The active firmware slot holds another revision.",
    lambda data: data[:8] + b"2".ljust(8) + data[16:],
)  # fmt: skip
logs(
    "supported-command-not-listed", "NVM21-5.1.12-n11", Lid.COMMANDS_SUPPORTED,
    "A command that OACS offers is not in the log page of supported commands.",
    lambda data: put(data, EFFECTS_ADMIN + 4 * Admin.VIRTUALIZATION_MANAGEMENT, 0, 4),
)  # fmt: skip
logs(
    "changed-namespaces-disordered", "NVM21-5.1.12-n12", Lid.CHANGED_NAMESPACES, "The changed namespaces fall.",
    lambda data: put(put(data, 0, 2, 4), 4, 1, 4),
)  # fmt: skip
logs(
    "sanitize-not-noted", "NVM21-5.1.12-n13", Lid.SANITIZE_STATUS,
    "The Sanitize Status log page says that nothing was ever sanitized.", lambda data: put(data, 2, 0, 1),
)  # fmt: skip
logs(
    "reservation-notice-of-no-type", "NVM21-5.1.12-n14", Lid.RESERVATION_NOTIFICATION,
    "A reservation notification has a reserved type.", lambda data: put(data, 8, 4, 1),
)  # fmt: skip
logs(
    "served-log-page-not-listed", "NVM21-5.1.12-n15", Lid.SUPPORTED_LOG_PAGES,
    "A log page that is returned is not in the log page of supported ones.",
    lambda data: put(data, 4 * Lid.ERROR_INFORMATION, 0, 4),
)  # fmt: skip


@fault("event-stays-masked", "NVM21-5.1.12-n7", SCENARIO)
def event_stays_masked(world: World) -> None:
    """The end of the second sanitize operation is not reported, though the log page of the first was read."""
    reports: list[int] = []

    def report_event(original: Callable[..., Any], *arguments: Any) -> None:
        reports.append(1)
        if len(reports) == 1:
            original(*arguments)

    instead(world.sides[0].manager, "report_event", report_event)
