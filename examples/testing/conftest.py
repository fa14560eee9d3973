"""What every test can use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import shop
from sqlalchemy import create_engine

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


@pytest.fixture(scope="session")
def wsgi_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WSGIApplication]:
    """Return the application, on an empty database of this process's own."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('database')}/shop_test.db")
    shop.Base.metadata.create_all(engine)
    shop.Shop.configure(bind=engine)
    yield shop.application
    engine.dispose()
