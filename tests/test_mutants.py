"""The faults that `make mutants` puts into the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from .mutants.faults import FAULTS, Fault

PACKAGE = Path(__file__).parent.parent / "wsgi_session"


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_has_its_place(fault: Fault) -> None:
    """The lines that a fault is put in place of are in its module, once."""
    assert (PACKAGE / f"{fault.module}.py").read_text().count(fault.right) == 1
