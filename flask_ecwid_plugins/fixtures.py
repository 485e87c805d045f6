"""The pytest fixtures `ecwid_sandbox`, `ecwid_app` and `ecwid_client`.

Each fixture imports flask_ecwid only when a test asks for it. docs/testing.md shows their use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from flask_ecwid import EcwidClient
    from flask_ecwid.testing import EcwidSandbox


@pytest.fixture
def ecwid_sandbox(tmp_path_factory: pytest.TempPathFactory) -> EcwidSandbox:
    """Return an empty store for this test only. Put its `config` into the config of your app."""
    import uuid

    from flask_ecwid.testing import EcwidSandbox

    # The name is new in every run, because the outcomes of idempotency keys are stored for a day
    # under the path of the file. Otherwise a run would replay the outcomes of an earlier run.
    return EcwidSandbox(tmp_path_factory.mktemp("ecwid") / f"{uuid.uuid4().hex}.sqlite3")


@pytest.fixture
def ecwid_app(ecwid_sandbox: EcwidSandbox) -> Flask:
    """Return a Flask app with only the plugin, on `ecwid_sandbox`, open to every caller."""
    from flask import Flask

    from flask_ecwid import Ecwid

    app = Flask("ecwid_app")
    app.config.update(ecwid_sandbox.config, TESTING=True)
    Ecwid(app)
    return app


@pytest.fixture
def ecwid_client(ecwid_app: Flask) -> EcwidClient:
    """Return the `EcwidClient` of `ecwid_app`, for code that takes a client."""
    client: EcwidClient = ecwid_app.extensions["ecwid"]["ecwid"].client
    return client
