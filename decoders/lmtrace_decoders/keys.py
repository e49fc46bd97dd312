"""The keys of Key Value namespaces: which exist and what they hold, against what commands say (nvme-checklist G24).

Whether a key exists is yes, no, or not known: at the start of a capture nothing is, unless a format emptied the
namespace or its creation was seen. Commands in flight together on one key leave what is not known. What carries the
commands, PCIe or a network, says in a subclass of `Keys` what was seen of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec import nvme
from lmtrace.spec.nvme import KEY_VALUE_FORMAT, KEY_VALUE_FORMATS, KEY_VALUE_NAMESPACE, KeyValue, Status
from lmtrace.store import Store

MOST_KEYS = 1 << 18
"""Keys that are remembered; of what is touched beyond them nothing is known."""
MOST_LISTED = 1 << 16
"""Keys of one List that are looked at."""
LARGEST_KEY, LARGEST_RECORD = 16, 20
CHANGERS = (KeyValue.STORE, KeyValue.DELETE)
ABOUT_ONE_KEY = (KeyValue.STORE, KeyValue.RETRIEVE, KeyValue.DELETE, KeyValue.EXIST)
RAW = 1 << 0
"""Option of Retrieve: the value as it is kept, which may be compressed."""
STORED, DELETED, EMPTIED, TOLD, REFUSED = "stored", "deleted", "emptied", "told", "refused"
NOTHING_DONE = frozenset({nvme.INVALID_VALUE_SIZE, nvme.INVALID_KEY_SIZE})
"""How a Store or Delete ends that was not begun."""


@dataclass(slots=True)
class Key:
    """A key: whether it exists (None not known), why, and what it holds.

    ``value`` is a digest, ``end`` the completion of the last command that may have changed it (a TLP), ``writer`` the
    transaction that told. ``busy`` counts the commands in flight that may change it.
    """

    exists: bool | None = None
    basis: str | None = None
    value: int | None = None
    length: int | None = None
    end: int = -1
    writer: int = -1
    busy: int = 0

    def becomes(self, exists: bool | None, basis: str | None, writer: int) -> None:
        """Take that the key exists, or not, or that nobody knows; what it holds is not known then."""
        self.exists, self.basis, self.writer = exists, None if exists is None else basis, writer
        self.value = self.length = None


class Listing(NamedTuple):
    """What a List returned: how many keys, what is wrong with it, and which key is."""

    keys: int | None = None
    flaw: str | None = None
    key: bytes = b""
    told: bool = False
    """That the key does not exist is known only because another command said so, or a format removed all."""


class KeyCommand(Protocol):
    """What is needed of a command."""

    @property
    def sqe(self) -> bytes:
        """Its entry."""

    @property
    def cqe(self) -> bytes | None:
        """Its completion."""

    @property
    def cqe_ps(self) -> int:
        """When it completed."""

    @property
    def fetch_tlp(self) -> int:
        """The TLP or PDU that brought it."""

    @property
    def opcode(self) -> int:
        """Its opcode."""

    @property
    def dw0(self) -> int:
        """Dword 0 of its completion."""

    def dword(self, number: int) -> int:
        """Return a dword of its entry."""


class KeyNamespace(Protocol):
    """What is needed of a namespace."""

    number: int
    longest_key: int | None
    longest_value: int | None


C = TypeVar("C", bound=KeyCommand)


class Keys(ABC, Generic[C]):
    """Follows every Key Value namespace of one capture."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[int, dict[int, Key]] = {}
        self._count = 0
        self._emptied: dict[int, tuple[int, int]] = {}
        """Namespaces of which all keys not remembered do not exist: since which TLP, by which transaction."""

    # -- what carries commands says -----------------------------------------------------------------------------

    @abstractmethod
    def namespace(self, command: C) -> KeyNamespace:
        """Return the namespace of a command."""

    @abstractmethod
    def transaction(self, command: C) -> int:
        """Return the number of a command's transaction."""

    @abstractmethod
    def data_of_list(self, command: C) -> tuple[bytes | None, bool]:
        """Return what a List returned, None where not all was seen, and whether it wrote behind its buffer."""

    @abstractmethod
    def moved(self, command: C) -> int | None:
        """Return the bytes that moved of the value of a Store or Retrieve, None where that is not certain."""

    @abstractmethod
    def delete_errors(self, command: C) -> bool | None:
        """Return whether Delete of a key that does not exist is an error (EDNEK)."""

    @abstractmethod
    def place(self, command: C) -> dict[str, Any]:
        """Return the columns that say where a command ran, and how surely it is known."""

    def compared(self, command: C, differs: bool, writer: int, tlp: int) -> None:
        """Hook: a retrieved value is known to be, or not to be, what was stored."""

    # -- what is known of a key ---------------------------------------------------------------------------------

    def _key(self, number: int, key: bytes) -> Key:
        keys = self._keys.setdefault(number, {})
        name = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
        found = keys.get(name)
        if found is not None:
            return found
        if self._count >= MOST_KEYS:
            self._emptied.clear()  # keys that are not remembered may exist from now on
            return Key()
        found = keys[name] = Key()
        self._count += 1
        emptied = self._emptied.get(number)
        if emptied is not None:
            found.end, found.writer = emptied
            found.exists, found.basis = False, EMPTIED
        return found

    def named(self, command: C) -> Key | None:
        """Return the key that a command names, None for one that names none."""
        size = command.dword(11) & 0xFF
        if command.opcode not in ABOUT_ONE_KEY or not 0 < size <= LARGEST_KEY:
            return None
        return self._key(self.namespace(command).number, name_of(command)[:size])

    # -- a command's life ---------------------------------------------------------------------------------------

    def began(self, command: C) -> None:
        """A command was fetched."""
        if command.opcode in CHANGERS:
            key = self.named(command)
            if key is not None:
                key.busy += 1

    def ended(self, command: C, last: int) -> None:
        """A command's life ended without a completion: whether it did anything is not known."""
        key = self.named(command) if command.opcode in CHANGERS else None
        if key is not None:
            key.busy, key.end = max(key.busy - 1, 0), last
            key.becomes(None, None, -1)

    def completed(self, command: C, digests: np.ndarray | None, tlp: int) -> None:
        """A command completed: say how it stands against what is known, and learn from it."""
        assert command.cqe is not None
        word = (command.cqe[14] | command.cqe[15] << 8) >> 1
        status, key = Status(word >> 8 & 7, word & 0xFF), self.named(command)
        changes = command.opcode in CHANGERS
        settled = key is not None and key.busy <= int(changes) and key.end < command.fetch_tlp
        listing = self._listed(command) if command.opcode == KeyValue.LIST and status.ok else Listing()
        self._row(command, status, key if settled else None, listing, tlp)
        if key is None:
            return
        number = self.transaction(command)
        if changes:
            key.busy, key.end = max(key.busy - 1, 0), tlp
            self._changed(command, status, key, settled, digests, number)
        elif settled:
            self._shown(command, status, key, digests, number, tlp)

    def _changed(
        self, command: C, status: Status, key: Key, settled: bool, digests: np.ndarray | None, number: int
    ) -> None:  # fmt: skip
        """A Store or a Delete completed."""
        store = command.opcode == KeyValue.STORE
        if not settled:
            key.becomes(None, None, number)
        elif status.ok:
            key.becomes(store, STORED if store else DELETED, number)
            if store:
                key.length = command.dword(10)
                if digests is not None and digests["seen"][0] == key.length:
                    key.value = int(digests["value"][0])
        elif status == nvme.CAPACITY_EXCEEDED and store:
            key.basis, key.writer = (None if key.exists is None else REFUSED), number
        elif status in (nvme.KEY_DOES_NOT_EXIST, nvme.KEY_EXISTS):
            self._told(key, status == nvme.KEY_EXISTS, number)
        elif status not in NOTHING_DONE:
            key.becomes(None, None, number)

    def _told(self, key: Key, exists: bool, number: int) -> None:
        """A command said whether a key exists; what was known to the contrary has been said and is forgotten."""
        if key.exists is not exists:
            key.becomes(exists, TOLD, number)

    def _shown(
        self, command: C, status: Status, key: Key, digests: np.ndarray | None, number: int, tlp: int
    ) -> None:  # fmt: skip
        """A Retrieve or an Exist completed, and nothing else was under way."""
        if status == nvme.KEY_DOES_NOT_EXIST:
            self._told(key, False, number)
        if not status.ok:
            return
        self._told(key, True, number)
        if command.opcode != KeyValue.RETRIEVE or command.dword(11) >> 8 & RAW:
            return
        if key.length != command.dw0:
            key.value = key.length = None
        elif digests is not None and key.value is not None and digests["seen"][0] == key.length:
            differs = int(digests["value"][0]) != key.value
            self.compared(command, differs, key.writer, tlp)
            if differs:
                key.value = None

    # -- List (KV 1.1, 3.2.3) -----------------------------------------------------------------------------------

    def _listed(self, command: C) -> Listing:
        data, overrun = self.data_of_list(command)
        if data is None or len(data) < 4:
            return Listing()
        count, number = int.from_bytes(data[:4], "little"), self.namespace(command).number
        if overrun:
            return Listing(count, "overrun")
        by = self.transaction(command)
        place, seen, flaw = 4, set(), Listing(count)
        for _ in range(min(count, MOST_LISTED)):
            length = int.from_bytes(data[place : place + 2], "little")
            name = data[place + 2 : place + 2 + length]
            if not 0 < length <= LARGEST_KEY or len(name) < length:
                full = command.dword(10) - place < LARGEST_RECORD  # keys that did not fit may be counted too
                return flaw if full or flaw.flaw else Listing(count, "counted")
            key = self._key(number, name)
            if name in seen:
                flaw = Listing(count, "repeated", name)
            elif not key.busy and key.end < command.fetch_tlp:
                if key.exists is False and flaw.flaw is None:
                    flaw = Listing(count, "absent", name, key.basis in (TOLD, EMPTIED))
                self._told(key, True, by)
            seen.add(name)
            place += 2 + length + -(2 + length) % 4
        return flaw

    # -- the namespace as a whole -------------------------------------------------------------------------------

    def empty(self, number: int, since: int, tlp: int, writer: int) -> None:
        """No key of a namespace exists any more, but for those that commands since ``since`` touched."""
        self.forget(number, since, tlp)
        if self._count < MOST_KEYS:
            self._emptied[number] = (tlp, writer)

    def forget(self, number: int, since: int, tlp: int) -> None:
        """What keys a namespace has is not known, except of commands that come; those since ``since`` may count."""
        self._emptied.pop(number, None)
        keys = self._keys.pop(number, {})
        kept = {name: key for name, key in keys.items() if key.busy or key.end >= since}
        self._count -= len(keys) - len(kept)
        for key in kept.values():
            key.becomes(None, None, -1)
            key.end = tlp
        if kept:
            self._keys[number] = kept

    # -- the table ----------------------------------------------------------------------------------------------

    def _row(self, command: C, status: Status, key: Key | None, listing: Listing, tlp: int) -> None:
        namespace = self.namespace(command)
        word, known = command.dword(11), key is not None and key.exists is not None
        about = command.opcode in ABOUT_ONE_KEY
        self._store.writer("key_value_commands").add({
            "transaction_id": self.transaction(command), "opcode": command.opcode,
            "nsid": command.dword(1), "sct": status.sct, "sc": status.sc,
            "dw0": command.dw0, "host_bytes": command.dword(10), "moved": self.moved(command),
            "key_length": word & 0xFF, "options": word >> 8 & 0xFF,
            "key": listing.key.hex() or (name_of(command)[: word & 0xFF].hex() if about else None),
            "longest_key": namespace.longest_key, "longest_value": namespace.longest_value,
            "existed": key.exists if key is not None else None, "basis": key.basis if key is not None else None,
            "value_bytes": key.length if key is not None else None,
            "writer_id": key.writer if known and key is not None and key.writer >= 0 else None,
            "delete_errors": self.delete_errors(command) if command.opcode == KeyValue.DELETE else None,
            "keys_listed": listing.keys, "list_flaw": listing.flaw, "list_told": listing.told,
            "time_ps": command.cqe_ps, "tlp_id": tlp, **self.place(command),
        })  # fmt: skip


def name_of(command: KeyCommand) -> bytes:
    """Return the bytes of the key field of a command: CDW2, CDW3, CDW14 and CDW15."""
    return command.sqe[8:16] + command.sqe[56:64]


def limits(pieces: Pieces) -> tuple[int | None, int | None] | None:
    """Return KVKML and KVVML of the format in use, where that is one of the formats there are; None for no limit."""
    head = pieces.bytes(24, 30)
    index = KEY_VALUE_NAMESPACE["KVFC"].of(bytes(24) + head) if head is not None else 0
    if head is None or index > head[1]:
        return None
    at = KEY_VALUE_FORMATS + KEY_VALUE_FORMAT.size * index
    told = pieces.bytes(at, at + KEY_VALUE_FORMAT.size)
    if told is None:
        return None
    return KEY_VALUE_FORMAT["KVKML"].of(told) or None, KEY_VALUE_FORMAT["KVVML"].of(told) or None
