"""Apache with Debian's mod_wsgi, which has a Python of its own in it.

Apache gives up being root, and its user may be unable to read the folders of the one who runs the tests. So it is given
copies, in the folder where it runs: of the package, the application and SQLAlchemy.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .place import ROOT, Place

PROGRAM = Path("/usr/sbin/apache2")
MODULES = Path("/usr/lib/apache2/modules")
COPIED = ("sqlalchemy", "typing_extensions", "wsgi_session")

CONFIGURATION = """\
ServerRoot {folder}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {folder}/pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
WSGISocketPrefix {folder}/socket
WSGIDaemonProcess served processes=1 threads=4 python-path={site}
WSGIProcessGroup served
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {site}/served.wsgi
<Directory {site}>
    Require all granted
</Directory>
"""


def command(at: Place) -> Iterable[object]:
    """Write the configuration, and return the command that starts Apache with it."""
    site = at.folder / "site"
    if not site.exists():
        _copy_to(site)
    user = "" if os.getuid() else "User www-data\nGroup www-data"
    values = {"folder": at.folder, "port": at.port, "user": user, "modules": MODULES, "site": site}
    (at.folder / "configuration").write_text(CONFIGURATION.format(**values))
    return [PROGRAM, "-f", at.folder / "configuration", "-DFOREGROUND"]


def _copy_to(site: Path) -> None:
    for name in COPIED:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, site / name, ignore=shutil.ignore_patterns("__pycache__", "testing"))
        else:
            shutil.copy(source, site)
    shutil.copytree(ROOT / "tests" / "servers", site / "tests" / "servers")
    (site / "tests" / "__init__.py").touch()
    (site / "served.wsgi").write_text("from tests.servers.application import application\n")
