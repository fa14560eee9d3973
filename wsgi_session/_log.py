"""The log of this package."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class Log(_Adapter):
    """A logger that says so once, by a warning, if it is disabled when it has something to say.

    ``logging.config.fileConfig()`` disables every logger that is there already, and Alembic's ``env.py`` calls it.
    """

    _is_mentioned = False

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        """Say whether anything of this *level* is logged."""
        if self.logger.disabled and level >= logging.WARNING and not self._is_mentioned:
            self._is_mentioned = True
            warnings.warn(
                f"The logger {self.logger.name!r} is disabled, and has something to say. If 'fileConfig()' has disabled"
                " it, as in Alembic's env.py, call that with 'disable_existing_loggers=False'.",
                RuntimeWarning,
                stacklevel=4,
            )
        return super().isEnabledFor(level)


log = Log(logging.getLogger("wsgi_session"), {})
"""The log of this package."""
