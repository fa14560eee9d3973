"""Reads on replicas, none of which is stale for a client that has written."""

from ._gauges import ReplicasGauges, ServerGauges, ToPrimary
from ._replicas import Replicas

__all__ = ["Replicas", "ReplicasGauges", "ServerGauges", "ToPrimary"]
