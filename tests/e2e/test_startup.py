"""A start imports no unused module, and reads the contract once."""

from __future__ import annotations

import pytest

from ..conftest import run_python

STORE = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": "secret_test", "ECWID_AUTH": "none"}


def run(program: str) -> str:
    done = run_python(program, "-W", "error", **STORE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["sqlite3", "flask_ecwid.sandbox", "redis", "prometheus_client"])
def test_unused_modules_are_not_imported(module: str) -> None:
    """A real store without a cache imports no sandbox, no Redis and no Prometheus."""
    assert run(f"import sys, wsgi; print({module!r} in sys.modules)") == "False\n"


def test_the_hosts_modules_stay_as_they_are() -> None:
    """A start hides no module from the host, so the host's own imports work as before."""
    hidden = "[name for name, module in sys.modules.items() if module is None]"
    assert run(f"import sys, wsgi; print({hidden})") == "[]\n"


def test_a_host_that_uses_connexion() -> None:
    """If the host has imported connexion first, its connexion stays complete."""
    program = (
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        "import connexion, wsgi; print(connexion.AioHttpApi.__name__)"
    )
    assert run(program) == "AioHttpApi\n"
