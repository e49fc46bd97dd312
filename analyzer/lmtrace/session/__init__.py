"""The state of one link before the event a rule is asked about: controllers, queues, CDQs, state transfers."""

from lmtrace.session.controller import Controller, LostSuspension, Queue, Suspension
from lmtrace.session.data_queue import DataQueue, Place
from lmtrace.session.session import Options, Session
from lmtrace.session.transfer import Phase, ReadPart, StateRead, Transfer

__all__ = [
    "Controller", "DataQueue", "LostSuspension", "Options", "Phase", "Place", "Queue", "ReadPart", "Session",
    "StateRead", "Suspension", "Transfer",
]  # fmt: skip
