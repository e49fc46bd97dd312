"""nvme-checklist G22: firmware, self-test, lockdown, security protocols and directives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lmtrace.events import Command
from lmtrace.rule import Verdict, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.upkeep import IDENTIFY_DIRECTIVE, RETURN_PARAMETERS, STARTS, bits_of, directive, download_range
from lmtrace.spec.nvme import Admin, Status

SECTION = "G22 Namespaces, format, sanitize, security, firmware"
PROFILE = ("nvme", "firmware")
REPLACE, REPLACE_AND_ACTIVATE, ACTIVATE, ACTIVATE_NOW, REPLACE_BOOT_PARTITION = 0, 1, 2, 3, 6
"""CA of Firmware Commit."""
NEEDS_RESET = tuple(Status(1, code) for code in (0x0B, 0x10, 0x11, 0x12))
READ_ONLY_SLOT, SLOTS = 1, 7 << 1
"""FRMW: slot 1 is read only; the number of slots."""
LOCKED = (2, 3)
"""State of a boot partition in its Write Protection Configuration: locked, for good or until power is cycled."""
COMMANDS, FEATURES = 0, 2
"""SCP of Lockdown: opcodes of admin commands, and features of Set Features."""
ENABLE_DIRECTIVE = (0, 1)
"""DTYPE and DOPER of the Directive Send that enables or disables a directive."""
DIRECTIVES_SUPPORTED = 1 << 5
"""OACS."""
DIRECTIVE_BYTES = 32


def _is(command: Command, opcode: Admin) -> bool:
    return command.sqid == 0 and command.opcode == opcode


@rule("NVM21-5.1.24-n1", spec="NVMe Base 2.1, 5.1.23 and 5.1.24", party="controller", local=True)
def security_data(command: Command, session: Session) -> Iterator[Verdict]:
    """A Security command moves no more bytes than it names, and protocol 00h returns a list that begins with itself.

    More bytes overwrite what is behind the buffer. The list of protocols rises.

    Holds::

        1us command opc=0x82 cdw11=512 bytes_from_device=512
            data raw=0xef0201000300000000000000 size=512

    Holds::

        1us command opc=0x81 cdw10=0x01000000 cdw11=2048 bytes_to_device=2048

    Breaks::

        1us command opc=0x82 cdw10=0x01000000 cdw11=512 bytes_from_device=1024

    Breaks::

        1us command opc=0x82 cdw11=512 bytes_from_device=512
            data raw=0x01020000030000000000000000 size=512

    Breaks::

        1us command opc=0x82 cdw11=512 bytes_from_device=512
            data raw=0x020000000000000000 size=512

    Silent::

        1us command opc=0x82 cdw11=512 status=0/02h
    """
    if not (_is(command, Admin.SECURITY_SEND) or _is(command, Admin.SECURITY_RECEIVE)) or not command.succeeded:
        return
    length = bits_of(command, 11, 31, 0)
    moved = command.bytes_to_device if command.opcode == Admin.SECURITY_SEND else command.bytes_from_device
    if moved > length:
        yield expect(False, f"{command.title} moved {moved} bytes where it names {length}", command)
        return
    lists = command.opcode == Admin.SECURITY_RECEIVE and bits_of(command, 10, 31, 8) == 0
    head = command.data.bytes(6, 8) if lists and command.data is not None else None
    if not lists:
        yield expect(True, "", command)
    elif head is None or command.data is None:
        yield not_observable("the list of security protocols was not seen", command)
    else:
        count = int.from_bytes(head, "big")
        listed = command.data.bytes(8, min(8 + count, length))
        if listed is not None and length >= 9:
            good = count > 0 and listed[:1] == b"\0" and all(a < b for a, b in pairwise(listed))
            yield expect(good, f"{command.title} returned the protocols {listed[:8].hex(' ') or 'none'}", command)


@rule("NVM21-5.1.8-n1", spec="NVMe Base 2.1, 5.1.8", party="controller", severity="warning")
def firmware_commit_result(command: Command, session: Session) -> Iterator[Verdict]:
    """A Firmware Commit is refused for a slot that there is not or that is read only, and asks for a reset only where
    it activates something.

    A host that waits for a reset that changes nothing, or finds another image than it sent, runs the wrong firmware.

    Holds::

        1us identify_controller
            data frmw=4
        2us command opc=0x10 cdw10=0x0a status=1/11h

    Holds::

        1us identify_controller
            data frmw=4
        2us command opc=0x10 cdw10=3 status=1/06h

    Breaks::

        1us identify_controller
            data frmw=4
        2us command opc=0x10 cdw10=3

    Breaks::

        1us identify_controller
            data frmw=5
        2us command opc=0x10 cdw10=9

    Breaks::

        2us command opc=0x10 cdw10=2 status=1/0Bh

    Silent::

        2us command opc=0x10 cdw10=3
    """
    if not _is(command, Admin.FIRMWARE_COMMIT) or not command.completed:
        return
    action, slot = bits_of(command, 10, 5, 3), bits_of(command, 10, 2, 0)
    if action == REPLACE:
        yield expect(
            command.status not in NEEDS_RESET,
            f"{command.title} asked for a reset ({command.status}) though it activates nothing",
            command,
        )  # fmt: skip
    slots = session.of_function(command.function).limit("FRMW")
    if slots is None or not slots & SLOTS or action > ACTIVATE_NOW or not (command.succeeded or command.failed):
        return
    read_only = slot == 1 and slots & READ_ONLY_SLOT and action in (REPLACE, REPLACE_AND_ACTIVATE)
    if slot > (slots & SLOTS) >> 1 or read_only:
        why = "is read only" if read_only else f"is none of {(slots & SLOTS) >> 1}"
        yield expect(command.failed, f"{command.title} succeeded for slot {slot}, which {why}", command)
    elif action != REPLACE:
        yield held(command)


@rule("NVM21-5.1.9-n1", spec="NVMe Base 2.1, 5.1.9", party="controller", severity="warning")
def firmware_pieces_overlap(command: Command, session: Session) -> Iterator[Verdict]:
    """A piece of firmware that overlaps one received before is refused.

    Which of the two is meant is not said. A piece at offset 0 begins a new image.

    Holds::

        1us command opc=0x11 cdw10=0xff
        2us command opc=0x11 cdw10=0xff cdw11=0x100

    Holds::

        1us command opc=0x11 cdw10=0xff
        2us command opc=0x11 cdw10=0xff cdw11=0x80 status=1/14h

    Breaks::

        1us command opc=0x11 cdw10=0xff
        2us command opc=0x11 cdw10=0xff cdw11=0x80

    Silent::

        1us command opc=0x11 cdw10=0xff
        2us command opc=0x11 cdw10=0xff

    Silent::

        1us command opc=0x11 cdw10=0xff
        2us command opc=0x10 cdw10=1
        3us command opc=0x11 cdw10=0xff cdw11=0x80
    """
    if not _is(command, Admin.FIRMWARE_IMAGE_DOWNLOAD) or not command.completed:
        return
    first, end = download_range(command)
    received = session.upkeep.of(command.function).downloads
    if first and received:
        again = [one for one in received if one[0] < end and first < one[1]]
        low, high = again[0] if again else (0, 1)
        yield expect(
            not again or command.failed,
            f"{command.title} with bytes {first:X}h to {end - 1:X}h succeeded, though bytes {low:X}h to {high - 1:X}h "
            "had been received",
            command,
        )  # fmt: skip


@rule("NVM21-5.1.8-n2", spec="NVMe Base 2.1, 5.1.8 and 8.1.3", party="controller", severity="warning")
def locked_boot_partition_written(command: Command, session: Session) -> Iterator[Verdict]:
    """A boot partition that is locked is not replaced.

    The lock keeps what the machine starts with.

    Holds::

        1us set_features fid=0x85 cdw11=0x10
        2us command opc=0x10 cdw10=0x80000030 status=1/1Eh

    Breaks::

        1us set_features fid=0x85 cdw11=0x10
        2us command opc=0x10 cdw10=0x80000030

    Silent::

        1us set_features fid=0x85 cdw11=0x10
        2us command opc=0x10 cdw10=0x00000030
    """
    setting = session.upkeep.of(command.function).boot_partitions
    if not _is(command, Admin.FIRMWARE_COMMIT) or bits_of(command, 10, 5, 3) != REPLACE_BOOT_PARTITION:
        return
    partition = bits_of(command, 10, 31, 31)
    if setting is None or not command.completed or setting.order > command.fetched:
        return
    if setting.field("CDW11") >> 3 * partition & 7 in LOCKED:
        yield expect(command.failed, f"{command.title} replaced boot partition {partition}, which is locked", command)


@rule("NVM21-5.1.5-n1", spec="NVMe Base 2.1, 5.1.5", party="controller", severity="warning")
def second_self_test_begun(command: Command, session: Session) -> Iterator[Verdict]:
    """A self-test is not begun while one runs.

    A short one takes seconds at least, so that one right behind another meets it.

    Holds::

        1us command opc=0x14 nsid=0xffffffff cdw10=1
        2us command opc=0x14 nsid=0xffffffff cdw10=1 status=1/1Dh

    Breaks::

        1us command opc=0x14 nsid=0xffffffff cdw10=1
        2us command opc=0x14 nsid=0xffffffff cdw10=1

    Silent::

        1us command opc=0x14 nsid=0xffffffff cdw10=1
        2us command opc=0x14 nsid=0xffffffff cdw10=0xf
        3us command opc=0x14 nsid=0xffffffff cdw10=1

    Silent::

        1us command opc=0x14 nsid=0xffffffff cdw10=1
        30s command opc=0x14 nsid=0xffffffff cdw10=1
    """
    if not _is(command, Admin.DEVICE_SELF_TEST) or bits_of(command, 10, 3, 0) not in STARTS or not command.completed:
        return
    behind = session.upkeep.of(command.function).behind
    if behind is None or behind[0] != command.fetched or command.time - behind[1].time >= session.options.window_ps:
        return
    yield expect(command.failed, f"{command.title} began a self-test right behind {behind[1].title}", command)


@rule("NVM21-5.1.15-n1", spec="NVMe Base 2.1, 5.1.15 and 8.1.5", party="controller", severity="warning")
def prohibited_command_served(command: Command, session: Session) -> Iterator[Verdict]:
    """A command or feature that a Lockdown prohibits is refused.

    The host relies on nobody being able to use it.

    Holds::

        1us command opc=0x24 cdw10=0x8010
        2us command opc=0x80 nsid=1 status=0/23h

    Breaks::

        1us command opc=0x24 cdw10=0x8010
        2us command opc=0x80 nsid=1

    Breaks::

        1us command opc=0x24 cdw10=0x0212
        2us set_features fid=2 cdw11=1

    Silent::

        1us command opc=0x24 cdw10=0x8010
        2us command opc=0x24 cdw10=0x8000
        3us command opc=0x80 nsid=1

    Silent::

        1us command opc=0x24 cdw10=0x8050
        3us command opc=0x80 nsid=1
    """
    if command.sqid or not command.completed:
        return
    rules = session.upkeep.of(command.function).prohibited
    lockdown = rules.get((COMMANDS, command.opcode))
    if lockdown is None and command.opcode == Admin.SET_FEATURES:
        lockdown = rules.get((FEATURES, command.sqe[40]))
    if lockdown is not None and lockdown.order < command.fetched:
        yield expect(command.failed, f"{command.title} succeeded though {lockdown.title} had prohibited it", command)


@rule("NVM21-5.1.6-n1", spec="NVMe Base 2.1, 5.1.6 and 8.1.8.2", party="controller", severity="warning")
def directive_parameters(command: Command, session: Session) -> Iterator[Verdict]:
    """What a controller returns of its directives fits: directives are supported, Identify among them, and enabled
    ones are supported ones.

    The host enables a directive by it.

    Holds::

        1us command opc=0x1a cdw11=1
            data raw=3
            data raw=1 at=32

    Breaks::

        1us command opc=0x1a cdw11=1
            data raw=1
            data raw=3 at=32

    Breaks::

        1us command opc=0x1a cdw11=1
            data raw=2

    Breaks::

        0.5us identify_controller
            data oacs=1
        1us command opc=0x1a cdw11=1
            data raw=1
            data raw=1 at=32

    Silent::

        1us command opc=0x1a cdw11=0x0101
            data raw=2
    """
    if not _is(command, Admin.DIRECTIVE_RECEIVE) or not command.succeeded:
        return
    if directive(command) != (IDENTIFY_DIRECTIVE, RETURN_PARAMETERS):
        return
    operations = session.of_function(command.function).limit("OACS")
    data = None if command.data is None else command.data.bytes(0, 2 * DIRECTIVE_BYTES)
    if operations is not None and not operations & DIRECTIVES_SUPPORTED:
        yield expect(False, f"{command.title} succeeded though OACS {operations:04X}h has no directives", command)
    elif data is None:
        yield not_observable("the parameters were not seen", command)
    else:
        supported, enabled = (int.from_bytes(data[at : at + DIRECTIVE_BYTES], "little") for at in (0, DIRECTIVE_BYTES))
        yield expect(
            bool(supported & 1) and not enabled & ~supported,
            f"{command.title} returned the directives {supported:X}h as supported and {enabled:X}h as enabled",
            command,
        )  # fmt: skip


@rule("NVM21-5.1.7-n1", spec="NVMe Base 2.1, 5.1.7 and 8.1.8.2", party="controller", severity="warning")
def unknown_directive_enabled(command: Command, session: Session) -> Iterator[Verdict]:
    """A directive that the controller does not support is not enabled.

    The host believes that its commands are treated otherwise than they are.

    Holds::

        1us command opc=0x1a cdw11=1
            data raw=3
        2us command opc=0x19 cdw11=1 cdw12=0x101

    Holds::

        1us command opc=0x1a cdw11=1
            data raw=1
        2us command opc=0x19 cdw11=1 cdw12=0x101 status=0/02h

    Breaks::

        1us command opc=0x1a cdw11=1
            data raw=1
        2us command opc=0x19 cdw11=1 cdw12=0x101

    Silent::

        2us command opc=0x19 cdw11=1 cdw12=0x101
    """
    if not _is(command, Admin.DIRECTIVE_SEND) or directive(command) != ENABLE_DIRECTIVE or not command.completed:
        return
    data = session.upkeep.of(command.function).directives
    raw = None if data is None else data.bytes(0, DIRECTIVE_BYTES)
    if raw is not None and bits_of(command, 12, 0, 0):
        kind = bits_of(command, 12, 15, 8)
        supported = int.from_bytes(raw, "little") >> kind & 1
        yield expect(
            bool(supported) or command.failed, f"{command.title} enabled directive {kind:02X}h, which is not supported",
            command,
        )  # fmt: skip
