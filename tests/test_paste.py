"""The middleware in an ``.ini`` file, loaded by PasteDeploy itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paste.deploy import loadapp, loadfilter
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from tests.client import asked
from tests.helpers import Base, Word, request, words
from tests.sockets import served
from wsgi_session import RequestScopedSession, SessionMiddleware, never, on_success, until_close
from wsgi_session.registry import engines_of

USE = "use = egg:wsgi-session"
URL = "sqlalchemy.url = sqlite:///%(here)s/words.db"
Session = RequestScopedSession(sessionmaker())
"""The registry that a section names."""

Load = Callable[..., SessionMiddleware]


def make_app(global_conf: dict[str, str]) -> Any:
    """Make the application of the sections, as a factory of PasteDeploy."""
    return add


def add(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Add the method as a word, in the session under the key that the path names."""
    environ[environ["PATH_INFO"].strip("/") or "sqlalchemy.session"].add(Word(text=environ["REQUEST_METHOD"]))
    start_response("200 OK", [])
    return [b"added"]


def not_posted(environ: dict[str, Any], status: int, headers: list[tuple[str, str]]) -> bool:
    """Commit what is not POST."""
    return environ["REQUEST_METHOD"] != "POST"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine on the database of the sections, which has its table."""
    made = create_engine(f"sqlite:///{tmp_path}/words.db")
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def load(tmp_path: Path, engine: Engine) -> Iterator[Load]:
    """Return what loads a filter of these lines around the application."""
    loaded: list[SessionMiddleware] = []

    def load(*lines: str, default: str = "") -> SessionMiddleware:
        write(tmp_path, "[pipeline:main]\npipeline = session words", "\n".join(["[filter:session]", *lines]), default)
        loaded.append(loadapp(f"config:{tmp_path}/words.ini"))
        return loaded[-1]

    yield load
    for middleware in loaded:
        middleware.close()


def write(folder: Path, *sections: str) -> None:
    """Write an ``.ini`` file that has the application beside *sections*."""
    app = f"[app:words]\npaste.app_factory = {__name__}:make_app"
    (folder / "words.ini").write_text("\n\n".join([*sections, app]))


def engine_of(middleware: SessionMiddleware) -> Any:
    """Return the engine that a middleware has been given."""
    (engine,) = engines_of(middleware.registry.session_factory)
    return engine


def test_a_post_commits_through_a_real_server(load: Load, engine: Engine) -> None:
    """A section wraps the application, and its rule commits before the server answers."""
    with served(load(USE, URL, "commit = on_unsafe_success")) as port:
        for method in ("POST", "GET"):
            assert asked(port, "/", method).body == b"added"

    assert words(engine) == ["POST"]


@pytest.mark.parametrize(
    "factory",
    [
        USE,
        "use = egg:wsgi-session#filter_app",
        "paste.filter_factory = wsgi_session.paste:filter_factory",
        "paste.filter_app_factory = wsgi_session.paste:filter_app_factory",
    ],
)
def test_every_way_to_name_the_filter(load: Load, factory: str) -> None:
    """Both factories are found by their entry points and by their names, and make the same."""
    middleware = load(factory, URL, "commit = on_success")

    assert isinstance(middleware, SessionMiddleware)
    assert (middleware.app, middleware.commit) == (add, on_success)


@pytest.mark.parametrize(
    "sections",
    [
        ("[filter-app:main]\nnext = words", USE, URL),
        ("[app:main]\nuse = words\nfilter-with = session\n[filter:session]", USE, URL),
    ],
)
def test_every_kind_of_section(sections: tuple[str, ...], tmp_path: Path) -> None:
    """A ``filter-app`` and a ``filter-with`` wrap the application as a pipeline does."""
    write(tmp_path, "\n".join(sections))

    middleware = loadapp(f"config:{tmp_path}/words.ini")
    middleware.close()

    assert middleware.app is add


def test_here_is_the_folder_of_the_file(load: Load, tmp_path: Path) -> None:
    """What PasteDeploy replaces in a URL is replaced."""
    assert engine_of(load(USE, URL)).url.database == f"{tmp_path}/words.db"


def test_close_disposes_of_the_engine_of_the_section(load: Load, engine: Engine) -> None:
    """An engine that was made from a section goes with its middleware."""
    middleware = load(USE, URL)
    request(middleware)
    pool = engine_of(middleware).pool
    assert pool.checkedin() == 0, "nothing was committed, nothing flushed"
    engine_of(middleware).connect().close()
    assert pool.checkedin() == 1

    middleware.close()

    assert pool.checkedin() == 0
    assert engine_of(middleware).pool is not pool


def test_each_application_has_an_engine_of_its_own(tmp_path: Path) -> None:
    """A filter that wraps two applications makes two engines, so that one can be closed."""
    write(tmp_path, "\n".join(["[filter:session]", USE, URL]))
    wrap = loadfilter(f"config:{tmp_path}/words.ini", "session")

    one, other = wrap(add), wrap(add)

    assert engine_of(one) is not engine_of(other)


def test_siblings_of_the_url_are_arguments_of_the_engine(load: Load) -> None:
    """Numbers are numbers, words for no are no, and a class of pools is found by its name."""
    engine = engine_of(
        load(USE, URL, "sqlalchemy.pool_size = 3", "sqlalchemy.pool_pre_ping = false", "sqlalchemy.echo_pool = debug")
    )

    assert (engine.pool.size(), engine.pool._pre_ping, engine.pool.echo) == (3, False, "debug")
    assert isinstance(engine_of(load(USE, URL, "sqlalchemy.poolclass = sqlalchemy.pool:NullPool")).pool, NullPool)


def test_a_registry_of_the_program(load: Load, engine: Engine) -> None:
    """A section can name the registry that the program's modules import; its engine stays the program's."""
    middleware = load(USE, f"registry = {__name__}:Session", "commit = on_unsafe_success")
    Session.configure(bind=engine)

    request(middleware, "POST")
    pool = engine.pool
    middleware.close()

    assert middleware.registry is Session
    assert words(engine) == ["POST"]
    assert engine.pool is pool


def test_a_rule_of_the_program(load: Load, engine: Engine) -> None:
    """A section can name a rule by where it is."""
    middleware = load(USE, URL, f"commit = {__name__}:not_posted")

    request(middleware, "POST")
    request(middleware, "PUT")

    assert words(engine) == ["PUT"]


@pytest.mark.parametrize("lines", [(), ("commit = never",)])
def test_the_views_commit_unless_something_else_is_named(load: Load, lines: tuple[str, ...]) -> None:
    """Where nothing is said it is as without an argument."""
    assert load(USE, URL, *lines).commit is never


def test_an_application_that_commits_in_its_body(load: Load) -> None:
    """It says so."""
    assert load(USE, URL, "commit = until_close").commit is until_close


def test_the_key_of_the_session(load: Load, engine: Engine) -> None:
    """The session is where the section says."""
    request(load(USE, URL, "environ_key = db", "commit = on_success"), path="/db")

    assert words(engine) == ["GET"]


def test_reads_that_are_given_back_early(load: Load, engine: Engine) -> None:
    """A section can say so, in words that are true or false."""
    assert load(USE, URL, "release_reads = true")._terms.release_reads
    assert not load(USE, URL)._terms.release_reads
    with pytest.raises(ValueError, match="'release_reads' is 'perhaps'"):
        load(USE, URL, "release_reads = perhaps")


@pytest.mark.parametrize("line", ["sqlalchemy.url = %(database)s", "get sqlalchemy.url = database"])
def test_what_is_shared_is_no_setting_until_it_is_taken_over(load: Load, line: str) -> None:
    """Of ``[DEFAULT]`` a section has what it names."""
    default = "[DEFAULT]\ndatabase = sqlite:///%(here)s/words.db\ndebug = true"

    middleware = load(USE, line, default=default)

    assert str(engine_of(middleware).url).endswith("/words.db")


def test_a_setting_in_default_is_refused_by_name(load: Load) -> None:
    """PasteDeploy drops the section's line of the same name, and a rule that is dropped would commit nothing."""
    with pytest.raises(ValueError, match=r"'commit' is in \[DEFAULT\].*'get commit = commit'"):
        load(USE, URL, "commit = on_success", default="[DEFAULT]\ncommit = never")


def test_a_setting_in_default_can_be_taken_over(load: Load) -> None:
    """What the error says to write works."""
    middleware = load(USE, URL, "get commit = commit", default="[DEFAULT]\ncommit = on_success")

    assert middleware.commit is on_success


def test_a_shared_url_is_nothing_to_a_registry(load: Load) -> None:
    """A section with a registry leaves the URL in ``[DEFAULT]`` to whom it belongs."""
    default = "[DEFAULT]\nsqlalchemy.url = sqlite://"

    assert load(USE, f"registry = {__name__}:Session", default=default).registry is Session


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("comit = never", "'comit' is no setting of wsgi_session. There are 'sqlalchemy.url', 'registry', 'commit'"),
        ("commit =", "The setting 'commit' is empty"),
        ("commit = on_sucess", "The setting 'commit' is 'on_sucess', which cannot be imported.*'on_success'"),
        ("commit = os:no_rule", "The setting 'commit' is 'os:no_rule', which cannot be imported"),
        ("commit = a rule", "The setting 'commit' is 'a rule', which cannot be imported"),
        ("sqlalchemy.pool_size = many", "The setting 'sqlalchemy.pool_size' is 'many'. It has to be a whole number"),
        ("sqlalchemy.pool_pre_ping = maybe", "'sqlalchemy.pool_pre_ping' is 'maybe'. It has to be 'true' or 'false'"),
        ("sqlalchemy.poolclass = NoPool", "The setting 'sqlalchemy.poolclass' is 'NoPool', which cannot be imported"),
        ("registry = db:Session", "'registry' has its engine already, so 'sqlalchemy.url' would say nothing"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(load: Load, line: str, says: str) -> None:
    """The error has the setting, its value, and what it could be."""
    with pytest.raises(ValueError, match=says):
        load(USE, URL, line)


def test_a_section_without_a_database_is_refused(load: Load) -> None:
    """The error has the settings that name one."""
    with pytest.raises(ValueError, match=r"Add 'sqlalchemy.url' to the section, or 'registry = "):
        load(USE)


def test_a_registry_that_cannot_be_imported_is_refused_by_name(load: Load) -> None:
    """The error has the setting, and what Python says is its cause."""
    with pytest.raises(ValueError, match="The setting 'registry' is 'no_such_module:Session'") as caught:
        load(USE, "registry = no_such_module:Session")

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((URL, "commit = os:sep"), "commit='/' is no rule"),
        (("registry = os:getcwd",), "cannot make sessions from <built-in function getcwd>"),
        ((URL, "sqlalchemy.pol_size = 3"), r"Invalid argument\(s\) 'pol_size'"),
    ],
)
def test_errors_of_others_are_noted(load: Load, lines: tuple[str, ...], says: str) -> None:
    """An error of the middleware's or of SQLAlchemy's stays what it is, and notes the settings it came from."""
    with pytest.raises(TypeError, match=says) as caught:
        load(USE, *lines)

    (note,) = caught.value.__notes__
    assert repr(lines[-1].split(" ")[0]) in note
    assert "words.db" not in note
