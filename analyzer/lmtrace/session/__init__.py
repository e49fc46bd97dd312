"""The state of one link before the event a rule is asked about: controllers, queues, CDQs, state transfers.

The classes answer questions; what commands and events change in them is in ``fetched``, ``completed``, ``events`` and
``resets``.
"""

from lmtrace.limits import Options
from lmtrace.session.controller import Controller, LostSuspension, Queue, Suspension
from lmtrace.session.data_queue import DataQueue, Place
from lmtrace.session.memory_tracking import MemoryTracking, Trackings
from lmtrace.session.session import Session
from lmtrace.session.transfer import Phase, ReadPart, StateRead, Transfer

__all__ = [
    "Controller", "DataQueue", "LostSuspension", "MemoryTracking", "Options", "Phase", "Place", "Queue", "ReadPart",
    "Session", "StateRead", "Suspension", "Trackings", "Transfer",
]  # fmt: skip
