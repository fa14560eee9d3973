"""The inspector: pages that show what a recorder has seen."""

from ._application import Inspector

__all__ = ["Inspector"]
