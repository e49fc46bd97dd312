"""The keys of Key Value namespaces: which exist and what they hold, against what commands say (nvme-checklist G24).

Whether a key exists is yes, no, or not known: at the start of a capture nothing is, unless a format emptied the
namespace or its creation was seen. Commands in flight together on one key leave what is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmtrace.spec import nvme
from lmtrace.spec.nvme import CommandSet, KeyValue, Status
from lmtrace_decoders.nvme import facts, spool
from lmtrace_decoders.nvme.sgl import SglTransfer

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

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


class KeyValues:
    """Follows every Key Value namespace of one capture. ``compared`` is told how a retrieved value compared."""

    def __init__(self, run: Reconstruction, compared: Callable[[Command, bool, int, int], None]) -> None:
        self._run, self._compared = run, compared
        self._keys: dict[int, dict[int, Key]] = {}
        self._count = 0
        self._emptied: dict[int, tuple[int, int]] = {}
        """Namespaces of which all keys not remembered do not exist: since which TLP, by which transaction."""
        self._errors: dict[int, tuple[Controller, bool]] = {}
        """Whether Delete of a key that does not exist is an error (EDNEK), and the life of a controller it is of."""

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

    def _of(self, command: Command) -> Namespace:
        return self._run.namespaces.of(command.controller.function, command.dword(1))

    def _named(self, command: Command) -> Key | None:
        """Return the key that a command names, None for one that names none."""
        size = command.dword(11) & 0xFF
        if command.opcode not in ABOUT_ONE_KEY or not 0 < size <= LARGEST_KEY:
            return None
        return self._key(self._of(command).number, name_of(command)[:size])

    # -- a command's life ---------------------------------------------------------------------------------------

    def began(self, command: Command) -> None:
        """A command was fetched."""
        if command.opcode in CHANGERS:
            key = self._named(command)
            if key is not None:
                key.busy += 1

    def ended(self, command: Command, last: int) -> None:
        """A command's life ended without a completion: whether it did anything is not known."""
        key = self._named(command) if command.opcode in CHANGERS else None
        if key is not None:
            key.busy, key.end = max(key.busy - 1, 0), last
            key.becomes(None, None, -1)

    def completed(self, command: Command, digests: np.ndarray | None, tlp: int) -> None:
        """A command completed: say how it stands against what is known, and learn from it."""
        assert command.cqe is not None
        word = (command.cqe[14] | command.cqe[15] << 8) >> 1
        status, key = Status(word >> 8 & 7, word & 0xFF), self._named(command)
        changes = command.opcode in CHANGERS
        settled = key is not None and key.busy <= int(changes) and key.end < command.fetch_tlp
        listing = self._listed(command) if command.opcode == KeyValue.LIST and status.ok else Listing()
        self._row(command, status, key if settled else None, listing, tlp)
        if key is None:
            return
        number = self._run.output.first_transaction + command.number
        if changes:
            key.busy, key.end = max(key.busy - 1, 0), tlp
            self._changed(command, status, key, settled, digests, number)
        elif settled:
            self._shown(command, status, key, digests, number, tlp)

    def _changed(
        self, command: Command, status: Status, key: Key, settled: bool, digests: np.ndarray | None, number: int
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
        self, command: Command, status: Status, key: Key, digests: np.ndarray | None, number: int, tlp: int
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
            self._compared(command, differs, key.writer, tlp)
            if differs:
                key.value = None

    # -- List (KV 1.1, 3.2.3) -----------------------------------------------------------------------------------

    def _listed(self, command: Command) -> Listing:
        size = min(command.dword(10), command.moved[1] - command.moved_beside[1])
        data = None if command.buffer is None or size < 4 else command.buffer.bytes(0, size)
        if data is None or not command.data_decoded or _shared(command):
            return Listing()
        count, number = int.from_bytes(data[:4], "little"), self._of(command).number
        if command.moved_beside[1]:
            return Listing(count, "overrun")
        by = self._run.output.first_transaction + command.number
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

    def emptied(self, command: Command, function: Function, nsid: int, tlp: int) -> None:
        """No key of the namespaces that an NSID names exists any more, by a command that completed."""
        for one in self._run.namespaces.all_of(function, nsid):
            self.forget(one.number, command.fetch_tlp, tlp)
            if one.csi == CommandSet.KEY_VALUE and self._count < MOST_KEYS:
                self._emptied[one.number] = (tlp, self._run.output.first_transaction + command.number)

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

    def configured(self, command: Command, value: int) -> None:
        """The Key Value Configuration feature was set or told: whether some deletes are errors."""
        function, nsid = command.controller.function, command.dword(1)
        for one in self._run.namespaces.all_of(function, nsid):
            self._errors[one.number] = (command.controller, bool(value & 1))

    def _delete_errors(self, command: Command) -> bool | None:
        found = self._errors.get(self._of(command).number)
        return found[1] if found is not None and found[0] is found[0].function.controller else None

    # -- the table ----------------------------------------------------------------------------------------------

    def _row(self, command: Command, status: Status, key: Key | None, listing: Listing, tlp: int) -> None:
        run, function, namespace = self._run, command.controller.function, self._of(command)
        word, known = command.dword(11), key is not None and key.exists is not None
        about = command.opcode in ABOUT_ONE_KEY
        row: dict[str, Any] = {
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "transaction_id": run.output.first_transaction + command.number,
            "opcode": command.opcode, "nsid": command.dword(1), "sct": status.sct, "sc": status.sc,
            "dw0": command.dw0, "host_bytes": command.dword(10), "moved": _moved(command), "key_length": word & 0xFF,
            "options": word >> 8 & 0xFF,
            "key": listing.key.hex() or (name_of(command)[: word & 0xFF].hex() if about else None),
            "longest_key": namespace.longest_key, "longest_value": namespace.longest_value,
            "existed": key.exists if key is not None else None, "basis": key.basis if key is not None else None,
            "value_bytes": key.length if key is not None else None,
            "writer_id": key.writer if known and key is not None and key.writer >= 0 else None,
            "delete_errors": self._delete_errors(command) if command.opcode == KeyValue.DELETE else None,
            "keys_listed": listing.keys, "list_flaw": listing.flaw, "list_told": listing.told,
            "time_ps": command.cqe_ps, "tlp_id": tlp,
            "learnt": spool.LEARNT[command.sq.learnt] if run.whole(function.link) else "inferred",
        }  # fmt: skip
        run.store.writer("key_value_commands").add(row)


def name_of(command: Command) -> bytes:
    """Return the bytes of the key field of a command: CDW2, CDW3, CDW14 and CDW15."""
    return command.sqe[8:16] + command.sqe[56:64]


def _shared(command: Command) -> bool:
    return facts.known(command, "buffer_shared") is True


def _moved(command: Command) -> int | None:
    """Return the bytes that moved of a command's data, None where that is not certain."""
    if not command.data_decoded or _shared(command):
        return None
    if isinstance(command.transfer, SglTransfer) and (
        (command.transfer.described or 0) < command.dword(10) or command.transfer.discarded
    ):
        return None
    if command.opcode == KeyValue.STORE:
        return command.moved[0]
    if command.opcode != KeyValue.RETRIEVE or facts.known(command, "data_lacks_end") is False:
        return None  # a piece that is missing before the end may not have been recorded
    return command.moved[1] - command.moved_beside[1]
