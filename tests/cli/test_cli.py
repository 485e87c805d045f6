"""The commands `flask ecwid check`, `key`, `openapi` and `sandbox`, and all help texts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import jsonschema_rs
import pytest
import requests
import yaml
from click.testing import CliRunner, Result
from flask.cli import FlaskGroup
from openapi_spec_validator import validate
from pytest_httpserver import HTTPServer

from flask_ecwid import Ecwid, StoreCredentials, clock, contract, sandbox
from flask_ecwid.settings import api_keys
from flask_ecwid.web.webhook_event import CUSTOMER_CHANGES, PERSONAL_DATA, UNINSTALLED

from ..conftest import ROOT, STORE, TOKEN, Config, environment, free_port
from ..helpers.command import begin_sandbox, printed_settings
from ..helpers.redis_server import RedisServer
from ..helpers.webhook_events import event_of

Run = Callable[..., Result]


def runner(create_app: Callable[[], flask.Flask]) -> Run:
    def run(*args: str) -> Result:
        return CliRunner().invoke(
            FlaskGroup(create_app=create_app, load_dotenv=False), ["ecwid", *args]
        )

    return run


def of_config(config: dict[str, Any]) -> Run:
    def create_app() -> flask.Flask:
        app = flask.Flask("host")
        app.config.update(config)
        Ecwid(app)
        return app

    return runner(create_app)


def state_file() -> Path:
    """Return the state file of this user."""
    return Path(os.environ["XDG_STATE_HOME"]) / f"flask-ecwid-{os.getuid()}" / "state.sqlite3"


def test_check_of_the_sandbox() -> None:
    """The check exits with 0 if the store accepts a token with all scopes."""
    result = of_config({"ECWID_SANDBOX": "on"})("check")
    assert result.exit_code == 0
    store, *others = result.output.splitlines()
    assert re.fullmatch(r"store: Ecwid replied in [0-9]+ ms", store)
    assert others == [
        "host: none, because the sandbox is in this process",
        "token: accepted",
        "read_customers: granted",
        "create_customers: granted",
        "update_customers: granted",
        "deletions: can be read",
        "clock: unknown, because Ecwid's reply has no date",
        "rate limit: 535 of 540 calls a minute are left",
        f"state: can be written, in {state_file()}",
    ]


@pytest.mark.parametrize("replies", [True, False])
def test_check_names_the_host(ecwid: HTTPServer, config: Config, replies: bool) -> None:
    """The check names the host and the proxy that it tried, without the proxy's password."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_data("", 403)
    port = free_port()
    if not replies:
        config["ECWID_PROXY_URL"] = f"http://canary:canary@127.0.0.1:{port}/"
    result = of_config(config)("check")
    tried = f"localhost:{ecwid.port}"
    via = "" if replies else f", through the proxy 127.0.0.1:{port}"
    lines = result.output.splitlines()
    assert [line for line in lines if line.startswith("host: ")] == [f"host: {tried}{via}"]
    assert "canary" not in result.output.replace(TOKEN, "")
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: folder.write_text(""), "is not a real directory"),
        (lambda folder: folder.parent.rmdir() or folder.parent.touch(), "Not a directory"),
        (lambda folder: (folder / "state.sqlite3").mkdir(parents=True), "unable to open database"),
    ],
    ids=["file", "file above", "folder"],
)
def test_check_of_a_state_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], said: str
) -> None:
    """The check exits with 1 if the state file cannot be used, and names the file and the reason.

    The sandbox and a store that does not reply have the same line.
    """
    (tmp_path / "host").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "host"))
    folder = tmp_path / "host" / f"flask-ecwid-{os.getuid()}"
    spoil(folder)
    url = f"http://127.0.0.1:{free_port()}/api/v3"
    real = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"}
    for config in ({"ECWID_SANDBOX": "on"}, {**real, "ECWID_API_URL": url}):
        result = of_config(config)("check")
        assert result.exit_code == 1
        [line] = [line for line in result.output.splitlines() if line.startswith("state: ")]
        assert line.startswith("state: cannot be used, because ")
        assert str(folder) in line
        assert said in line


def test_check_prints_warnings() -> None:
    """The check prints the warnings about settings, which do not change the exit status."""
    result = of_config({"ECWID_SANDBOX": "on", "ECWID_CACHE_TTL": "5"})("check")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == (
        "settings: warning: ECWID_CACHE_TTL is set in app.config but is no setting. "
        "The nearest is ECWID_CACHE_TTL_S"
    )


@pytest.mark.parametrize(
    ("config", "status", "failed", "warned"),
    [
        ({"ECWID_SANDBOX": "on"}, 0, [], []),
        ({"ECWID_SANDBOX": "on", "ECWID_CACHE_TTL": "5"}, 0, [], ["settings"]),
        (
            {
                "ECWID_STORE_ID": "1003",
                "ECWID_TOKEN": TOKEN,
                "ECWID_AUTH": "none",
                "ECWID_API_URL": "http://127.0.0.1:9",
            },
            1,
            ["store"],
            ["settings"],
        ),
        ({"ECWID_TOKEN": "public_canary"}, 2, ["settings"] * 3, []),
    ],
    ids=["good", "warning", "no reply", "settings"],
)
def test_check_as_json(
    config: dict[str, str], status: int, failed: list[str], warned: list[str]
) -> None:
    """The check prints the same findings as one JSON object, also if the settings are wrong."""
    result = of_config(config)("check", "--json")
    printed = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (status, "")
    assert (printed["ok"], printed["store"]) == (status == 0, "ecwid")
    findings = printed["findings"]
    assert all(each.keys() == {"about", "text", "status"} for each in findings)
    assert [each["about"] for each in findings if each["status"] == "failed"] == failed
    assert [each["about"] for each in findings if each["status"] == "warning"] == warned
    assert TOKEN not in result.stdout
    assert "canary" not in result.stdout
    if status < 2:
        lines = of_config(config)("check").stdout.splitlines()
        assert [line.partition(":")[0] for line in lines] == [each["about"] for each in findings]


@pytest.mark.parametrize(
    ("ahead_s", "pattern"),
    [
        (0, "clock: agrees with Ecwid's"),
        (3, "clock: [34] s behind Ecwid's"),
        (60, "clock: warning: 6[01] s behind Ecwid's.*"),
        (-7200, "clock: warning: 7(1[0-9][0-9]|200) s ahead of Ecwid's.*"),
    ],
)
def test_check_of_the_clock(
    ecwid: HTTPServer, config: Config, monkeypatch: pytest.MonkeyPatch, ahead_s: float, pattern: str
) -> None:
    """A clock that differs from Ecwid's is a warning, and no failure."""
    monkeypatch.setattr(clock, "wall", lambda: int(time.time()) - ahead_s)
    page = {"total": 0, "items": []}
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json(page)
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_json({}, 400)
    ecwid.expect_request(f"{STORE}/customers/0").respond_with_json({}, 404)
    result = of_config(config)("check")
    assert result.exit_code == 0
    [line] = [line for line in result.output.splitlines() if line.startswith("clock")]
    assert re.fullmatch(pattern, line)


@pytest.mark.parametrize("replies", [True, False])
def test_check_of_redis(redis: RedisServer, replies: bool) -> None:
    """The check exits with 1 if the configured Redis does not reply."""
    url = redis.url if replies else f"redis://127.0.0.1:{free_port()}/0"
    result = of_config({"ECWID_SANDBOX": "on", "ECWID_REDIS_URL": url})("check")
    assert result.exit_code == (0 if replies else 1)
    assert f"redis: {'replied' if replies else 'did not reply'}" in result.output.splitlines()


def test_check_without_a_network(tmp_path: Path) -> None:
    """The check without a network prints its result and no log line."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), "ecwid", "check"],
        cwd=tmp_path,
        env=environment(
            ECWID_STORE_ID="1003",
            ECWID_TOKEN=TOKEN,
            ECWID_AUTH="none",
            ECWID_API_URL=f"http://127.0.0.1:{free_port()}/api/v3",
        ),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("store: no valid reply (upstream-unreachable: ")


def test_check_of_a_missing_scope(ecwid: HTTPServer, config: Config) -> None:
    """The check exits with 1 and names the scope that the token lacks."""
    lacking = {"errorCode": "INSUFFICIENT_APP_SCOPE", "errorMessage": "x"}
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json({"items": []})
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_json({}, 400)
    ecwid.expect_request(f"{STORE}/customers/0").respond_with_json(lacking, 403)
    result = of_config(config)("check")
    assert result.exit_code == 1
    assert "create_customers: granted" in result.output
    assert "update_customers: missing" in result.output


def made_key(*args: str) -> tuple[str, str]:
    result = runner(lambda: flask.Flask("host"))("key", *args)
    assert result.exit_code == 0
    [key, entry] = result.output.splitlines()
    return key.removeprefix("key: "), entry.removeprefix("entry: ")


def test_key() -> None:
    """The command prints a key once, with its entry for the settings, and needs no store."""
    key, entry = made_key("warehouse", "--scopes", "write+read")
    assert re.fullmatch(r"ecwid_[A-Za-z0-9_-]{43}", key)
    assert entry == f"warehouse:read+write:{hashlib.sha256(key.encode()).hexdigest()}"
    app = flask.Flask("host")
    app.config.update(ECWID_SANDBOX=True, ECWID_API_KEYS=entry)
    Ecwid(app)
    headers = {"Authorization": f"Bearer {key}"}
    url = "/api/json/v1/ecwid/customers"
    assert app.test_client().get(url, headers=headers).status_code == 200
    assert app.test_client().get(url).status_code == 401


def test_keys_differ() -> None:
    """Every key is different, and a key has the scope to read by default."""
    keys = [made_key("a") for _ in range(3)]
    assert len({key for key, _ in keys}) == 3
    assert all(entry.startswith("a:read:") for _, entry in keys)


@pytest.mark.parametrize(
    "args", [["two words"], [""], *(["a", "--scopes", each] for each in ("admin", "", "+"))]
)
def test_an_invalid_key(args: list[str]) -> None:
    """An invalid name or scope is an error that lists the valid values."""
    result = runner(lambda: flask.Flask("host"))("key", *args)
    assert result.exit_code == 2
    assert "read+write+delete" in result.stderr
    assert "key: " not in result.output


def test_check_of_a_false_token(ecwid: HTTPServer, config: Config) -> None:
    """The check exits with 1 for a token that Ecwid refuses, and does not print the token."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_data("", 403)
    result = of_config(config)("check")
    assert result.exit_code == 1
    assert "reason=token" in result.output
    assert "does not accept this service's token" in result.output
    assert config["ECWID_TOKEN"] not in result.output


def test_check_of_bad_settings() -> None:
    """The check exits with 2 for invalid settings, and names every fault without a traceback."""
    result = of_config({"ECWID_STORE_ID": "1003"})("check")
    assert result.exit_code == 2
    assert "ECWID_TOKEN" in result.stderr
    assert "ECWID_AUTH" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_check_of_another_store(options: list[str]) -> None:
    """The check says on the standard error that the app does not have the named store."""
    result = of_config({"ECWID_SANDBOX": "on"})("check", "--store", "outlet", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no Ecwid store named 'outlet'" in result.stderr


INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
# Python imports this module at its start. The import of the named module is interrupted.
INTERRUPT_AN_IMPORT = f"""
import sys

class Finder:
    def find_spec(name, *_):
        if name == {{name!r}}:
            {INTERRUPT}

sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["check"], "flask_ecwid"),
        (["check"], "flask_ecwid.cli.check"),
        (["export", "all.jsonl"], "flask_ecwid.cli.export"),
        (["import", "new.jsonl"], "flask_ecwid.cli.import_"),
        (["key", "a"], "flask_ecwid.cli.key"),
        (["openapi"], "flask_ecwid.cli.openapi"),
        (["sandbox"], "flask_ecwid.cli.sandbox"),
        (["stores", "list"], "flask_ecwid.cli.stores"),
        (["sync"], "flask_ecwid.cli.sync"),
        (["webhook", "send"], "flask_ecwid.cli.webhook"),
        (["export", "--help"], "flask_ecwid.cli.export"),
        *((args, "host") for args in (["check"], ["export", "all.jsonl"], ["import", "new.jsonl"])),
    ],
    ids=str,
)
def test_interrupted_at_the_start(tmp_path: Path, args: list[str], name: str) -> None:
    """Ctrl-C while a command imports its modules or the app ends the command with 130."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT_AN_IMPORT.format(name=name))
    (tmp_path / "host.py").write_text("")
    (tmp_path / "new.jsonl").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "host.py", "ecwid", *args],
        cwd=tmp_path,
        env=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_openapi(form: str) -> None:
    """The command prints the contract, which is valid and has the requested server."""
    flags = ["--json"] if form == "json" else []
    result = of_config({})("openapi", *flags, "--mount", "https://shop.example.com/api")
    assert result.exit_code == 0
    printed = yaml.safe_load(result.output)
    validate(printed)
    assert printed["servers"] == [{"url": "https://shop.example.com/api"}]
    assert printed["paths"] == contract.load().document["paths"]


def test_openapi_31() -> None:
    """The contract in OpenAPI 3.1 is valid, takes null as before, and lists the webhook events."""
    result = of_config({})("openapi", "--openapi", "3.1", "--json")
    assert result.exit_code == 0
    printed = json.loads(result.output)
    validate(printed)
    assert printed["openapi"] == "3.1.0"
    before = contract.load().document
    assert list(printed["paths"]) == list(before["paths"])
    assert '"nullable"' not in result.output
    contact = {"$ref": "#/components/schemas/CustomerContact", "components": printed["components"]}
    is_valid = jsonschema_rs.Draft202012Validator(contact).is_valid
    assert is_valid({"contact": "x", "note": None}) == is_valid({"contact": "x", "note": "y"})
    assert not is_valid({"contact": "x", "note": 5})
    known = {*CUSTOMER_CHANGES, *PERSONAL_DATA, UNINSTALLED}
    assert set(printed["webhooks"]) == known
    for type_, item in printed["webhooks"].items():
        body = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema = {**body, "components": printed["components"]}
        fits = jsonschema_rs.Draft202012Validator(schema).is_valid
        assert fits(event_of(type_))
        assert not fits(event_of("order.created"))
        assert not fits({**event_of(type_), "eventCreated": "5"})


def test_sandbox_on_a_port(tmp_path: Path) -> None:
    """The sandbox prints three settings, and a plugin with these settings uses the sandbox."""
    process = begin_sandbox(tmp_path, "--customers", "250")
    try:
        settings = printed_settings(process)
        assert list(settings) == ["ECWID_API_URL", "ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_AUTH"]
        app = flask.Flask("host")
        app.config.update(settings)
        Ecwid(app)
        page = app.test_client().get("/api/json/v1/ecwid/customers?limit=1").json
        assert page is not None
        assert page["data"]["attributes"]["total"] == 254
        url = f"{settings['ECWID_API_URL']}/{settings['ECWID_STORE_ID']}/customers"
        assert requests.get(url, timeout=30).status_code == 403
        requests.get(url, params={"email": "canary@example.com"}, timeout=30)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        printed = "".join(process.communicate())
    assert "canary" not in printed


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kept", [True, False])
def test_sandbox_keeps_its_file(tmp_path: Path, kept: bool, ending: signal.Signals) -> None:
    """A store in the file of --file survives the sandbox, and a private store does not."""
    flags = ["--file", str(tmp_path / "store.sqlite3")] if kept else []
    process = begin_sandbox(tmp_path, *flags, TMPDIR=str(tmp_path))
    assert printed_settings(process)
    process.send_signal(ending)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == (["store.sqlite3"] if kept else [])


def served_stores(process: subprocess.Popen[str]) -> tuple[str, Path, list[dict[str, Any]]]:
    """Return the address, the stores file and the stores that a sandbox with --stores prints."""
    assert process.stdout is not None
    settings = dict(process.stdout.readline().strip().split("=", 1) for _ in range(2))
    assert list(settings) == ["ECWID_API_URL", "ECWID_STORES"]
    path = Path(settings["ECWID_STORES"])
    document = json.loads(path.read_text())
    assert list(document) == ["stores"]
    return settings["ECWID_API_URL"], path, document["stores"]


def customers_status(api_url: str, store: dict[str, Any], token: str) -> int:
    url = f"{api_url}/{store['id']}/customers"
    return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code


def test_sandbox_with_stores(tmp_path: Path) -> None:
    """The sandbox serves several stores, and writes a private file with their tokens and keys.

    The standard error has the API key of each store, which the file does not have.
    """
    process = begin_sandbox(tmp_path, "--stores", "3", "--customers", "2", TMPDIR=str(tmp_path))
    try:
        api_url, path, stores = served_stores(process)
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        text = path.read_text()
        assert [list(each) for each in stores] == [["id", "token", "api_keys"]] * 3
        assert [each["id"] for each in stores] == ["1003", "1004", "1005"]
        assert stores[0]["token"] == sandbox.TOKEN
        for store in stores:
            StoreCredentials(store["id"], store["token"])  # raises an error if one is invalid
            for other in stores:
                status = customers_status(api_url, store, other["token"])
                assert status == (200 if other is store else 403)
        for store in stores:
            app = flask.Flask("host")
            app.config.update(ECWID_API_URL=api_url, ECWID_AUTH="none")
            app.config.update(ECWID_STORE_ID=store["id"], ECWID_TOKEN=store["token"])
            Ecwid(app)
            for number in range(int(store["id"]) - 1003):
                body = {"email": f"{number}@example.com"}
                created = app.test_client().post("/api/json/v1/ecwid/add_customer", json=body)
                assert created.status_code == 200
            page = app.test_client().get("/api/json/v1/ecwid/customers?limit=1").json
            assert page is not None
            assert page["data"]["attributes"]["total"] == 6 + int(store["id"]) - 1003
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    printed = re.findall(r"^store (\d+): key (\S+), faults (\S+)$", err, re.M)
    for store, (store_id, api_key, url) in zip(stores, printed, strict=True):
        [entry] = map(api_keys.ApiKey.parse, store["api_keys"])
        assert store_id == store["id"]
        assert entry.digest == hashlib.sha256(api_key.encode()).hexdigest()
        assert entry.scopes == set(api_keys.SCOPES)
        assert api_key not in text
        assert url.endswith(f"/admin/stores/{store_id}/faults")
    assert len({store["api_keys"][0] for store in stores}) == 3
    assert not list(tmp_path.iterdir()), "the end deletes all files"


def test_sandbox_options_are_for_every_store(tmp_path: Path) -> None:
    """Each store has the faults, the limit and the generated customers of the options."""
    (tmp_path / "faults.json").write_text('[{"kind": "status", "status": 500, "nth": 1}]')
    flags = ["--faults", "faults.json", "--calls-per-minute", "1", "--customers", "1"]
    process = begin_sandbox(tmp_path, "--stores", "2", *flags)
    try:
        api_url, _, stores = served_stores(process)
        for store in stores:
            statuses = [customers_status(api_url, store, store["token"]) for _ in range(3)]
            assert statuses == [500, 200, 429]
            url = f"{api_url.replace('/api/v3', '/admin/stores')}/{store['id']}/ledger"
            assert len(requests.get(url, timeout=30).json()) == 3
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_sandbox_keeps_its_stores(tmp_path: Path) -> None:
    """The stores beside the file of --file survive the sandbox, and have their first tokens again.

    The end deletes the file for ECWID_STORES.
    """
    email = "new@example.com"
    for start in range(2):
        flags = ["--file", "store.sqlite3", "--stores", "2"]
        process = begin_sandbox(tmp_path, *flags, TMPDIR=str(tmp_path))
        try:
            api_url, _, [_, store] = served_stores(process)
            url = f"{api_url}/1004/customers"
            headers = {"Authorization": f"Bearer {store['token']}"}
            created = requests.post(url, json={"email": email}, headers=headers, timeout=30)
            assert created.status_code == (409 if start else 200)
            admin = api_url.replace("/api/v3", "/admin/stores/1004")
            requests.put(admin, json={"tokens": []}, timeout=30)
            assert customers_status(api_url, store, store["token"]) == 403
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0
        names = ["store.sqlite3", "store.sqlite3-1004"]
        assert sorted(each.name for each in tmp_path.iterdir()) == names


def test_sandbox_fails_on_demand(tmp_path: Path) -> None:
    """The sandbox applies the switches and faults of its options, and accepts more later."""
    (tmp_path / "faults.json").write_text('[{"kind": "status", "status": 500, "nth": 1}]')
    switches = ["--calls-per-minute", "600", "--search-lag", "2", "--duplicate-emails"]
    process = begin_sandbox(tmp_path, *switches, "--faults", "faults.json")
    try:
        settings = printed_settings(process)
        url = f"{settings['ECWID_API_URL']}/{settings['ECWID_STORE_ID']}/customers"
        headers = {"Authorization": f"Bearer {settings['ECWID_TOKEN']}"}
        admin = settings["ECWID_API_URL"].replace("/api/v3", "/admin")
        wanted = {
            **{"search_lag_s": 2.0, "duplicate_emails": True, "calls_per_minute": 600},
            "send_events": False,
        }
        assert requests.get(f"{admin}/switches", timeout=30).json() == wanted
        statuses = [requests.get(url, headers=headers, timeout=30).status_code for _ in range(2)]
        assert statuses == [500, 200]
        assert len(requests.get(f"{admin}/ledger", timeout=30).json()) == 2
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert f"{admin}/faults" in err


@pytest.mark.parametrize("wrong", ["{", "[5]", '[{"kind": "boom"}]', "7"])
def test_sandbox_invalid_faults(tmp_path: Path, wrong: str) -> None:
    """A file without valid faults is a usage error."""
    (tmp_path / "faults.json").write_text(wrong)
    assert of_config({})("sandbox", "--faults", str(tmp_path / "faults.json")).exit_code == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ("--port", "99999"),
        ("--port", "-1"),
        ("--customers", "-5"),
        ("--stores", "0"),
        ("--stores", "1001"),
    ],
)
def test_sandbox_options_out_of_range(wrong: tuple[str, str]) -> None:
    """A port or number out of range is a usage error."""
    assert of_config({})("sandbox", *wrong).exit_code == 2


@pytest.mark.parametrize(
    "command",
    [
        *([], ["check"], ["export"], ["import"], ["key"], ["openapi"], ["sandbox"], ["stores"]),
        *(["stores", each] for each in ("add", "list", "remove")),
        *(["webhook"], ["webhook", "send"]),
    ],
)
def test_help(command: list[str]) -> None:
    """Every command has a help text with an example."""
    result = of_config({})(*command, "--help")
    assert result.exit_code == 0
    assert not command or "Example" in result.output
