"""Testing an application through its real stack: what a test has written is gone when it is over."""

from ._budget import SentStatement, StatementBudget, StatementBudgetError
from ._committing import committing
from ._isolated import isolated
from ._isolation import Isolation, isolated_session
from ._problems import IsolationError
from ._search import registry_of

__all__ = [
    "Isolation",
    "IsolationError",
    "SentStatement",
    "StatementBudget",
    "StatementBudgetError",
    "committing",
    "isolated",
    "isolated_session",
    "registry_of",
]
