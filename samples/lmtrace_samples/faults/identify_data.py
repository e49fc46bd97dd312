"""Faults of Identify: what is asked for, refused, and told (nvme-checklist G16)."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.admin_data import IDENTIFY_NAMESPACE, LBA_FORMATS, SECONDARY_ENTRY
from lmtrace.spec.nvme import IDENTIFY_CONTROLLER, Cns
from lmtrace_samples.administered import SCENARIO, asks, drive, forgets, tells, virtual
from lmtrace_samples.administration import ABSENT, put
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.world import World

SECOND_ENTRY = SECONDARY_ENTRY.size * 2


def _field(data: bytes, name: str, value: int) -> bytes:
    """Return Identify Controller data with a field changed."""
    field = IDENTIFY_CONTROLLER[name]
    return put(data, field.lo // 8, value, field.width // 8)


def _namespace(data: bytes, name: str, value: int) -> bytes:
    field = IDENTIFY_NAMESPACE[name]
    return put(data, field.lo // 8, value, field.width // 8)


def _later(name: str, rule: str, text: str, field: str, value: int) -> None:
    """Register the fault of a controller that tells another value of a field from the second time on."""

    def change(world: World) -> None:
        def describe(original: Callable[..., bytes], data: bytes, count: int) -> bytes:
            made = original(data, count)
            return _field(made, field, value) if count > 1 else made

        instead(drive(world), "describe", describe)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


def _claims(name: str, rule: str, text: str, field: str, value: int) -> None:
    """Register the fault of a controller that always tells another value of a field."""

    def change(world: World) -> None:
        drive(world).fields[field] = value

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


asks("reserved-structure-asked-for", "NVM21-5.1.13-n5", "structure-unknown", "The host asks for a reserved CNS.")
forgets(
    "reserved-structure-returned", "NVM21-5.1.13-n6", "structure-unknown", "Identify of a reserved CNS succeeds.",
    shared=True,
)  # fmt: skip
tells(
    "absent-namespace-described", "NVM21-5.1.13-n7", Cns.NAMESPACE,
    "Identify describes a namespace that is not active.", lambda data: b"\1" + data[1:], ABSENT,
)  # fmt: skip
forgets(
    "invalid-namespace-described", "NVM21-5.1.13-n7", "namespace-invalid", "Identify takes an NSID beyond NN.",
)  # fmt: skip
forgets(
    "list-behind-last-namespace", "NVM21-5.1.13-n8", "list-behind", "The namespaces behind FFFFFFFFh are listed.",
)  # fmt: skip
tells(
    "namespace-list-disordered", "NVM21-5.1.13-n9", Cns.ACTIVE_NAMESPACES, "The namespace list falls.",
    lambda data: data[4:8] + data[:4],
)  # fmt: skip
_claims(
    "subsystem-vendor-differs", "NVM21-5.1.13-n10", "SSVID is not that of the configuration space.", "SSVID", 0x1B37
)
_claims("version-differs", "NVM21-5.1.13-n11", "VER is not VS.", "VER", 0x00010400)
_claims("entry-size-too-large", "NVM21-5.1.13-n13", "The smallest submission entry has 128 bytes.", "SQES", 0x77)
_later("abilities-changed", "NVM21-5.1.13-n14", "ONCS loses Copy when it is told again.", "ONCS", 0b1_1111)
_later("transfer-size-changed", "NVM21-5.1.13-n15", "MDTS is another when it is told again.", "MDTS", 3)
tells(
    "block-too-small", "NVM21-N4.1.5.1-n1", Cns.NAMESPACE, "A namespace has a format with blocks of 256 bytes.",
    lambda data: put(_namespace(data, "NLBAF", 1), LBA_FORMATS + 6, 8, 1), 2,
)  # fmt: skip
tells(
    "format-missing", "NVM21-N4.1.5.1-n2", Cns.NAMESPACE, "FLBAS names a format that the namespace does not have.",
    lambda data: put(data, 26, 3, 1), 2,
)  # fmt: skip
tells(
    "more-blocks-used-than-there-are", "NVM21-N4.1.5.1-n3", Cns.NAMESPACE, "NUSE is more than NCAP.",
    lambda data: _namespace(data, "NUSE", 257), 2,
)  # fmt: skip
tells(
    "namespaces-share-identifier", "NVM21-5.1.13-n16", Cns.NAMESPACE, "Two namespaces have the same NGUID.",
    lambda data: put(data, 119, 1, 1), 2,
)  # fmt: skip
tells(
    "controller-list-disordered", "NVM21-5.1.13-n17", Cns.CONTROLLER_LIST, "The Controller List falls.",
    lambda data: data[:2] + data[4:6] + data[2:4] + data[6:],
)  # fmt: skip
tells(
    "virtual-function-listed-twice", "NVM21-5.1.13-n18", Cns.SECONDARY_CONTROLLERS,
    "Two secondary controllers have the same virtual function.", lambda data: put(data, SECOND_ENTRY + 8, 1, 2),
)  # fmt: skip


@fault("controller-renamed", "NVM21-5.1.13-n12", SCENARIO)
def controller_renamed(world: World) -> None:
    """A secondary controller has another CNTLID when it tells of itself again."""

    def structure(original: Callable[..., bytes], cns: int, command: Command) -> bytes:
        data = original(cns, command)
        again = cns == Cns.CONTROLLER and virtual(world).administration.told > 1
        return _field(data, "CNTLID", 9) if again else data

    instead(virtual(world).administration, "structure", structure)
