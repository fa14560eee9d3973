"""The log of this package."""

import logging

log = logging.getLogger("wsgi_session")
