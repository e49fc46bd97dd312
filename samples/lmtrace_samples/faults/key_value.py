"""Faults of Key Value namespaces (nvme-checklist G24)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import KeyValue, Nvm
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.key_value import KeyValueNamespace
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

SCENARIO = "key-value"


def _forgets(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a controller that does not refuse for ``reason``."""

    def change(world: World) -> None:
        world.sides[0].manager.key_value.forgotten.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


def _does(name: str, rule: str, method: str, text: str, action: Callable[..., Any]) -> None:
    """Register the fault of a controller that does something else with its keys."""

    def change(world: World) -> None:
        instead(world.sides[0].manager.key_value, method, action)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


def _half(original: Callable[..., Steps[bytes]], command: Command, size: int) -> Steps[bytes]:
    data = yield from original(command, size // 2)
    return data.ljust(size, b"\0")


def _nothing(original: Callable[..., None], *arguments: object) -> None:
    """Do nothing."""


def _other(
    original: Callable[..., None], namespace: KeyValueNamespace, key: bytes, value: bytes
) -> None:  # fmt: skip
    original(namespace, key, bytes([value[0] ^ 1]) + value[1:] if value else value)


def _lost(original: Callable[..., None], namespace: KeyValueNamespace, key: bytes) -> None:
    namespace.values.pop(key, None)


_forgets("key-too-long-taken", "NVM21-K3.2-n1", "key-size", "A key of 13 bytes is stored where 12 are the most.")
_forgets("value-too-long-taken", "NVM21-K3.2.5-n1", "value-size", "A value beyond KVVML is stored.")
_forgets("absent-key-replaced", "NVM21-K3.2.5-n2", "must-exist", "A Store that must replace a value makes a new key.")
_forgets("existing-key-replaced", "NVM21-K3.2.5-n3", "must-not-exist", "A Store that must make a new key replaces one.")
_forgets("absent-key-returned", "NVM21-K3.2.4-n1", "absent-retrieve", "A key that a format removed is retrieved.")
_forgets("absent-key-deleted", "NVM21-K3.2.1-n1", "absent-delete", "Delete of no key succeeds though that is an error.")
_forgets("absent-key-exists", "NVM21-K3.2.2-n1", "absent-exist", "Exist succeeds for a key that never was.")
_does("half-a-value-stored", "NVM21-K3.2.5-n4", "fetch", "Only half of each value is read.", _half)
_does("stored-key-missing", "NVM21-K3.2.5-n4", "keep", "Values are not kept.", _nothing)
_does("value-lost-when-full", "NVM21-K3.2.5-n5", "full", "A Store that does not fit removes the key.", _lost)
_does("size-of-part-told", "NVM21-K3.2.4-n2", "size", "Retrieve tells how much it returned, not how much there is.",
      lambda original, value, part: len(part))  # fmt: skip
_does("deleted-key-stays", "NVM21-K3.2.1-n2", "drop", "Delete succeeds and does nothing.", _nothing)
_does("key-listed-twice", "NVM21-K3.2.3-n1", "keys", "A List returns its first key twice.",
      lambda original, keys: keys[:1] + keys)  # fmt: skip
_does("absent-key-listed", "NVM21-K3.2.3-n1", "keys", "A List returns a key that was deleted.",
      lambda original, keys: sorted([*keys, b"gone"]))  # fmt: skip
_does("keys-miscounted", "NVM21-K3.2.3-n1", "count", "A List counts one key more than it returns.",
      lambda original, records: len(records) + 1)  # fmt: skip
_does("other-value-kept", "NVM21-Xshdw-n14", "keep", "The first byte of each value is kept as another.",
      _other)  # fmt: skip


@fault("blocks-zeroed-among-keys", "NVM21-K3.2-n2", SCENARIO)
def blocks_zeroed_among_keys(world: World) -> None:
    """Write Zeroes succeeds in a Key Value namespace."""
    controller = world.sides[0].manager

    def handlers(original: Callable[[Command], dict[int, Any]], command: Command) -> dict[int, Any]:
        return {**original(command), Nvm.WRITE_ZEROES: lambda _: None} if command.queue.qid else original(command)

    instead(controller, "handlers", handlers)


@fault("value-returned-behind-its-end", "NVM21-K3.2.4-n2", SCENARIO)
def value_returned_behind_its_end(world: World) -> None:
    """Retrieve fills 64 bytes more than the value has."""

    def to_host(original: Callable[..., Steps[None]], command: Command, data: bytes, *room: int) -> Steps[None]:
        longer = command.queue.qid and command.opcode == KeyValue.RETRIEVE and command.cdw[10] > len(data) + 64
        yield from original(command, data + bytes(64) if longer else data, *room)

    instead(world.sides[0].manager, "to_host", to_host)
