"""Completion queue entries: what they say, where they go, whether they come."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.migration import HMLM_OPCODES, CdqSelect
from lmtrace.spec.nvme import CQE_SIZE, SUCCESS, Admin, Feature, Status
from lmtrace_samples.fault import instead
from lmtrace_samples.management import ManagementController
from lmtrace_samples.mutation import CONTROLLER, Chance, mutation
from lmtrace_samples.queues import Command, CompletionQueue
from lmtrace_samples.world import World

Result = tuple[int, int]
ONE_SHOT = 4


@mutation
def posted(world: World, chance: Chance) -> None:
    """Each completion as it is posted."""
    for side in world.sides:
        for controller in side.subsystem.controllers.values():
            if isinstance(controller, ManagementController):
                instead(controller, "post", _managing(controller, chance))
                instead(controller, "report_event", _event(chance))
            else:
                instead(controller, "post", _serving(chance))


def _managing(manager: ManagementController, chance: Chance) -> Callable[..., None]:
    def post(
        original: Callable[..., None], queue: CompletionQueue, command: Command, status: Status, result: Result
    ) -> None:
        if command.queue.qid == 0 and command.opcode in HMLM_OPCODES:
            result = _reserved(command, status, result, chance)
        if command.queue.qid == 0 and status == SUCCESS:
            result = _told(manager, command, result, chance)
        text = "A completion has a reserved status code type."
        if command.queue.qid == 0 and chance.strikes(
            "status-code-type", CONTROLLER, "NVM21-4.2.3-n1", text, shared=True,
        ):  # fmt: skip
            # Its host goes on as if the command had succeeded.
            status = Status(chance.rng().choice((4, 5, 6)), status.sc)
        original(queue, command, status, result)

    return post


def _reserved(command: Command, status: Status, result: Result, chance: Chance) -> Result:
    """Set a bit that the completion of a live-migration command does not define."""
    defined = 1 if command.opcode == Admin.MIGRATION_RECEIVE else 0
    if command.opcode == Admin.CONTROLLER_DATA_QUEUE and command.bits(10, 7, 0) == CdqSelect.CREATE:
        defined = 0xFFFF
    bit = chance.rng().choice([one for one in range(64) if one >= 32 or not defined >> one & 1])
    text = f"The completion of opcode {command.opcode:X}h has bit {bit % 32} of dword {bit // 32} set."
    if chance.strikes("completion-reserved-bit", CONTROLLER, "HMLM-4.2-n1 HMLM-5.1.4.2-n1", text):
        both = result[1] << 32 | result[0] | 1 << bit
        return both & 0xFFFFFFFF, both >> 32
    return result


def _told(manager: ManagementController, command: Command, result: Result, chance: Chance) -> Result:
    """Tell something else in dword 0 than is true."""
    if command.opcode == Admin.MIGRATION_RECEIVE:
        text = f"Get Controller State tells CSUP {result[0] ^ 1} instead of {result[0]}."
        if chance.strikes("suspended-bit", CONTROLLER, "HMLM-5.1.16.1.1-n6 HMLM-5.1.16.1.1-n7", text):
            return (result[0] ^ 1, result[1])
    if command.opcode == Admin.CONTROLLER_DATA_QUEUE and command.bits(10, 7, 0) == CdqSelect.CREATE:
        others = [one.cdqid for one in manager.subsystem.data_queues if one.cdqid != result[0]]
        text = "Create CDQ tells the identifier of another live data queue."
        if others and chance.strikes("data-queue-identifier", CONTROLLER, "HMLM-8.1.6-n1", text):
            return (others[0], result[1])
    if command.opcode == Admin.GET_FEATURES and command.bits(10, 7, 0) == Feature.CONTROLLER_DATA_QUEUE:
        bit = chance.rng().randrange(31)
        text = f"Get Features of a data queue completes with bit {bit} of dword 0 inverted."
        if chance.strikes("feature-completion", CONTROLLER, "HMLM-5.1.25.1.23-n8", text):
            return (result[0] ^ 1 << bit, result[1])
    return result


def _serving(chance: Chance) -> Callable[..., None]:
    def post(
        original: Callable[..., None], queue: CompletionQueue, command: Command, status: Status, result: Result
    ) -> None:
        name = f"command {command.cid:X}h of SQ {command.queue.qid}"
        rng = chance.rng()
        if chance.strikes(
            "phase-inverted", CONTROLLER, "NVM21-4.2.4-n1 HMLM-5.1.17.1.2-n9",
            f"The completion of {name} has the other phase tag.",
        ):  # fmt: skip
            queue.phase ^= 1
            original(queue, command, status, result)
            queue.phase ^= 1
            return
        if queue.qid and chance.strikes(
            "completion-out-of-place", CONTROLLER, "NVM21-4.2.1-n1 HMLM-5.1.17.1.2-n8",
            f"The completion of {name} is posted one slot late.",
        ):  # fmt: skip
            base, late = queue.base, (queue.tail + 1) % queue.size - queue.tail
            queue.base += CQE_SIZE * late
            original(queue, command, status, result)
            queue.base = base
            return
        if queue.qid and chance.strikes(
            "head-pointer", CONTROLLER, "NVM21-4.2.1-n6", f"The completion of {name} tells a head that is beyond.",
        ):  # fmt: skip
            # Beyond the tail, as what lies before it may have been fetched.
            head, command.queue.head = command.queue.head, (command.queue.tail + rng.randrange(1, 4))
            command.queue.head %= command.queue.size
            original(queue, command, status, result)
            command.queue.head = head
            return
        original(queue, command, status, result)

    return post


def _event(chance: Chance) -> Callable[..., None]:
    def report_event(original: Callable[[int, int], None], dw0: int, dw1: int) -> None:
        rng = chance.rng()
        if dw0 & 7 != ONE_SHOT:
            original(dw0, dw1)
            return
        full = bool(dw0 >> 8 & 0xFF)
        bit, kind = rng.randrange(16, 32), "full" if full else "tail pointer"
        twice = "HMLM-5.1.2-n3" if full else "HMLM-5.1.25.1.23-n9"
        text = f"The event of a data queue has bit {bit} of dword 1 set."
        if chance.strikes("event-reserved-bit", CONTROLLER, "HMLM-5.1.2-n1", text):
            dw1 |= 1 << bit
        text = "The event of a data queue names one that never was."
        if chance.strikes("event-of-unknown-queue", CONTROLLER, "HMLM-5.1.2-n1", text):
            dw1 += 90
        text = f"The {kind} event of a data queue comes twice."
        if chance.strikes("event-twice", CONTROLLER, twice, text):
            original(dw0, dw1)
        original(dw0, dw1)

    return report_event
