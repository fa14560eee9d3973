"""What an installed package is asked, in a Python that has nothing else of the project."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from pkgutil import walk_packages

import wsgi_session


def core() -> None:
    """Import all that needs nothing but SQLAlchemy; every public name is there."""
    _check_origin()
    for name in wsgi_session.__all__:
        getattr(wsgi_session, name)
    for module in _modules():
        try:
            import_module(module)
        except ModuleNotFoundError as missing:
            if "wsgi_session" in str(missing.name):
                raise
            print(f"{module} needs {missing.name}, which an extra brings")


def everything() -> None:
    """Import every module and load every entry point."""
    _check_origin()
    modules = _modules()
    for module in modules:
        import_module(module)
    entry_points = distribution("wsgi-session").entry_points
    for entry_point in entry_points:
        entry_point.load()
    print(f"{len(modules)} modules, {len(entry_points)} entry points of {wsgi_session.__file__}")


def _check_origin() -> None:
    """See that the package is the installed one, with the mark that has type checkers read it."""
    folder = Path(wsgi_session.__file__).parent
    if not folder.is_relative_to(sys.prefix) or not (folder / "py.typed").exists():
        sys.exit(f"{folder} is not the installed package, or has no py.typed.")


def _modules() -> list[str]:
    return [module.name for module in walk_packages(wsgi_session.__path__, "wsgi_session.", onerror=lambda name: None)]


if __name__ == "__main__":
    {"core": core, "everything": everything}[sys.argv[1]]()
