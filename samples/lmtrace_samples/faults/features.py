"""Faults of features: what is set though it can't be, what comes back, memory that was lent (nvme-checklist G17)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import COMMAND_SEQUENCE_ERROR, INVALID_FIELD, Feature
from lmtrace_samples.administered import SCENARIO, answers, asks, drive, forgets
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.features import Kind
from lmtrace_samples.queues import Command, Refused
from lmtrace_samples.simulation import US
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

DAY = 86_400_000
"""A day in ms."""


def _returns(name: str, rule: str, fid: int, text: str, wrong: Callable[[int], int]) -> None:
    """Register the fault of a controller that returns another value of a feature."""

    def value(original: Callable[..., int], command: Command, kind: Kind) -> int:
        right = original(command, kind)
        return wrong(right) if command.bits(10, 7, 0) == fid else right

    answers(name, rule, "value", text, value)


def _refuses(original: Callable[..., None], lent: bool) -> None:
    if not lent:
        raise Refused(COMMAND_SEQUENCE_ERROR)
    original(lent)


def _refuses_reserved(original: Callable[..., None], fid: int, data: bytes) -> None:
    if fid == Feature.HOST_BEHAVIOR_SUPPORT and any(data[6:]):
        raise Refused(INVALID_FIELD)
    original(fid, data)


forgets("unknown-feature-accepted", "NVM21-5.1.25-n1", "feature-unknown", "A reserved feature is returned.")
forgets("feature-saved-though-it-cannot", "NVM21-5.1.25-n2", "feature-save", "A feature is saved that can't be.")
forgets("feature-changed-though-fixed", "NVM21-5.1.25-n3", "feature-change", "A feature is set that can't be changed.")
forgets(
    "feature-set-for-one-namespace", "NVM21-5.1.25-n4", "feature-namespace",
    "A feature of the controller is set for one namespace.",
)  # fmt: skip
forgets("events-it-has-not-enabled", "NVM21-5.1.25.1.5-n1", "feature-events", "Events that OAES lacks are enabled.")
_returns(
    "allocated-queues-changed", "NVM21-5.1.25.2.1-n1", Feature.NUMBER_OF_QUEUES,
    "The number of queues that was allocated is another afterwards.", lambda value: value + 1,
)  # fmt: skip
asks("every-queue-asked-for", "NVM21-5.1.25.2.1-n2", "queues-all", "The host asks for 65,536 queues.")
asks(
    "queues-negotiated-late", "NVM21-5.1.25.2.1-n3", "queues-late",
    "The host sets the number of queues when some exist.",
)  # fmt: skip
_returns(
    "threshold-not-kept", "NVM21-5.1.25-n5", Feature.TEMPERATURE_THRESHOLD,
    "A temperature threshold is another than the one that was set.", lambda value: value - 1,
)  # fmt: skip
answers(
    "host-identifier-not-kept", "NVM21-5.1.25-n5", "current", "The host identifier is not the one that was set.",
    lambda original, fid, size: bytes(size) if fid == Feature.HOST_IDENTIFIER else original(fid, size),
)  # fmt: skip
answers(
    "capabilities-misnamed", "NVM21-5.1.25-n6", "capabilities", "A feature that was set says that it can't be changed.",
    lambda original, fid, kind: 0 if fid == Feature.VOLATILE_WRITE_CACHE else original(fid, kind),
)  # fmt: skip
answers(
    "timestamp-too-long", "NVM21-5.1.25-n7", "current", "The data of the timestamp have 16 bytes.",
    lambda original, fid, size: original(fid, size).ljust(16 if fid == Feature.TIMESTAMP else size, b"\0"),
)  # fmt: skip
forgets(
    "range-types-of-all-namespaces", "NVM21-5.1.25-n8", "feature-ranges",
    "LBA range types are returned for every namespace at once.",
)  # fmt: skip
answers(
    "reserved-behavior-refused", "NVM21-5.1.25.1.14-n1", "check_data",
    "Host behavior is refused for a reserved byte.", _refuses_reserved,
)  # fmt: skip
answers(
    "timestamp-goes-back", "NVM21-5.1.25-n9", "passed", "The timestamp is a day before the one that was set.",
    lambda original: -DAY,
)  # fmt: skip
_returns(
    "power-state-not-entered", "NVM21-5.1.25-n10", Feature.POWER_MANAGEMENT,
    "The controller stays in the power state that it was in.", lambda value: 0,
)  # fmt: skip
asks("host-identifier-changed", "NVM21-5.1.25-n13", "feature-identifier", "The host changes its identifier.")
asks("memory-within-page", "NVM21-5.1.25.2.4-n1", "memory-pages", "The host lends memory that begins within a page.")
answers(
    "memory-beside-buffer-used", "NVM21-5.1.25.2.4-n3", "place", "The controller uses memory next to what it was lent.",
    lambda original, lent, index: lent[0][0] + lent[0][1] + 64 * index,
)  # fmt: skip
forgets("memory-lent-twice", "NVM21-5.1.25.2.4-n4", "memory-twice", "A Host Memory Buffer is enabled while one is.")
answers(
    "memory-return-refused", "NVM21-5.1.25.2.4-n5", "check_returns",
    "Disabling a Host Memory Buffer that is not enabled is refused.", _refuses,
)  # fmt: skip
forgets(
    "vector-without-queue-configured", "NVM21-5.1.25.2.3-n2", "feature-vector",
    "An interrupt vector that no I/O completion queue has is configured.", shared=True,
)  # fmt: skip
asks(
    "vector-configured-early", "NVM21-5.1.25.2.3-n3", "vector-early",
    "The host configures a vector before it has a queue.",
)  # fmt: skip


@fault("returned-memory-used", "NVM21-5.1.25.2.4-n2", SCENARIO)
def returned_memory_used(world: World) -> None:
    """The controller writes to its Host Memory Buffer after it was disabled."""
    features = drive(world).features

    def returned(original: Callable[..., Any], was: list[tuple[int, int]]) -> None:
        original(was)
        world.clock.after(10 * US, features.controller.function.write, was[0][0] + PAGE, bytes([1]) * 64)

    instead(features, "returned", returned)


@fault("absent-write-cache-set", "NVM21-5.1.25-n11", SCENARIO, party="host")
def absent_write_cache_set(world: World) -> None:
    """The host enables a volatile write cache that the controller does not have."""
    drive(world).fields["VWC"] = 0
