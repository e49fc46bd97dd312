"""What faults of the network scenarios are made of: a name, the rule they break, and a change of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.scenario import Fault
from lmtrace_samples.fault import instead
from lmtrace_samples.network.nvme_tcp import Model, Queue
from lmtrace_samples.network.pdu import Pdu

Change = Callable[[Model], None]
When = Callable[[Queue, Pdu], bool]
TCP_FAULTS: dict[str, tuple[Fault, Change]] = {}


def fault(name: str, rule: str, party: str = "controller") -> Callable[[Change], Change]:
    """Register a function as the fault ``name``; its docstring's first line says what goes wrong."""

    def add(change: Change) -> Change:
        text = (change.__doc__ or "").strip().splitlines()[0]
        TCP_FAULTS[name] = Fault(name, rule, party, text), change
        return change

    return add


def apply(name: str, model: Model) -> None:
    """Let a fault happen in a run."""
    TCP_FAULTS[name][1](model)


def once(model: Model, name: str, change: Callable[[Queue, Pdu], Any], when: When | None = None) -> None:
    """Change the first PDU of a kind that ``when`` lets through. What ``change`` returns is sent in its place."""
    done: list[bool] = []

    def send(original: Callable[[Queue, Pdu], None], queue: Queue, pdu: Pdu) -> None:
        if not done and pdu.name == name and (when is None or when(queue, pdu)):
            done.append(True)
            sent = change(queue, pdu)
            for one in [pdu] if sent is None else sent:
                original(queue, one)
            return
        original(queue, pdu)

    instead(model, "send", send)


def changed(model: Model, name: str, when: When | None = None, **values: Any) -> None:
    """Give fields of the first PDU of a kind other values."""

    def change(queue: Queue, pdu: Pdu) -> None:
        for key, value in values.items():
            setattr(pdu, key, value)

    once(model, name, change, when)


def put(model: Model, name: str, at: int, count: int, value: Callable[[int], int],
        when: When | None = None) -> None:  # fmt: skip
    """Change a little-endian field of the first PDU of a kind."""
    once(model, name, lambda _, pdu: pdu.put(at, value(pdu.field(at, count)), count), when)


def before(model: Model, method: str, action: Callable[..., None]) -> None:
    """Do something before each call of a method, with its arguments."""

    def call(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        action(*arguments, **named)
        return original(*arguments, **named)

    instead(model, method, call)


def after(model: Model, method: str, action: Callable[..., None]) -> None:
    """Do something after each call of a method, with its arguments."""

    def call(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        action(*arguments, **named)
        return result

    instead(model, method, call)


def is_io(queue: Queue, pdu: Pdu) -> bool:
    """Whether a PDU is of an I/O queue."""
    return queue.qid > 0


def is_controlled(queue: Queue, pdu: Pdu) -> bool:
    """Whether a PDU is of the I/O queue with flow control."""
    return queue.qid == 1


def with_digests(model: Model, digests: int) -> None:
    """Let host and controller agree on some digests: bit 0 of headers, bit 1 of data."""
    model.digests = digests
