"""hmlm 6.10: versions and vendor formats for which Set Controller State is refused."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import SetControllerState
from lmtrace.known import Known
from lmtrace.rule import Verdict, rule
from lmtrace.session import Phase, Session
from lmtrace.spec.nvme import INVALID_FIELD
from lmtrace_rules.hmlm.causes import cause, refused
from lmtrace_rules.hmlm.get_state import NO_FORMATS
from lmtrace_rules.hmlm.read_states import sent_with
from lmtrace_rules.hmlm.set_state import NO_SENT_HEADER, at_commit

SECTION = "6.10 Migration Send: Set Controller State"
PROFILE = "state"
PHASE = "state-set"


@cause("HMLM-5.1.17.1.3-n26", SetControllerState, INVALID_FIELD, unseen=NO_FORMATS)
def _unknown_version(command: SetControllerState, session: Session) -> Known:
    formats = session.formats.get(command.function)
    if command.csvi == 0:
        return Known.NO
    return Known.of(None if formats is None else command.csvi > formats[0])


@rule("HMLM-5.1.17.1.3-n26", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def state_of_unsupported_version_set(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State with a CSVI beyond the list of versions is refused.

    CSVI is an index into the supported formats; one that points nowhere names no format to read by.

    Holds::

        5us set_controller_state target=2 csvi=7 seqind=3 status=0/02h
            nvme niosq=0

    Silent::

        0us midway
        5us set_controller_state target=2 csvi=7 seqind=3
            nvme niosq=0

    Breaks::

        5us set_controller_state target=2 csvi=7 seqind=3 status=0/00h
            nvme niosq=0
    """
    listed = session.formats.get(command.function, (0, 0))[0]
    condition = f"CSVI={command.csvi} is beyond the {listed} versions listed"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n26", other=None, condition=condition)


def _of_two_formats(command: SetControllerState, session: Session, name: str) -> bool:
    """Whether the first part of a sequence named another format: which of them counts is not specified."""
    if command.opens or session.phase(command) is not Phase.OPEN:
        return False
    first = session.transfer(command.function, command.target).commands[0]
    return first.field(name) != command.field(name)


@cause("HMLM-5.1.17.1.3-n27", SetControllerState, INVALID_FIELD, unseen=NO_SENT_HEADER)
def _version_part_without_version(command: SetControllerState, session: Session) -> Known:
    if command.csvi:
        return Known.NO
    if _of_two_formats(command, session, "CSVI"):
        return Known.UNKNOWN
    dwords = sent_with(command, session).state.header("NVMECSS")
    return at_commit(command, Known.of(None if dwords is None else dwords != 0))


@rule("HMLM-5.1.17.1.3-n27", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def version_part_set_without_version(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A state with an NVMe part is refused when CSVI is 0.

    CSVI 0 says that there is none.

    Holds::

        5us set_controller_state target=2 csvi=0 csuuidi=1 seqind=3 status=0/02h
            nvme niosq=0

    Silent::

        5us set_controller_state target=2 csvi=0 csuuidi=1 seqind=3
            vendor dwords=4

    Silent::

        3us set_controller_state target=2 csvi=1 csuuidi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=0 csuuidi=1 seqind=2 csol=56 numd=0 status=0/00h

    Breaks::

        5us set_controller_state target=2 csvi=0 csuuidi=1 seqind=3 status=0/00h
            nvme niosq=0
    """
    dwords = sent_with(command, session).state.header("NVMECSS")
    condition = f"CSVI is 0 and NVMECSS is {dwords}"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n27", other=None, condition=condition)


@cause("HMLM-5.1.17.1.3-n28", SetControllerState, INVALID_FIELD, unseen=NO_FORMATS)
def _unknown_uuid(command: SetControllerState, session: Session) -> Known:
    formats = session.formats.get(command.function)
    if command.csuuidi == 0:
        return Known.NO
    return Known.of(None if formats is None else command.csuuidi > formats[1])


@rule("HMLM-5.1.17.1.3-n28", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def state_of_unsupported_uuid_set(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State with a CSUUIDI beyond the list of UUIDs is refused.

    The UUID tells the format of the vendor part; without one the controller can only guess.

    Holds::

        5us set_controller_state target=2 csvi=1 csuuidi=3 seqind=3 status=0/02h
            nvme niosq=0

    Silent::

        5us set_controller_state target=2 csvi=1 csuuidi=0 seqind=3
            nvme niosq=0

    Breaks::

        5us set_controller_state target=2 csvi=1 csuuidi=3 seqind=3 status=0/00h
            nvme niosq=0
    """
    listed = session.formats.get(command.function, (0, 0))[1]
    condition = f"CSUUIDI={command.csuuidi} is beyond the {listed} UUIDs listed"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n28", other=None, condition=condition)


@cause("HMLM-5.1.17.1.3-n29", SetControllerState, INVALID_FIELD, unseen=NO_SENT_HEADER)
def _vendor_part_without_uuid(command: SetControllerState, session: Session) -> Known:
    if command.csuuidi:
        return Known.NO
    if _of_two_formats(command, session, "CSUUIDI"):
        return Known.UNKNOWN
    dwords = sent_with(command, session).state.header("VSS")
    return at_commit(command, Known.of(None if dwords is None else dwords != 0))


@rule("HMLM-5.1.17.1.3-n29", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def vendor_part_set_without_uuid(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A state with a vendor part is refused when CSUUIDI is 0.

    CSUUIDI 0 says that there is none.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=3 status=0/02h
            nvme niosq=0
            vendor dwords=4

    Silent::

        5us set_controller_state target=2 csvi=1 csuuidi=1 seqind=3
            nvme niosq=0
            vendor dwords=4

    Silent::

        3us set_controller_state target=2 csvi=1 csuuidi=1 seqind=1
            nvme niosq=0
            vendor dwords=4
        5us set_controller_state target=2 csvi=1 csuuidi=0 seqind=2 csol=72 numd=0 status=0/00h

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3 status=0/00h
            nvme niosq=0
            vendor dwords=4
    """
    dwords = sent_with(command, session).state.header("VSS")
    condition = f"CSUUIDI is 0 and VSS is {dwords}"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n29", other=None, condition=condition)


@cause("HMLM-5.1.17.1.3-n30", SetControllerState, INVALID_FIELD)
def _no_format_at_all(command: SetControllerState, session: Session) -> Known:
    return Known.of(command.csvi == 0 and command.csuuidi == 0)


@rule("HMLM-5.1.17.1.3-n30", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller", local=True)
def state_set_without_any_part(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State with both CSVI and CSUUIDI 0 is refused.

    A state without an NVMe part and without a vendor part is none.

    Holds::

        5us set_controller_state target=2 seqind=3 status=0/02h
            header vss=0

    Silent::

        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Breaks::

        5us set_controller_state target=2 seqind=3 status=0/00h
            header vss=0
    """
    condition = "CSVI and CSUUIDI are both 0"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n30", other=None, condition=condition)
