"""nvme-checklist G01 and G02: which functions may send or be sent a TLP, and how large, by what was configured.

Where the capture does not show the configuration, nothing is judged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.pcie import bdf_text
from lmtrace.spec.tlp_checks import Control
from lmtrace_rules.columns import bits, found, numbers, there, words
from lmtrace_rules.pcie.headers import MESSAGES

SECTION = "G01 TLP header format"
PROFILE = "pcie"

COMPLETIONS = ("Cpl", "CplD", "CplLk", "CplDLk")
REQUESTS = ("MRd", "MWr", "MRdLk", "DMWr", "FetchAdd", "Swap", "CAS")
STATE = ("kind", "direction", "damaged", "requester_id", "completer_id", "requester_assumed", "permitted", "forbidden")
GONE = Control.EXISTS | Control.OPERATIONAL | Control.AWAKE | Control.IDENTITY
PM_PME = 0x18


def sent(batch: pa.RecordBatch, *kinds: str) -> np.ndarray:
    """Return the sound TLPs of some kinds that the device sent under a requester id that is not assumed."""
    sound: np.ndarray = words(batch, "direction", ("upstream",)) & words(batch, "kind", kinds)
    sound &= (numbers(batch, "damaged") == 0) & (numbers(batch, "requester_assumed") == 0)
    return sound


def known(batch: pa.RecordBatch, control: int) -> np.ndarray:
    """Return the TLPs at which the capture shows how ``control`` is configured."""
    known: np.ndarray = bits(batch, "permitted", control) | bits(batch, "forbidden", control)
    return known


def told(batch: pa.RecordBatch, text: str) -> Callable[[int], str]:
    """Return what says which TLP of whom did something."""
    sender = np.where(words(batch, "kind", COMPLETIONS), numbers(batch, "completer_id"), numbers(batch, "requester_id"))
    return lambda row: f"a {batch.column('kind')[row]} of {bdf_text(int(sender[row]))} {text}"


def needs(batch: pa.RecordBatch, applies: np.ndarray, control: int, text: str) -> Broken:
    """Return what a rule found that lets some TLPs be sent only where ``control`` is permitted."""
    return found(applies & known(batch, control), bits(batch, "forbidden", control), told(batch, text))


@column_rule(
    "PCIE-7.5.1-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 7.5.1.1.3", party="controller", local=False
)
def request_without_bus_master(batch: pa.RecordBatch) -> Broken:
    """A function sends memory requests only while Bus Master Enable is 1.

    What it writes otherwise goes to memory that may be somebody else's.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=1 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=1

    Silent::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no
    """
    applies = sent(batch, *REQUESTS) & ~bits(batch, "forbidden", GONE)
    return needs(batch, applies, Control.BUS_MASTER, "was sent while Bus Master Enable was 0")


@column_rule(
    "PCIE-7.5.1-n2", table="tlps", columns=STATE, spec="PCIe Base 5.0, 7.5.1.1.3", party="host", severity="warning",
    local=False,
)  # fmt: skip
def access_without_memory_space(batch: pa.RecordBatch) -> Broken:
    """The host accesses a BAR only while memory space is enabled.

    The function answers Unsupported Request otherwise, and drops writes.

    Holds::

        1us tlps kind=MRd direction=downstream damaged=no permitted=2 forbidden=0

    Breaks::

        1us tlps kind=MRd direction=downstream damaged=no permitted=0 forbidden=2
    """
    applies = words(batch, "direction", ("downstream",)) & words(batch, "kind", REQUESTS)
    applies &= numbers(batch, "damaged") == 0
    return found(
        applies & known(batch, Control.MEMORY_SPACE), bits(batch, "forbidden", Control.MEMORY_SPACE),
        lambda row: f"a {batch.column('kind')[row]} to a BAR was sent while memory space was not enabled",
    )  # fmt: skip


@column_rule("PCIE-9.2-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 9.2.1", party="controller", local=False)
def request_of_disabled_vf(batch: pa.RecordBatch) -> Broken:
    """A virtual function sends only while VF Enable is 1 and NumVFs counts it.

    Otherwise it does not exist.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x208000 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x200000 forbidden=0x8000
    """
    applies = sent(batch, *REQUESTS, *MESSAGES) & bits(batch, "permitted", Control.VIRTUAL)
    return needs(batch, applies, Control.EXISTS, "was sent, and no such virtual function was enabled")


@column_rule("PCIE-6.6.2-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 6.6.2", party="controller", local=False)
def request_after_function_reset(batch: pa.RecordBatch) -> Broken:
    """A function that was reset sends no request before it is configured again.

    Whatever it was about to do belongs to a life that has ended.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x10000 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=0x10000
    """
    applies = sent(batch, *REQUESTS, *MESSAGES)
    return needs(batch, applies, Control.OPERATIONAL, "was sent after a Function Level Reset, before Bus Master Enable")


@column_rule(
    "PCIE-5.3-n1", table="tlps", columns=(*STATE, "message_code"), spec="PCIe Base 5.0, 5.3.1.4.1",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def request_while_asleep(batch: pa.RecordBatch) -> Broken:
    """A function in D3hot sends nothing but power management messages and completions.

    The host has put it to sleep and may have taken its memory away.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x20000 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=0x20000

    Silent::

        1us tlps kind=Msg message_code=0x18 direction=upstream damaged=no requester_assumed=no forbidden=0x20000
    """
    code = numbers(batch, "message_code")
    allowed = words(batch, "kind", MESSAGES) & np.isin(code, (PM_PME, 0x1A, 0x1B))
    return needs(batch, sent(batch, *REQUESTS, *MESSAGES) & ~allowed, Control.AWAKE, "was sent in D3hot")


@column_rule("PCIE-2.2.6.2-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 2.2.6.2", party="both", local=False)
def requester_of_the_device(batch: pa.RecordBatch) -> Broken:
    """The requester id of a request is one that the device was given.

    Its completions go to somebody else otherwise.

    Holds::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no permitted=0x80000 forbidden=0

    Breaks::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=0x80000
    """
    return needs(
        batch, sent(batch, *REQUESTS), Control.IDENTITY, "names a bus below every one that the device was given"
    )


@column_rule(
    "PCIE-2.2.7-n4", table="tlps", columns=("kind", "direction", "damaged", "permitted", "forbidden"),
    spec="PCIe Base 5.0, 7.3.3", party="host", severity="warning", local=False,
)  # fmt: skip
def type_1_request_to_endpoint(batch: pa.RecordBatch) -> Broken:
    """Configuration requests to an endpoint are of type 0.

    Those of type 1 are for bridges, which hand them on.

    Holds::

        1us tlps kind=CfgRd0 direction=downstream damaged=no permitted=0x80000 forbidden=0

    Breaks::

        1us tlps kind=CfgRd1 direction=downstream damaged=no permitted=0 forbidden=0x80000
    """
    applies = words(batch, "direction", ("downstream",)) & (numbers(batch, "damaged") == 0)
    first, second = words(batch, "kind", ("CfgRd0", "CfgWr0")), words(batch, "kind", ("CfgRd1", "CfgWr1"))
    return found(
        applies & (first | second) & known(batch, Control.IDENTITY),
        second & bits(batch, "forbidden", Control.IDENTITY),
        lambda row: f"a {batch.column('kind')[row]} was sent to an endpoint",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.2-n1", table="tlps", columns=("kind", "length_dw", "damaged", "max_payload"),
    spec="PCIe Base 5.0, 2.2.2", party="both", local=False,
)  # fmt: skip
def payload_within_limit(batch: pa.RecordBatch) -> Broken:
    """A write carries no more than Max_Payload_Size.

    A receiver takes a longer one for malformed.

    Holds::

        1us tlps kind=MWr length_dw=64 damaged=no max_payload=256

    Breaks::

        1us tlps kind=MWr length_dw=128 damaged=no max_payload=256

    Silent::

        1us tlps kind=MWr length_dw=128 damaged=no
    """
    return _payload(batch, "MWr")


@column_rule(
    "PCIE-2.2.9-n9", table="tlps", columns=("kind", "length_dw", "damaged", "max_payload"),
    spec="PCIe Base 5.0, 2.2.9", party="both", local=False,
)  # fmt: skip
def completion_within_limit(batch: pa.RecordBatch) -> Broken:
    """A completion carries no more than Max_Payload_Size.

    A requester takes a longer one for malformed.

    Holds::

        1us tlps kind=CplD length_dw=64 damaged=no max_payload=256

    Breaks::

        1us tlps kind=CplD length_dw=128 damaged=no max_payload=256
    """
    return _payload(batch, "CplD", "CplDLk")


def _payload(batch: pa.RecordBatch, *kinds: str) -> Broken:
    length, limit = numbers(batch, "length_dw"), numbers(batch, "max_payload")
    return found(
        words(batch, "kind", kinds) & (numbers(batch, "damaged") == 0) & there(batch, "max_payload"),
        4 * length > limit,
        lambda row: f"a {batch.column('kind')[row]} carries {4 * length[row]} bytes, {limit[row]} are allowed",
    )  # fmt: skip
