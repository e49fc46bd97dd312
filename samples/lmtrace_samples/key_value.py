"""A Key Value namespace and the commands of its command set (Key Value Command Set 1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import (
    CAPACITY_EXCEEDED,
    INVALID_KEY_SIZE,
    INVALID_NAMESPACE,
    INVALID_VALUE_SIZE,
    KEY_DOES_NOT_EXIST,
    KEY_EXISTS,
    KEY_VALUE_FORMAT,
    KEY_VALUE_FORMATS,
    KEY_VALUE_NAMESPACE,
    Admin,
    CommandSet,
    Feature,
    KeyValue,
    Nvm,
    Status,
)
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import NS, US, Steps

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Result

LONGEST_KEY, LONGEST_VALUE, CAPACITY = 12, 16384, 65536
"""KVKML and KVVML of the only format, and how many bytes of values there is room for."""
FIELD = 16
"""Bytes of a key that an entry has room for."""
MUST_EXIST, MUST_NOT_EXIST = 1, 2
"""Options of Store."""
FORMATS = 1 << 1
"""Format NVM in OACS."""


class KeyValueNamespace(Namespace):
    """Values by key, in place of blocks."""

    csi = CommandSet.KEY_VALUE

    def __init__(self, nsid: int) -> None:
        super().__init__(nsid, 0, 512)
        self.values: dict[bytes, bytes] = {}

    @property
    def used(self) -> int:
        """Bytes of all values."""
        return sum(map(len, self.values.values()))

    def of_command_set(self) -> bytes:
        """Return the Key Value Identify Namespace structure."""
        data = bytearray(KEY_VALUE_NAMESPACE.encode(NSZE=CAPACITY, NUSE=self.used))
        told = KEY_VALUE_FORMAT.encode(KVKML=LONGEST_KEY, KVVML=LONGEST_VALUE)
        data[KEY_VALUE_FORMATS : KEY_VALUE_FORMATS + len(told)] = told
        return bytes(data)


class KeyValueCommands:
    """What a controller does with the keys of its namespaces; reasons to refuse have names, as elsewhere."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()
        self.delete_errors = False
        """EDNEK of the Key Value Configuration feature."""

    def offer(self) -> None:
        """Let the controller have the command set."""
        controller = self.controller
        controller.offer_command_set(CommandSet.KEY_VALUE, {
            Nvm.FLUSH: controller.nvm[Nvm.FLUSH], KeyValue.STORE: self.store, KeyValue.RETRIEVE: self.retrieve,
            KeyValue.DELETE: self.delete, KeyValue.EXIST: self.exist, KeyValue.LIST: self.list_keys,
        })  # fmt: skip
        controller.told["OACS"] = controller.identify_fields().get("OACS", 0) | FORMATS
        others = controller.admin[Admin.SET_FEATURES]
        controller.admin[Admin.SET_FEATURES] = lambda command: self.configure(command) or others(command)
        controller.admin[Admin.FORMAT_NVM] = self.format_namespace

    def check(self, reason: str, broken: bool, status: Status) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def configure(self, command: Command) -> Result:
        """Take the Key Value Configuration feature, and no other."""
        if command.bits(10, 7, 0) != Feature.KEY_VALUE_CONFIGURATION:
            return None
        self.delete_errors = bool(command.bits(11, 0, 0))
        return (0, 0)

    def format_namespace(self, command: Command) -> Steps[Result]:
        """Empty a namespace."""
        namespace = self.controller.namespaces.get(command.nsid)
        if not isinstance(namespace, KeyValueNamespace):
            raise Refused(INVALID_NAMESPACE)
        yield 30 * US
        namespace.values.clear()
        return None

    def _named(self, command: Command) -> tuple[KeyValueNamespace, bytes]:
        """Return the namespace and the key of a command."""
        namespace = self.controller.namespaces[command.nsid]
        assert isinstance(namespace, KeyValueNamespace)
        size = command.bits(11, 7, 0)
        self.check("key-size", not 0 < size <= LONGEST_KEY, INVALID_KEY_SIZE)
        return namespace, command.key[:size]

    def _value(self, namespace: KeyValueNamespace, key: bytes, reason: str) -> bytes:
        self.check(reason, key not in namespace.values, KEY_DOES_NOT_EXIST)
        return namespace.values.get(key, b"")

    def media(self) -> int:
        """Return how long the media take."""
        return self.controller.rng.randrange(2_000, 9_000) * NS

    def store(self, command: Command) -> Steps[Result]:
        """Store a value."""
        namespace, key = self._named(command)
        size, options = command.cdw[10], command.bits(11, 15, 8)
        self.check("value-size", size > LONGEST_VALUE, INVALID_VALUE_SIZE)
        there = key in namespace.values
        self.check("must-exist", options == MUST_EXIST and not there, KEY_DOES_NOT_EXIST)
        self.check("must-not-exist", options == MUST_NOT_EXIST and there, KEY_EXISTS)
        data = yield from self.fetch(command, size)
        yield self.media()
        if namespace.used - len(namespace.values.get(key, b"")) + size > CAPACITY:
            self.full(namespace, key)
            raise Refused(CAPACITY_EXCEEDED)
        self.keep(namespace, key, data)
        return None

    def fetch(self, command: Command, size: int) -> Steps[bytes]:
        """Hook: the whole value is read."""
        if not size:
            return b""
        return (yield from self.controller.from_host(command, size))

    def keep(self, namespace: KeyValueNamespace, key: bytes, value: bytes) -> None:
        """Hook: a value is kept under its key."""
        namespace.values[key] = value

    def full(self, namespace: KeyValueNamespace, key: bytes) -> None:
        """Hook: a value that does not fit changes nothing."""

    def retrieve(self, command: Command) -> Steps[Result]:
        """Return as much of a value as the buffer takes, and the size of all of it."""
        namespace, key = self._named(command)
        yield self.media()
        value = self._value(namespace, key, "absent-retrieve")
        if part := value[: command.cdw[10]]:
            yield from self.controller.to_host(command, part, command.cdw[10])
        return (self.size(value, part), 0)

    def size(self, value: bytes, part: bytes) -> int:
        """Hook: the size that a Retrieve tells is that of the whole value."""
        return len(value)

    def delete(self, command: Command) -> Steps[Result]:
        """Delete a key; one that does not exist is an error where the host wants that."""
        namespace, key = self._named(command)
        yield self.media()
        if self.delete_errors:
            self._value(namespace, key, "absent-delete")
        self.drop(namespace, key)
        return None

    def drop(self, namespace: KeyValueNamespace, key: bytes) -> None:
        """Hook: a key is deleted."""
        namespace.values.pop(key, None)

    def exist(self, command: Command) -> Steps[Result]:
        """Tell whether a key exists."""
        namespace, key = self._named(command)
        yield self.media()
        self.check("absent-exist", key not in namespace.values, KEY_DOES_NOT_EXIST)
        return None

    def list_keys(self, command: Command) -> Steps[Result]:
        """Return the keys from one on, in their order, as many as fit."""
        namespace = self.controller.namespaces[command.nsid]
        assert isinstance(namespace, KeyValueNamespace)
        first, room = command.key[: command.bits(11, 7, 0)], command.cdw[10] - 4
        yield self.media()
        records: list[bytes] = []
        for key in self.keys(sorted(one for one in namespace.values if one >= first)):
            record = len(key).to_bytes(2, "little") + key
            records.append(record + bytes(-len(record) % 4))
            if sum(map(len, records)) > room:
                records.pop()
                break
        data = self.count(records).to_bytes(4, "little") + b"".join(records)
        yield from self.controller.to_host(command, data, command.cdw[10])
        return None

    def keys(self, keys: list[bytes]) -> list[bytes]:
        """Hook: the keys that a List returns."""
        return keys

    def count(self, records: list[bytes]) -> int:
        """Hook: a List counts what it returns."""
        return len(records)


def key_words(key: bytes, options: int = 0) -> dict[int, int]:
    """Return the dwords of an entry that name a key."""
    field = key.ljust(FIELD, b"\0")[:FIELD]
    words = {place: int.from_bytes(field[at : at + 4], "little") for at, place in ((0, 2), (4, 3), (8, 14), (12, 15))}
    return {**words, 11: options << 8 | len(key)}
