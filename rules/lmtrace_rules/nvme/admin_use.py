"""nvme-checklist G31: what each admin command uses of its entry and its completion, by one table.

Each row is one rule with answers of both parties: what the host sets beside the fields of the command, and how the
controller completes it. That a controller accepts an NSID that a command does not use is NVM21-4.1.1-n13's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lmtrace.events import Command, MigrationCommand
from lmtrace.rule import Verdict, broken, held, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import UNIQUE_TO_VENDOR
from lmtrace.spec.admin_use import BY_OPCODE, VENDOR_CODES, Use
from lmtrace.spec.migration import HMLM_OPCODES
from lmtrace.spec.nvme import STATUS_NAMES, Admin, command_name
from lmtrace_rules.hmlm.envelope import name_bits
from lmtrace_rules.nvme.versions import by_version

SECTION = "G31 Admin opcode matrix"
PROFILE = ("nvme", "admin")

ROWS: dict[Admin, str] = {
    Admin.DELETE_IO_SQ: "NVM21-5.2.4-n4", Admin.CREATE_IO_SQ: "NVM21-5.2.2-n8", Admin.GET_LOG_PAGE: "NVM21-5.1.12-n16",
    Admin.DELETE_IO_CQ: "NVM21-5.2.3-n3", Admin.CREATE_IO_CQ: "NVM21-5.2.1-n16", Admin.IDENTIFY: "NVM21-5.1.13-n19",
    Admin.ABORT: "NVM21-5.1.1-n9", Admin.SET_FEATURES: "NVM21-5.1.25-n15", Admin.GET_FEATURES: "NVM21-5.1.11-n1",
    Admin.ASYNC_EVENT_REQUEST: "NVM21-5.1.2-n15", Admin.NAMESPACE_MANAGEMENT: "NVM21-5.1.21-n4",
    Admin.FIRMWARE_COMMIT: "NVM21-5.1.8-n3", Admin.FIRMWARE_IMAGE_DOWNLOAD: "NVM21-5.1.9-n2",
    Admin.DEVICE_SELF_TEST: "NVM21-5.1.5-n2", Admin.NAMESPACE_ATTACHMENT: "NVM21-5.1.20-n4",
    Admin.KEEP_ALIVE: "NVM21-5.1.14-n2", Admin.DIRECTIVE_SEND: "NVM21-5.1.7-n2",
    Admin.DIRECTIVE_RECEIVE: "NVM21-5.1.6-n2", Admin.VIRTUALIZATION_MANAGEMENT: "NVM21-5.2.6-n5",
    Admin.NVME_MI_SEND: "NVM21-5.1.19-n1", Admin.CAPACITY_MANAGEMENT: "NVM21-5.1.3-n1",
    Admin.LOCKDOWN: "NVM21-5.1.15-n2", Admin.TRACK_SEND: "NVM21-5.1.27-n3", Admin.TRACK_RECEIVE: "NVM21-5.1.26-n2",
    Admin.MIGRATION_SEND: "NVM21-5.1.17-n3", Admin.MIGRATION_RECEIVE: "NVM21-5.1.16-n3",
    Admin.CONTROLLER_DATA_QUEUE: "NVM21-5.1.4-n6", Admin.DOORBELL_BUFFER_CONFIG: "NVM21-5.2.5-n5",
    Admin.FORMAT_NVM: "NVM21-5.1.10-n4", Admin.SECURITY_SEND: "NVM21-5.1.24-n2",
    Admin.SECURITY_RECEIVE: "NVM21-5.1.23-n1", Admin.SANITIZE: "NVM21-5.1.22-n4",
    Admin.GET_LBA_STATUS: "NVM21-N4.2.1-n1",
}  # fmt: skip
"""The requirement of each opcode; of two opcodes in one row the first."""
NO_FIELDS_OF_ITS_OWN = (Admin.NVME_MI_SEND, Admin.NVME_MI_RECEIVE)
"""Commands whose operations have fields that another specification defines."""


def of_vendor(command: Command) -> bool:
    """Whether a command's fields are a vendor's: those of its log pages, features and structures."""
    selects = (Admin.GET_LOG_PAGE, Admin.SET_FEATURES, Admin.GET_FEATURES, Admin.IDENTIFY)
    return command.opcode in selects and command.sqe[40] >= UNIQUE_TO_VENDOR


def _answers(command: Command, session: Session, use: Use) -> Iterator[Verdict]:
    """Judge one command by what its opcode uses."""
    migrates = command.opcode in HMLM_OPCODES or isinstance(command, MigrationCommand)
    if not migrates and not of_vendor(command):
        stray = use.stray_bits(command.sqe)
        if stray:
            yield broken(f"the host set bits of {command.title} that it does not use: {name_bits(stray)}", command,
                         "warning")  # fmt: skip
        nsid = int.from_bytes(command.sqe[4:8], "little")
        if nsid and not use.namespace:
            yield broken(f"the host named namespace {nsid:X}h in {command.title}, which uses none", command, "warning")
    if command.status is None:
        return
    sct, sc = command.status
    known = (sct, sc) in STATUS_NAMES
    if sct == 1 and known and sc < VENDOR_CODES and sc not in use.codes and use.opcodes[0] not in NO_FIELDS_OF_ITS_OWN:
        yield broken(
            f"the controller completed {command.title} with {command.status} ({command.status.name}), which is no "
            "status of this command",
            command, by_version(session.of_function(command.function)),
        )  # fmt: skip
    elif command.succeeded and not migrates and not of_vendor(command) and (
        command.dw0 & ~use.dw0 or command.dw1 & ~use.dw1
    ):  # fmt: skip
        yield broken(
            f"the controller completed {command.title} with DW0 {command.dw0:08X}h and DW1 {command.dw1:08X}h, of "
            f"which it uses {use.dw0:08X}h and {use.dw1:08X}h",
            command, "warning",
        )  # fmt: skip
    else:
        yield held(command)


def _judge(use: Use) -> Callable[[Command, Session], Iterator[Verdict]]:
    """Return the rule of one row, with its documentation."""

    def judge(command: Command, session: Session) -> Iterator[Verdict]:
        if command.sqid == 0 and command.opcode in use.opcodes:
            yield from _answers(command, session, use)

    opcode = use.opcodes[0]
    name = " and ".join(command_name(0, int(one)) for one in use.opcodes)
    judge.__name__ = f"{opcode.name.lower()}_beside_its_fields"
    codes = ", ".join(f"1/{code:02X}h" for code in sorted(use.codes)) or "no command specific status"
    story = f"1us command opc=0x{opcode:02x}"
    lines = [f"{name} is submitted and completed with nothing but what it uses.", ""]
    breaks, silent = [f"{story} status=1/1Eh" if 0x1E not in use.codes else f"{story} status=1/1Fh"], []
    if opcode in HMLM_OPCODES:
        lines += [f"Its fields and dwords have rules of their own; its status codes are {codes}."]
    elif opcode in NO_FIELDS_OF_ITS_OWN:
        lines += ["What its operations use is told by the NVMe Management Interface; a namespace is not."]
        breaks = [f"{story} nsid=1"]
    else:
        lines += [
            f"A later revision may give what it does not use a meaning. Its command specific status codes are: {codes}."
        ]
        breaks.append(f"{story} cdw2=1")
        if not use.namespace:
            breaks.append(f"{story} nsid=1 status=0/02h")
        if use.dw1 == 0:
            breaks.append(f"{story} dw1=1")
        silent.append(f"{story} dw0=0xffffffff dw1=7 status=0/02h")
    silent += [f"{story} status=1/C5h", f"{story} prp1=0x1000 status=0/06h"]
    for title, stories in (("Holds", [story]), ("Breaks", breaks), ("Silent", silent)):
        for one in stories:
            lines += ["", f"{title}::", "", f"    {one}"]
    judge.__doc__ = "\n".join(lines)
    return judge


for _opcode, _id in ROWS.items():
    rule(_id, spec=f"NVMe Base 2.1, {_id.split('-')[1]}", party="both", local=True)(_judge(BY_OPCODE[_opcode]))
