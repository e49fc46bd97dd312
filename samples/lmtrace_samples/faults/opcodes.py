"""Faults of what each admin command uses of its entry and its completion (nvme-checklist G31).

Of the commands of live migration the entries have rules of their own, so that there a status is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.nvme import Admin, Status, command_name
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command, CompletionQueue
from lmtrace_samples.world import World

CDW2 = slice(8, 12)
NSID = slice(4, 8)
NO_STATUS = Status(1, 0x1E)
"""Boot Partition Write Prohibited, which is a status of Firmware Commit alone."""

ROWS: tuple[tuple[Admin, str, str], ...] = (
    (Admin.DELETE_IO_SQ, "NVM21-5.2.4-n4", "namespace-management"),
    (Admin.CREATE_IO_SQ, "NVM21-5.2.2-n8", "namespace-management"),
    (Admin.GET_LOG_PAGE, "NVM21-5.1.12-n16", "namespace-management"),
    (Admin.DELETE_IO_CQ, "NVM21-5.2.3-n3", "namespace-management"),
    (Admin.CREATE_IO_CQ, "NVM21-5.2.1-n16", "namespace-management"),
    (Admin.IDENTIFY, "NVM21-5.1.13-n19", "namespace-management"),
    (Admin.NAMESPACE_MANAGEMENT, "NVM21-5.1.21-n4", "namespace-management"),
    (Admin.NAMESPACE_ATTACHMENT, "NVM21-5.1.20-n4", "namespace-management"),
    (Admin.FORMAT_NVM, "NVM21-5.1.10-n4", "namespace-management"),
    (Admin.SANITIZE, "NVM21-5.1.22-n4", "namespace-management"),
    (Admin.SET_FEATURES, "NVM21-5.1.25-n15", "firmware-and-security"),
    (Admin.GET_FEATURES, "NVM21-5.1.11-n1", "firmware-and-security"),
    (Admin.ASYNC_EVENT_REQUEST, "NVM21-5.1.2-n15", "firmware-and-security"),
    (Admin.FIRMWARE_COMMIT, "NVM21-5.1.8-n3", "firmware-and-security"),
    (Admin.FIRMWARE_IMAGE_DOWNLOAD, "NVM21-5.1.9-n2", "firmware-and-security"),
    (Admin.DEVICE_SELF_TEST, "NVM21-5.1.5-n2", "firmware-and-security"),
    (Admin.DIRECTIVE_SEND, "NVM21-5.1.7-n2", "firmware-and-security"),
    (Admin.DIRECTIVE_RECEIVE, "NVM21-5.1.6-n2", "firmware-and-security"),
    (Admin.NVME_MI_RECEIVE, "NVM21-5.1.19-n1", "firmware-and-security"),
    (Admin.CAPACITY_MANAGEMENT, "NVM21-5.1.3-n1", "firmware-and-security"),
    (Admin.LOCKDOWN, "NVM21-5.1.15-n2", "firmware-and-security"),
    (Admin.DOORBELL_BUFFER_CONFIG, "NVM21-5.2.5-n5", "firmware-and-security"),
    (Admin.SECURITY_SEND, "NVM21-5.1.24-n2", "firmware-and-security"),
    (Admin.SECURITY_RECEIVE, "NVM21-5.1.23-n1", "firmware-and-security"),
    (Admin.GET_LBA_STATUS, "NVM21-N4.2.1-n1", "firmware-and-security"),
    (Admin.VIRTUALIZATION_MANAGEMENT, "NVM21-5.2.6-n5", "firmware-and-security"),
)  # fmt: skip
"""Commands whose entry a host spoils, each with its rule and a scenario in which it is sent."""
MIGRATING: tuple[tuple[Admin, str, str], ...] = (
    (Admin.TRACK_SEND, "NVM21-5.1.27-n3", "migration"), (Admin.TRACK_RECEIVE, "NVM21-5.1.26-n2", "memory-tracking"),
    (Admin.MIGRATION_SEND, "NVM21-5.1.17-n3", "migration"),
    (Admin.MIGRATION_RECEIVE, "NVM21-5.1.16-n3", "migration"),
    (Admin.CONTROLLER_DATA_QUEUE, "NVM21-5.1.4-n6", "migration"),
)  # fmt: skip


def _named(opcode: Admin) -> str:
    return opcode.name.lower().replace("_", "-")


def spoils(opcode: Admin, rule: str, scenario: str) -> None:
    """Register the fault of a host that sets what a command does not use: CDW2, or of NVMe-MI commands NSID."""
    place = NSID if opcode in (Admin.NVME_MI_SEND, Admin.NVME_MI_RECEIVE) else CDW2

    def change(world: World) -> None:
        def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
            made = original(qid, sqe)
            if qid or made[0] != opcode:
                return made
            return made[: place.start] + bytes([1, 0, 0, 0]) + made[place.stop :]

        for side in world.sides:
            for driver in side.drivers:
                instead(driver, "entry", entry)

    what = "NSID" if place is NSID else "CDW2"
    change.__doc__ = f"The host sets {what} of {command_name(0, opcode)}, which does not use it."
    fault(f"stray-bits-of-{_named(opcode)}", rule, scenario, party="host")(change)


def _ends(opcode: Admin, rule: str, scenario: str) -> None:
    """Register the fault of a controller that completes the first command of an opcode with a status of another."""

    def change(world: World) -> None:
        left = [1]

        def post(
            original: Callable[..., None], queue: CompletionQueue, command: Command, status: Status, *rest: object
        ) -> None:
            mine = command.queue.qid == 0 and command.opcode == opcode and bool(left)
            if mine:
                left.pop()
            original(queue, command, NO_STATUS if mine else status, *rest)

        instead(world.sides[0].manager, "post", post)

    change.__doc__ = f"A {command_name(0, opcode)} ends with a status that is none of it."
    fault(f"foreign-status-of-{_named(opcode)}", rule, scenario)(change)


for _opcode, _rule, _scenario in ROWS:
    spoils(_opcode, _rule, _scenario)
for _opcode, _rule, _scenario in MIGRATING:
    _ends(_opcode, _rule, _scenario)
