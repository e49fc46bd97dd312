"""The events a rule can be asked about: one small class each. A rule's first parameter names one of them.

Orders are positions in the capture (ids of TLPs): what has a smaller order came first, also where times are equal.
A command is asked about when it completes, or at the end of its life when it never does; ``fetched`` tells when the
controller took it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lmtrace.events.base import (
    Event,
)
from lmtrace.events.both_ends import (
    Handover,
    MigratedBlocks,
    MigratedCommand,
    StateItem,
)
from lmtrace.events.command import (
    Command,
    FeatureCommand,
    GetFeatures,
    GetLogPage,
    Identify,
    IdentifyController,
    IdentifyStateFormats,
    Sanitize,
    SetFeatures,
    VirtualizationManagement,
)
from lmtrace.events.fabrics import (
    Authentication,
    Connect,
    Disconnect,
    FabricsCommand,
    PropertyGet,
    PropertySet,
)
from lmtrace.events.migration import (
    CdqCommand,
    CreateCdq,
    DeleteCdq,
    GetControllerState,
    GetFeaturesCdq,
    LogUserDataChanges,
    MigrationCommand,
    ReservedSelect,
    Resume,
    SetControllerState,
    SetFeaturesCdq,
    StateTransfer,
    Suspend,
    Targeted,
    TrackMemoryChanges,
    TrackReceive,
)
from lmtrace.events.queue_commands import (
    CreateIoCq,
    CreateIoQueue,
    CreateIoSq,
    DeleteIoCq,
    DeleteIoSq,
    DoorbellBufferConfig,
    QueueCommand,
)
from lmtrace.events.tracking import (
    MemoryReport,
)
from lmtrace.events.upkeep import (
    Aborted,
    AbortRequested,
    ErasedRead,
    InvalidDoorbell,
    Served,
)
from lmtrace.events.wire import (
    CdqEntry,
    CdqRewrite,
    CommandFailed,
    CqePosted,
    DirtyRange,
    Doorbell,
    Enabled,
    EndOfCapture,
    FunctionConfig,
    Initiated,
    Interrupt,
    PropertyAccess,
    QueueCreated,
    QueueDeleted,
    Reset,
    SqeFetch,
    Stray,
)
from lmtrace.spec import migration
from lmtrace.spec.fabrics import FABRICS_OPCODE, Fctype, is_fabrics
from lmtrace.spec.nvme import Admin, Cns, Feature

__all__ = [
    "DEFAULT_FCTYPES",
    "DEFAULT_OPCODES",
    "EVENTS",
    "AbortRequested",
    "Aborted",
    "Authentication",
    "CdqCommand",
    "CdqEntry",
    "CdqRewrite",
    "Command",
    "CommandFailed",
    "Connect",
    "CqePosted",
    "CreateCdq",
    "CreateIoCq",
    "CreateIoQueue",
    "CreateIoSq",
    "DeleteCdq",
    "DeleteIoCq",
    "DeleteIoSq",
    "DirtyRange",
    "Disconnect",
    "Doorbell",
    "DoorbellBufferConfig",
    "Enabled",
    "EndOfCapture",
    "ErasedRead",
    "Event",
    "FabricsCommand",
    "FeatureCommand",
    "FunctionConfig",
    "GetControllerState",
    "GetFeatures",
    "GetFeaturesCdq",
    "GetLogPage",
    "Handover",
    "Identify",
    "IdentifyController",
    "IdentifyStateFormats",
    "Initiated",
    "Interrupt",
    "InvalidDoorbell",
    "LogUserDataChanges",
    "MemoryReport",
    "MigratedBlocks",
    "MigratedCommand",
    "MigrationCommand",
    "PropertyAccess",
    "PropertyGet",
    "PropertySet",
    "QueueCommand",
    "QueueCreated",
    "QueueDeleted",
    "ReservedSelect",
    "Reset",
    "Resume",
    "Sanitize",
    "Served",
    "SetControllerState",
    "SetFeatures",
    "SetFeaturesCdq",
    "SqeFetch",
    "StateItem",
    "StateTransfer",
    "Stray",
    "Suspend",
    "Targeted",
    "TrackMemoryChanges",
    "TrackReceive",
    "VirtualizationManagement",
    "typed",
]


def typed(command: Command) -> Command:
    """Return the command as its own event class by opcode, SEL, CNS and FID; others unchanged."""
    if is_fabrics(command.opcode) and (command.over_fabrics or command.sqid):
        return _BY_FCTYPE.get(command.sqe[4], FabricsCommand)(**_values(command))
    if command.sqid != 0:
        return command
    select = command.sqe[40]
    layout = migration.sqe_layout(command.opcode, int.from_bytes(command.sqe[40:44], "little"))
    kind: type[Command] | None = None
    if layout is not None:
        kind = _BY_LAYOUT.get(layout.name, ReservedSelect)
    elif command.opcode == Admin.IDENTIFY:
        kind = {Cns.CONTROLLER: IdentifyController, Cns.CONTROLLER_STATE_FORMATS: IdentifyStateFormats}.get(
            Cns(select) if select in Cns._value2member_map_ else Cns.NAMESPACE, Identify
        )
    else:
        kind = _BY_OPCODE.get(command.opcode)
    if kind is None:
        return command
    return kind(**_values(command))


def _values(command: Command) -> dict[str, Any]:
    return {name: getattr(command, name) for name in _COMMAND_FIELDS}


_BY_FCTYPE: dict[int, type[FabricsCommand]] = {
    Fctype.CONNECT: Connect, Fctype.PROPERTY_SET: PropertySet, Fctype.PROPERTY_GET: PropertyGet,
    Fctype.DISCONNECT: Disconnect, Fctype.AUTHENTICATION_SEND: Authentication,
    Fctype.AUTHENTICATION_RECEIVE: Authentication,
}  # fmt: skip


_BY_OPCODE: dict[int, type[Command]] = {
    Admin.GET_LOG_PAGE: GetLogPage, Admin.SET_FEATURES: SetFeatures, Admin.GET_FEATURES: GetFeatures,
    Admin.SANITIZE: Sanitize, Admin.VIRTUALIZATION_MANAGEMENT: VirtualizationManagement,
    Admin.CREATE_IO_SQ: CreateIoSq, Admin.CREATE_IO_CQ: CreateIoCq, Admin.DELETE_IO_SQ: DeleteIoSq,
    Admin.DELETE_IO_CQ: DeleteIoCq, Admin.DOORBELL_BUFFER_CONFIG: DoorbellBufferConfig,
}  # fmt: skip
_BY_LAYOUT: dict[str, type[Command]] = {
    one.layout.name: one
    for one in (
        Suspend, Resume, GetControllerState, SetControllerState, CreateCdq, DeleteCdq, LogUserDataChanges,
        TrackMemoryChanges, TrackReceive, SetFeaturesCdq, GetFeaturesCdq,
    )
    if one.layout is not None
}  # fmt: skip
_COMMAND_FIELDS = tuple(one.name for one in fields(Command))

EVENTS: dict[str, type[Event]] = {
    one.name: one
    for one in (
        Command, MigrationCommand, Targeted, Suspend, Resume, StateTransfer, GetControllerState, SetControllerState,
        CreateCdq, CdqCommand, DeleteCdq, LogUserDataChanges, TrackMemoryChanges, TrackReceive, SetFeaturesCdq,
        GetFeaturesCdq, ReservedSelect, Identify, IdentifyController, IdentifyStateFormats, GetLogPage,
        FeatureCommand, SetFeatures, GetFeatures, Sanitize,
        VirtualizationManagement, FabricsCommand, Connect, PropertySet, PropertyGet, Disconnect, Authentication,
        QueueCommand, CreateIoQueue, CreateIoSq, CreateIoCq, DeleteIoSq, DeleteIoCq, DoorbellBufferConfig, SqeFetch,
        CqePosted, CommandFailed, Doorbell, Interrupt, Initiated, Stray, PropertyAccess, FunctionConfig, Enabled, Reset,
        QueueCreated, QueueDeleted,
        CdqEntry, CdqRewrite, DirtyRange, MemoryReport, StateItem, MigratedCommand, MigratedBlocks, Handover,
        Aborted, AbortRequested, ErasedRead, InvalidDoorbell, Served, EndOfCapture,
    )
}  # fmt: skip
"""Every event class by its name in stories."""

DEFAULT_OPCODES: dict[str, tuple[int, int]] = {
    "suspend": (Admin.MIGRATION_SEND, 0), "resume": (Admin.MIGRATION_SEND, 1),
    "set_controller_state": (Admin.MIGRATION_SEND, 2), "get_controller_state": (Admin.MIGRATION_RECEIVE, 0),
    "create_cdq": (Admin.CONTROLLER_DATA_QUEUE, 0), "delete_cdq": (Admin.CONTROLLER_DATA_QUEUE, 1),
    "log_user_data_changes": (Admin.TRACK_SEND, 0), "track_memory_changes": (Admin.TRACK_SEND, 1),
    "track_receive": (Admin.TRACK_RECEIVE, 0), "set_features_cdq": (Admin.SET_FEATURES, Feature.CONTROLLER_DATA_QUEUE),
    "get_features_cdq": (Admin.GET_FEATURES, Feature.CONTROLLER_DATA_QUEUE),
    "reserved_select": (Admin.MIGRATION_SEND, 3), "identify_controller": (Admin.IDENTIFY, Cns.CONTROLLER),
    "identify_state_formats": (Admin.IDENTIFY, Cns.CONTROLLER_STATE_FORMATS), "identify": (Admin.IDENTIFY, 0),
    "get_log_page": (Admin.GET_LOG_PAGE, 0), "feature_command": (Admin.SET_FEATURES, 0),
    "set_features": (Admin.SET_FEATURES, 0), "get_features": (Admin.GET_FEATURES, 0),
    "fabrics_command": (FABRICS_OPCODE, 0), "connect": (FABRICS_OPCODE, 0), "property_set": (FABRICS_OPCODE, 0),
    "property_get": (FABRICS_OPCODE, 0), "disconnect": (FABRICS_OPCODE, 0), "authentication": (FABRICS_OPCODE, 0),
    "create_io_sq": (Admin.CREATE_IO_SQ, 1), "create_io_cq": (Admin.CREATE_IO_CQ, 1),
    "delete_io_sq": (Admin.DELETE_IO_SQ, 1), "delete_io_cq": (Admin.DELETE_IO_CQ, 1),
    "doorbell_buffer_config": (Admin.DOORBELL_BUFFER_CONFIG, 0),
    "sanitize": (Admin.SANITIZE, 0), "virtualization_management": (Admin.VIRTUALIZATION_MANAGEMENT, 0),
}  # fmt: skip
"""Opcode and the lowest byte of CDW10 of each command by its event's name."""

DEFAULT_FCTYPES: dict[str, int] = {
    "fabrics_command": 0x7F, "connect": Fctype.CONNECT, "property_set": Fctype.PROPERTY_SET,
    "property_get": Fctype.PROPERTY_GET, "disconnect": Fctype.DISCONNECT, "authentication": Fctype.AUTHENTICATION_SEND,
}  # fmt: skip
"""Type of each Fabrics command by its event's name; a command of no other name has a reserved one."""
