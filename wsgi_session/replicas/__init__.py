"""Reads on replicas, none of which is stale for a client that has written."""

from ._replicas import Replicas
from ._server import ServerGauges

__all__ = ["Replicas", "ServerGauges"]
