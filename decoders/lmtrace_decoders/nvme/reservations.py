"""Reservations: who is registered with a namespace and who holds it, against what commands say (nvme-checklist G20).

A host is known by the identifier that it set; without one nothing is known of what it does. What one command changed
is known as long as the controllers of the hosts live, for after a power loss reservations may be gone. Where the
subsystem has other ports, hosts behind them may change everything: then nothing is known either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmtrace.spec.nvme import Admin, Feature, Nvm
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.facts import note

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

CHANGERS = frozenset({Nvm.RESERVATION_REGISTER, Nvm.RESERVATION_ACQUIRE, Nvm.RESERVATION_RELEASE})
COMMANDS = CHANGERS | {Nvm.RESERVATION_REPORT}
READERS = frozenset({Nvm.READ, Nvm.COMPARE, Nvm.VERIFY})
WRITERS = frozenset({Nvm.WRITE, Nvm.WRITE_ZEROES, Nvm.WRITE_UNCORRECTABLE})
REGISTER, UNREGISTER, REPLACE = range(3)
ACQUIRE, RELEASE, CLEAR = 0, 0, 1
ONLY_WRITES = (1, 3, 5)
"""Types that keep others from writing only."""
REGISTRANTS, ALL_REGISTRANTS = (3, 4, 5, 6), (5, 6)
"""Types that let every registrant in, and those of them that every registrant holds."""
EXTENDED_DATA = 1
HEAD, ENTRY = (24, 64), (24, 64)
"""Bytes of the head and of an entry of a report, plain and extended."""


@dataclass(slots=True)
class State:
    """One namespace. ``holder`` and ``type`` are those of the reservation, 0 for none, where ``known``."""

    keys: dict[bytes, int] = field(default_factory=dict)
    """The keys of registered hosts by their identifiers."""
    complete: bool = False
    """No other host is registered."""
    known: bool = False
    holder: bytes | None = None
    type: int = 0
    lives: set[Controller] = field(default_factory=set)
    """Those whose commands all of this is known from."""
    busy: int = 0
    end: int = -1

    def forget(self) -> None:
        """Nothing is known any more."""
        self.keys.clear()
        self.lives.clear()
        self.complete = self.known = False
        self.holder, self.type = None, 0

    def free(self) -> None:
        """There is no reservation."""
        self.known, self.holder, self.type = True, None, 0


class Reservations:
    """Follows the reservations of every namespace of one capture."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._hosts: dict[Controller, bytes] = {}
        self._states: dict[int, State] = {}

    # -- hosts --------------------------------------------------------------------------------------------------

    def admin_completed(self, command: Command) -> None:
        """An admin command completed: a host may have told who it is, or namespaces may be others now."""
        fid, opcode = command.dword(10) & 0xFF, command.opcode
        if opcode in (Admin.NAMESPACE_MANAGEMENT, Admin.NAMESPACE_ATTACHMENT, Admin.MIGRATION_SEND):
            self._states.clear()
        if opcode not in (Admin.SET_FEATURES, Admin.GET_FEATURES) or fid != Feature.HOST_IDENTIFIER:
            return
        if opcode == Admin.GET_FEATURES and command.dword(10) >> 8 & 7:
            return
        size = 16 if command.dword(11) & 1 else 8
        told = None if command.buffer is None or not command.succeeded else command.buffer.bytes(0, size)
        if told is not None and any(told):
            self._hosts[command.controller] = told.ljust(16, b"\0")

    def _host(self, command: Command) -> bytes | None:
        """Return who sent a command, None where that is not known, or where others may be behind other ports."""
        function = command.controller.function
        return self._hosts.get(command.controller) if self._run.conditions.alone(function) else None

    def _settled(self, state: State, command: Command, own: int) -> bool:
        """Whether nothing happened beside a command, and all that is known is of lives that go on."""
        if any(one is not one.function.controller for one in state.lives):
            state.forget()
        return state.busy <= own and state.end < command.fetch_tlp

    # -- commands -----------------------------------------------------------------------------------------------

    def judge(self, command: Command, namespace: Namespace) -> None:
        """An I/O command was fetched: note whether a reservation stands in its way."""
        state = self._states.get(namespace.number)
        if command.opcode in CHANGERS:
            if state is None:
                state = self._states[namespace.number] = State()
            state.busy += 1
        elif state is not None and command.opcode in READERS | WRITERS:
            host = self._host(command)
            if host is not None and state.known and self._settled(state, command, 0) and state.known:
                away = self._away(state, host, command.opcode in WRITERS)
                if away is not None:
                    note(command, "reserved_away", away)

    def _away(self, state: State, host: bytes, writes: bool) -> bool | None:
        if not state.type or state.holder == host or (state.type in ONLY_WRITES and not writes):
            return False
        if state.type not in REGISTRANTS:
            return True
        if host in state.keys:
            return False
        return True if state.complete else None

    def ended(self, command: Command) -> None:
        """A command's life ended without a completion."""
        state = self._states.get(self._of(command).number)
        if state is not None and command.opcode in CHANGERS:
            state.busy, state.end = max(state.busy - 1, 0), max(command.last_tlp, command.fetch_tlp)
            state.forget()

    def completed(self, command: Command, tlp: int) -> None:
        """An I/O command completed."""
        if command.opcode not in COMMANDS:
            return
        state = self._states.setdefault(self._of(command).number, State())
        changes, host = command.opcode in CHANGERS, self._host(command)
        settled = self._settled(state, command, int(changes))
        flaw = None
        if changes:
            state.busy, state.end = max(state.busy - 1, 0), tlp
            if not settled or host is None:
                state.forget()
            elif command.succeeded:
                state.lives.add(command.controller)
                self._change(command, state, host)
        elif settled and command.succeeded:
            flaw = self._report(command, state, host)
        self._row(command, flaw, tlp)

    def _of(self, command: Command) -> Namespace:
        return self._run.namespaces.of(command.controller.function, command.dword(1))

    def _change(self, command: Command, state: State, host: bytes) -> None:
        action, type = command.dword(10) & 7, command.dword(10) >> 8 & 0xFF
        data = None if command.buffer is None else command.buffer.bytes(0, 16)
        if command.opcode == Nvm.RESERVATION_REGISTER:
            if action == UNREGISTER:
                self._leaves(state, host)
            elif action in (REGISTER, REPLACE) and data is not None:
                state.keys[host] = int.from_bytes(data[8:], "little")
            else:
                state.forget()
        elif command.opcode == Nvm.RESERVATION_RELEASE:
            if action == CLEAR:
                state.keys.clear()
                state.complete = True
                state.free()
            elif action == RELEASE and state.known and (state.holder == host or state.type in ALL_REGISTRANTS):
                state.free()
        elif action == ACQUIRE:
            state.known, state.holder, state.type = True, host, type
        else:
            keys, complete = dict(state.keys), state.complete
            state.forget()  # whom a preemption leaves depends on keys that need not all be known
            if data is not None and any(data[8:]):
                gone = int.from_bytes(data[8:], "little")
                state.keys = {one: key for one, key in keys.items() if key != gone or one == host}
                state.complete = complete
            state.lives.add(command.controller)

    def _leaves(self, state: State, host: bytes) -> None:
        """A host is not registered any more; what it alone held is free."""
        state.keys.pop(host, None)
        if not state.known or not state.type:
            return
        if state.type in ALL_REGISTRANTS:
            if not state.complete:
                state.known = False
            elif not state.keys:
                state.free()
        elif state.holder == host:
            state.free()

    # -- Reservation Report (7.8) -------------------------------------------------------------------------------

    def _report(self, command: Command, state: State, host: bytes | None) -> str | None:
        """Return what is wrong with a report, None for nothing; learn from it."""
        extended = command.dword(11) & EXTENDED_DATA
        head, size = HEAD[extended], ENTRY[extended]
        count = None if command.buffer is None else command.buffer.bytes(0, head)
        if count is None or command.buffer is None:
            return None
        entries = int.from_bytes(count[5:7], "little")
        data = command.buffer.bytes(head, head + size * entries)
        if data is None or head + size * entries > 4 * (command.dword(10) + 1):
            return None
        keys: dict[bytes, int] = {}
        holders: set[bytes] = set()
        for at in range(0, len(data), size):
            one = data[at : at + size]
            name = one[16:32] if extended else one[8:16].ljust(16, b"\0")
            keys[name] = int.from_bytes(one[8:16] if extended else one[16:24], "little")
            if one[2] & 1:
                holders.add(name)
        flaw = self._flaw(state, keys, holders, count[4])
        if host is None:
            return flaw
        state.forget()
        state.keys, state.complete, state.lives = keys, True, {command.controller}
        if not count[4]:
            state.free()
        elif count[4] in ALL_REGISTRANTS or len(holders) == 1:
            state.known, state.type = True, count[4]
            state.holder = next(iter(holders)) if len(holders) == 1 else None
        return flaw

    def _flaw(self, state: State, keys: dict[bytes, int], holders: set[bytes], type: int) -> str | None:
        if state.known and type != state.type:
            return "type"
        if any(name not in keys for name in state.keys):
            return "missing"
        if state.complete and any(name not in state.keys for name in keys):
            return "stranger"
        if any(keys[name] != key for name, key in state.keys.items()):
            return "key"
        alone = state.known and state.type and state.type not in ALL_REGISTRANTS
        return "holder" if alone and state.holder is not None and holders != {state.holder} else None

    def _row(self, command: Command, flaw: str | None, tlp: int) -> None:
        run, function = self._run, command.controller.function
        run.store.writer("reservation_commands").add({
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "transaction_id": run.output.first_transaction + command.number,
            "opcode": command.opcode, "nsid": command.dword(1), "action": command.dword(10) & 7,
            "persistence": command.dword(10) >> 30 & 3, "sct": command.status >> 8, "sc": command.status & 0xFF,
            "report_flaw": flaw, "time_ps": command.cqe_ps, "tlp_id": tlp,
            "learnt": spool.LEARNT[command.sq.learnt] if run.whole(function.link) else "inferred",
        })  # fmt: skip
