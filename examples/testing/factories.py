"""What makes objects for tests."""

from __future__ import annotations

from factory.alchemy import SQLAlchemyModelFactory
from factory.declarations import Sequence
from shop import Customer

from wsgi_session.testing import isolated_session


class CustomerFactory(SQLAlchemyModelFactory):
    """Makes customers, in the session of the test that runs."""

    class Meta:
        """Where to, and that a request is to see them."""

        model = Customer
        sqlalchemy_session_factory = isolated_session
        sqlalchemy_session_persistence = "commit"

    name = Sequence("customer {}".format)
