"""The middleware as a filter of PasteDeploy: what a section of an ``.ini`` file says, as arguments.

==================  =====================================================================================
``sqlalchemy.url``  the database; its siblings (``sqlalchemy.pool_size``) are arguments of `create_engine`
``registry``        instead: ``package.module:Session``, anything that `SessionMiddleware` takes
``commit``          ``on_unsafe_success``, ``on_success``, ``never`` (if nothing is said), ``until_close`` or
                    a rule of your own, ``package.module:rule``
``environ_key``     where the session is put in the environ
``release_reads``   ``true`` or ``false``
==================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, engine_from_config

from .commit import never, on_success, on_unsafe_success, until_close
from .middleware import SessionMiddleware

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from .commit import CommitRule

__all__ = ["filter_app_factory", "filter_factory"]

_PREFIX = "sqlalchemy."
_URL = "sqlalchemy.url"
_KNOWN = (_URL, "registry", "commit", "environ_key", "release_reads")
_RULES: dict[str, CommitRule] = {
    "on_unsafe_success": on_unsafe_success,
    "on_success": on_success,
    "never": never,
    "until_close": until_close,
}


def filter_factory(
    global_conf: Mapping[str, str], /, **settings: str
) -> Callable[[WSGIApplication], SessionMiddleware[Any]]:
    """Return what wraps an application as a section says: PasteDeploy's ``paste.filter_factory``.

    Args:
        global_conf: What ``[DEFAULT]`` says. Nothing of it is a setting, unless the section takes it over.
        settings: What the section says.

    Returns:
        A function from an application to its middleware. It raises what `filter_app_factory` does.
    """

    def wrapped(app: WSGIApplication, /) -> SessionMiddleware[Any]:
        return filter_app_factory(app, global_conf, **settings)

    return wrapped


def filter_app_factory(
    app: WSGIApplication, global_conf: Mapping[str, str], /, **settings: str
) -> SessionMiddleware[Any]:
    """Wrap *app* as a section says: PasteDeploy's ``paste.filter_app_factory``.

    Args:
        app: Any WSGI application.
        global_conf: What ``[DEFAULT]`` says. Nothing of it is a setting, unless the section takes it over.
        settings: What the section says.

    Returns:
        The middleware. An engine that was made from ``sqlalchemy.url`` is disposed of by its ``close()``.

    Raises:
        ValueError: If a setting is unknown, missing, empty or in ``[DEFAULT]``, or its value is wrong; SQLAlchemy's own
            errors have a note with the settings that they came from.
        TypeError: If ``commit`` or ``registry`` names an object of another kind.
    """
    _check_shared(global_conf, settings)
    _check(settings)
    commit = settings.get("commit", "never")
    options: dict[str, Any] = {
        "commit": _RULES[commit] if commit in _RULES else _named("commit", commit),
        "environ_key": settings.get("environ_key", "sqlalchemy.session"),
        "release_reads": _flag("release_reads", settings.get("release_reads", "false")),
    }
    with _noted(settings):
        if "registry" in settings:
            return SessionMiddleware(app, _named("registry", settings["registry"]), **options)
        return _EngineOwner(app, engine_from_config(settings, _PREFIX, **_converted(settings)), **options)


class _EngineOwner(SessionMiddleware[Any]):
    """A middleware whose engine was made for it.  Lives as long as the application."""

    def __init__(self, app: WSGIApplication, engine: Engine, **options: Any) -> None:
        super().__init__(app, engine, **options)
        self._own_engine = engine


def _check(settings: Mapping[str, str]) -> None:
    """Refuse settings that are unknown, empty, missing or at odds."""
    for name, value in settings.items():
        if not _is_setting(name):
            raise ValueError(
                f"{name!r} is no setting of wsgi_session. There are {', '.join(map(repr, _KNOWN))} and the other"
                " arguments of create_engine(), as in 'sqlalchemy.pool_size'. Correct its line in the section, or"
                " take it out."
            )
        if not value.strip():
            raise ValueError(f"The setting {name!r} is empty. Give it a value in its section, or take it out.")
    of_engine = sorted(name for name in settings if name.startswith(_PREFIX))
    if "registry" in settings and of_engine:
        raise ValueError(
            f"'registry' has its engine already, so {of_engine[0]!r} would say nothing. Take one of them out."
        )
    if "registry" not in settings and _URL not in settings:
        raise ValueError(f"No database is named. Add {_URL!r} to the section, or 'registry = package.module:Session'.")


def _check_shared(global_conf: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Refuse what is in ``[DEFAULT]`` under a name of ours: PasteDeploy drops such a line from the section."""
    for name in sorted(set(global_conf) - set(settings)):
        if _is_setting(name) and not ("registry" in settings and name.startswith(_PREFIX)):
            raise ValueError(
                f"{name!r} is in [DEFAULT], which has no settings of wsgi_session, and PasteDeploy drops a line of that"
                f" name from the section. Take it over with 'get {name} = {name}', or rename it in [DEFAULT]."
            )


def _is_setting(name: str) -> bool:
    return name in _KNOWN or name.startswith(_PREFIX)


def _named(setting: str, name: str) -> Any:
    """Return the object that *name*, the value of *setting*, is the dotted name of."""
    try:
        return resolve_name(name)
    except (AttributeError, ImportError, ValueError) as error:
        known = f" {', '.join(map(repr, _RULES))} or" if setting == "commit" else ""
        raise ValueError(
            f"The setting {setting!r} is {name!r}, which cannot be imported: {error}."
            f" It has to be{known} a name such as 'package.module:name'."
        ) from error


@contextmanager
def _noted(settings: Mapping[str, str]) -> Generator[None, None, None]:
    """Note which settings an error of the block has come from; values may be secrets."""
    try:
        yield
    except Exception as error:
        error.add_note(f"It came from the settings {', '.join(map(repr, sorted(settings)))} of a PasteDeploy section.")
        raise


def _converted(settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `create_engine` that SQLAlchemy would take for strings, or refuse without a name."""
    return {
        argument: convert(_PREFIX + argument, settings[_PREFIX + argument])
        for argument, convert in _CONVERTERS.items()
        if _PREFIX + argument in settings
    }


def _flag(setting: str, value: str) -> bool:
    try:
        return ConfigParser.BOOLEAN_STATES[value.lower()]
    except KeyError:
        raise ValueError(f"The setting {setting!r} is {value!r}. It has to be 'true' or 'false'.") from None


def _flag_or_debug(setting: str, value: str) -> bool | str:
    return value if value == "debug" else _flag(setting, value)


def _number(setting: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"The setting {setting!r} is {value!r}. It has to be a whole number.") from None


_CONVERTERS: dict[str, Callable[[str, str], Any]] = {
    "echo": _flag_or_debug,
    "echo_pool": _flag_or_debug,
    "hide_parameters": _flag,
    "max_overflow": _number,
    "pool_pre_ping": _flag,
    "pool_recycle": _number,
    "pool_size": _number,
    "pool_timeout": _number,
    "pool_use_lifo": _flag,
    "poolclass": _named,
    "query_cache_size": _number,
}
