"""What is measured: a way to have a session in each request, beside the same framework without it.

To add a peer, write the function that builds its application, as its own documentation would, and its line in
`SUBJECTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy.orm import Session, scoped_session, sessionmaker

from . import frameworks
from .frameworks import Framework
from .words import Options, fill, filled_engine
from .work import by_hand, with_session

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from wsgi_session import CommitRule

Build: TypeAlias = "Callable[[Options], WSGIApplication]"
"""Builds an application to be measured, on an engine with these options."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A way to have a session in each request."""

    title: str
    framework: Framework
    beside: Build
    """Builds the application with sessions."""

    requirements: tuple[str, ...]
    """What pip installs for it, beside the newest SQLAlchemy that this allows."""

    commits: str = "the view"
    """Who commits what a view has inserted."""

    def without(self, options: Options) -> WSGIApplication:
        """Build the same application with sessions that its views open by hand."""
        app: WSGIApplication = self.framework(by_hand(sessionmaker(filled_engine(options))))
        return app


def wsgi_session(framework: Framework, rule: str | None, options: Options) -> WSGIApplication:
    """Use this project.

    Args:
        framework: In which.
        rule: The name of the one that commits; None if the views do.
        options: Of the engine.
    """
    import wsgi_session as project

    commit: CommitRule = getattr(project, rule or "never")
    registry = project.RequestScopedSession(sessionmaker(filled_engine(options)))
    session_of = _in_environ if framework is frameworks.wsgi else lambda request: registry()
    work = with_session(session_of, commits=rule is None)
    return project.SessionMiddleware(framework(work), registry, commit=commit)


def floor(rule: str | None, options: Options) -> WSGIApplication:
    """Use the parts of this project alone."""
    import wsgi_session as project

    from .floor import Floor

    work = with_session(_in_environ, commits=rule is None)
    return Floor(
        frameworks.wsgi(work), sessionmaker(filled_engine(options)), None if rule is None else getattr(project, rule)
    )


def recipe(options: Options) -> WSGIApplication:
    """Use a thread-local `scoped_session`, removed at the end of the request, as SQLAlchemy documents it."""
    from werkzeug.wsgi import ClosingIterator

    registry: scoped_session[Session] = scoped_session(sessionmaker(filled_engine(options)))
    app = frameworks.wsgi(with_session(lambda environ: registry(), commits=True))

    def removing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return ClosingIterator(app(environ, start_response), registry.remove)
        except BaseException:
            registry.remove()
            raise

    return removing


def flask_sqlalchemy(options: Options) -> WSGIApplication:
    """Use Flask-SQLAlchemy."""
    from flask_sqlalchemy import SQLAlchemy

    database = SQLAlchemy(engine_options=options)
    app = frameworks.flask(with_session(lambda request: database.session(), commits=True), database)
    with app.app_context():
        fill(database.engine)
    return app


def flask_sqlalchemy_lite(options: Options) -> WSGIApplication:
    """Use Flask-SQLAlchemy-Lite."""
    from flask_sqlalchemy_lite import SQLAlchemy

    database = SQLAlchemy()
    app = frameworks.flask(with_session(lambda request: database.session, commits=True))
    app.config["SQLALCHEMY_ENGINES"] = {"default": options}
    database.init_app(app)
    with app.app_context():
        fill(database.engine)
    return app


def advanced_alchemy(options: Options) -> WSGIApplication:
    """Use advanced-alchemy in Flask, where its views commit unless they are told otherwise."""
    from advanced_alchemy.extensions.flask import AdvancedAlchemy, SQLAlchemySyncConfig

    extension = AdvancedAlchemy(SQLAlchemySyncConfig(engine_instance=filled_engine(options)))
    return frameworks.flask(with_session(lambda request: extension.get_sync_session(), commits=True), extension)


def pyramid_tm(options: Options) -> WSGIApplication:
    """Use pyramid_tm with zope.sqlalchemy, as Pyramid's cookiecutter does."""
    from zope.sqlalchemy import register

    factory = sessionmaker(filled_engine(options))

    def session_of(request: Any) -> Session:
        session = factory()
        register(session, transaction_manager=request.tm)
        return session

    def include(config: Any) -> None:
        config.add_settings({"tm.manager_hook": "pyramid_tm.explicit_manager"})
        config.include("pyramid_tm")
        config.add_request_method(session_of, "dbsession", reify=True)

    return frameworks.pyramid(with_session(lambda request: request.dbsession, commits=False), include)


def repoze_tm2(options: Options) -> WSGIApplication:
    """Use repoze.tm2 with a `scoped_session` that zope.sqlalchemy has joined to its transactions."""
    from repoze.tm import TM
    from zope.sqlalchemy import register

    registry = scoped_session(sessionmaker(filled_engine(options)))
    register(registry)
    app: WSGIApplication = TM(frameworks.wsgi(with_session(lambda environ: registry(), commits=False)))
    return app


def falcon_sqla(options: Options) -> WSGIApplication:
    """Use falcon-sqla."""
    from falcon_sqla import Manager

    work = with_session(lambda request: request.context.session, commits=False)
    return frameworks.falcon(work, Manager(filled_engine(options)).middleware)


def bottle_sqlalchemy(options: Options) -> WSGIApplication:
    """Use bottle-sqlalchemy."""
    from bottle_sqlalchemy import Plugin

    return frameworks.bottle(with_session(lambda db: db, commits=False), Plugin(filled_engine(options)))


def _in_environ(environ: WSGIEnvironment) -> Session:
    session: Session = environ["sqlalchemy.session"]
    return session


_RULE = "on_unsafe_success"
_PROJECT = "--editable=."

SUBJECTS: dict[str, Subject] = {
    "wsgi_session": Subject(
        "wsgi_session",
        frameworks.wsgi,
        partial(wsgi_session, frameworks.wsgi, None),
        (_PROJECT,),
    ),
    "wsgi_session_rule": Subject(
        "wsgi_session, `on_unsafe_success`",
        frameworks.wsgi,
        partial(wsgi_session, frameworks.wsgi, _RULE),
        (_PROJECT,),
        commits="the rule",
    ),
    "floor": Subject("the floor", frameworks.wsgi, partial(floor, None), (_PROJECT,)),
    "floor_rule": Subject(
        "the floor, `on_unsafe_success`", frameworks.wsgi, partial(floor, _RULE), (_PROJECT,), commits="the rule"
    ),
    "recipe": Subject("`scoped_session`, the documented recipe", frameworks.wsgi, recipe, ("werkzeug",)),
    "repoze_tm2": Subject(
        "repoze.tm2 with zope.sqlalchemy",
        frameworks.wsgi,
        repoze_tm2,
        ("repoze.tm2", "zope.sqlalchemy"),
        commits="the middleware",
    ),
    "wsgi_session_flask": Subject(
        "wsgi_session, `on_unsafe_success`",
        frameworks.flask,
        partial(wsgi_session, frameworks.flask, _RULE),
        (_PROJECT, "flask"),
        commits="the rule",
    ),
    "flask_sqlalchemy": Subject("Flask-SQLAlchemy", frameworks.flask, flask_sqlalchemy, ("flask-sqlalchemy", "flask")),
    "flask_sqlalchemy_lite": Subject(
        "Flask-SQLAlchemy-Lite",
        frameworks.flask,
        flask_sqlalchemy_lite,
        ("flask-sqlalchemy-lite", "flask"),
    ),
    "advanced_alchemy": Subject(
        "advanced-alchemy",
        frameworks.flask,
        advanced_alchemy,
        ("advanced-alchemy", "flask"),
    ),
    "wsgi_session_django": Subject(
        "wsgi_session, `on_unsafe_success`",
        frameworks.django,
        partial(wsgi_session, frameworks.django, _RULE),
        (_PROJECT, "django"),
        commits="the rule",
    ),
    "wsgi_session_pyramid": Subject(
        "wsgi_session, `on_unsafe_success`",
        frameworks.pyramid,
        partial(wsgi_session, frameworks.pyramid, _RULE),
        (_PROJECT, "pyramid"),
        commits="the rule",
    ),
    "pyramid_tm": Subject(
        "pyramid_tm with zope.sqlalchemy",
        frameworks.pyramid,
        pyramid_tm,
        ("pyramid", "pyramid_tm", "zope.sqlalchemy"),
        commits="the tween",
    ),
    "wsgi_session_falcon": Subject(
        "wsgi_session, `on_unsafe_success`",
        frameworks.falcon,
        partial(wsgi_session, frameworks.falcon, _RULE),
        (_PROJECT, "falcon"),
        commits="the rule",
    ),
    "falcon_sqla": Subject(
        "falcon-sqla",
        frameworks.falcon,
        falcon_sqla,
        ("falcon-sqla", "falcon"),
        commits="the middleware",
    ),
    "wsgi_session_bottle": Subject(
        "wsgi_session, `on_unsafe_success`",
        frameworks.bottle,
        partial(wsgi_session, frameworks.bottle, _RULE),
        (_PROJECT, "bottle"),
        commits="the rule",
    ),
    "bottle_sqlalchemy": Subject(
        "bottle-sqlalchemy",
        frameworks.bottle,
        bottle_sqlalchemy,
        ("bottle-sqlalchemy", "bottle"),
        commits="the plugin",
    ),
}
"""By the name that ``python -m benchmarks.costs`` takes."""
