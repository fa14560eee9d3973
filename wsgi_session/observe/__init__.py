"""Seeing what requests do: the recorder, its records and their findings, and who holds a pool."""

from ._filter import RequestFilter
from ._gauges import Gauges, PoolGauges
from ._live import LiveConnection, LiveRequest
from ._record import Finding, FindingKind, Held, Load, Loss, Outcome, OutcomeKind, RequestRecord, Statement
from ._recorder import BeginHook, Recorder, RecordHook
from ._values import Values
from ._visitors import is_local

__all__ = [
    "BeginHook",
    "Finding",
    "FindingKind",
    "Gauges",
    "Held",
    "LiveConnection",
    "LiveRequest",
    "Load",
    "Loss",
    "Outcome",
    "OutcomeKind",
    "PoolGauges",
    "RecordHook",
    "Recorder",
    "RequestFilter",
    "RequestRecord",
    "Statement",
    "Values",
    "is_local",
]
