"""The blocks, tables and links of the pages in docs/, and the site that `make docs` builds."""

from __future__ import annotations

import configparser
import csv
import inspect
import json
import pydoc
import re
import secrets
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests
from pytest_httpserver import HTTPServer

import flask_ecwid
from flask_ecwid import (
    Ecwid,
    EcwidClient,
    EcwidError,
    Settings,
    SettingsError,
    StoreCredentials,
    contract,
    errors,
)
from flask_ecwid.client import replies
from flask_ecwid.client.operations import OPERATIONS

from ..conftest import ROOT, TOKEN, free_port, wait_for
from ..helpers.pages import blocks, commands, curl, filled_in, headings, python, running, sh
from ..helpers.plain_english import faults_of_page, prose
from ..helpers.redis_server import RedisServer
from ..helpers.webhook_events import CLIENT_SECRET
from ..unit.test_house import LAYOUT

DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
API = "/api/json/v1/ecwid"

_taken: set[tuple[str, str]] = set()


def taken(page: str, heading: str, language: str = "sh") -> list[str]:
    """Return the blocks below a heading, and mark them as run."""
    _taken.add((page, heading))
    return blocks(DOCS / page, heading, language)


# The blocks that do not run here, with the reasons.
NOT_HERE = {
    ("deployment.md", "gunicorn for your own app"): "it needs a wheel: tests/e2e/test_packaging.py",
    ("tutorial.md", "1. Run it"): "the README has it, too: tests/e2e/test_readme.py",
    ("deploy/README.md", "gunicorn, by systemd"): "it writes to /opt and /etc, and needs systemd; "
    "tests/unit/test_systemd_unit.py reads the unit",
    ("deploy/README.md", "nginx"): "it changes the machine's nginx; test_nginx.py runs one",
}
PAGES_ELSEWHERE = {
    "clients.md": "e2e/test_python_client.py",
    "cookbook.md": "e2e/test_cookbook.py",
    "keep-a-copy.md": "e2e/test_keep_a_copy.py",
    "many-stores.md": "e2e/test_many_stores.py",
    "oauth.md": "e2e/test_oauth.py",
    "observability.md": "e2e/test_observability.py",
    "servers.md": "e2e/test_servers.py",
    "testing.md": "e2e/test_testing.py",
}

CALLS, [SHOP] = (
    taken("tutorial.md", "2. Call it"),
    taken("tutorial.md", "3. Mount it in your app", "python"),
)
START, MOUNTED = taken("tutorial.md", "3. Mount it in your app")
MAKE_KEY, REAL, CALL_WITH_KEY = taken("tutorial.md", "4. Take a real store")
[REAL_SETTINGS] = taken("tutorial.md", "4. Take a real store", "ini")
[SERVE] = taken("tutorial.md", "5. Deploy it")
[WRONG] = taken("errors.md", "Errors")
[PROBLEM] = taken("errors.md", "Errors", "json")
[ONCE] = taken("errors.md", "May I send it again?")
[SANDBOX] = taken("sandbox.md", "On a port")
[ADD_STORE] = taken("command-line.md", "Stores")
[SYNC] = taken("command-line.md", "Sync")
[SEND_EVENT] = taken("command-line.md", "Webhook")
[WITH_REDIS] = taken("deployment.md", "Several hosts: Redis")
[REDIS_SETTINGS] = taken("deployment.md", "Several hosts: Redis", "ini")
[ROWS_OF_A_SHOP] = blocks(DOCS / "spreadsheet.md", language="csv")
[DRY_RUN] = taken("spreadsheet.md", "2. Match the columns")
[REFUSED] = taken("spreadsheet.md", "2. Match the columns", "json")
[REHEARSE] = taken("spreadsheet.md", "3. Rehearse")
[IMPORT] = taken("spreadsheet.md", "4. Import")

SNIPPETS = {
    ("mounting.md", "Mounting"): (
        f'print(app.test_client().get("{API}/customers").status_code)',
        "200\n",
    ),
    ("mounting.md", "In a factory"): (
        'print(create_app().test_client().get("/newsletter").json)',
        "{'readers': 2}\n",
    ),
    ("mounting.md", "Two stores"): (
        """
served = app.test_client().get("/outlet/openapi.json").json["servers"]
print(served, app.test_client().get("/outlet/customers").status_code)
""",
        f"{API}/customers /outlet/customers\n[{{'url': '/outlet'}}] 200\n",
    ),
    ("mounting.md", "Your own authentication"): (
        f"""
client = app.test_client()
with client.session_transaction() as anna:
    anna["staff"] = "anna"
print(client.get("{API}/customers").status_code)
print(client.post("{API}/delete_customer/5", content_type="application/json").status_code)
print(app.test_client().get("{API}/customers").status_code)
""",
        "200\n403\n401\n",
    ),
    ("mounting.md", "Options"): (
        """
client = create_app().test_client()
print(client.get("/shop/customers").status_code, client.get("/shop/openapi.json").status_code)
""",
        "200 200\n",
    ),
    ("mounting.md", "Beside other extensions"): (
        f"""
write = app.test_client().post
for origin in ("https://evil.example.com", "http://localhost"):
    print(write("{API}/delete_customer/172890169", headers={{"Origin": origin}}).status_code)
""",
        "403\n200\n",
    ),
    ("mounting.md", "Behind a proxy, below a prefix"): (
        f"""
outer = {{"X-Forwarded-Prefix": "/eu"}}
print(app.test_client().get("{API}/openapi.json", headers=outer).json["servers"])
""",
        f"[{{'url': '/eu{API}'}}]\n",
    ),
    ("mounting.md", "Without Flask"): ("", "customer@example.com\ndemo.second@example.com\n"),
    ("changes.md", "React to a change"): (
        f"""
from tests.helpers.webhook_events import delivery_of, event_of

def deliver(customer_id):
    event = delivery_of(event_of(entityId=customer_id))
    status = app.test_client().post("{API}/webhooks", **event).status_code
    print(status, sorted(readers), len(emails))

with app.app_context():
    shop.client.update_customer(172890169, {{"acceptMarketing": True}})
    deliver(172890169)
    shop.client.delete_customer(172890169)
    deliver(172890169)
""",
        "200 ['demo.second@example.com'] 1\n200 [] 0\n",
    ),
    ("changes.md", "Personal data requests"): (
        f"""
from tests.helpers.webhook_events import delivery_of, event_of

event = delivery_of(event_of("customer.personalDataRemovalRequest"))
print(app.test_client().post("{API}/webhooks", **event).status_code, to_confirm)
""",
        "200 [('1003', 5, 'removal')]\n",
    ),
    ("changes.md", "Keep a copy"): (
        """
first = client.list_customers()["items"][0]
client.update_customer(first["id"], {"lang": "de"})
update_copy(client)
client.delete_customer(first["id"])
update_copy(client)
[[count]] = copy.execute("SELECT count(*) FROM customers")
print(count, len(client.list_customers()["items"]))
""",
        "4\n3 3\n",
    ),
    ("security.md", "Other origins"): (
        f"""
for origin in ("https://app.example.com", "https://other.example.com"):
    response = app.test_client().get("{API}/customers", headers={{"Origin": origin}})
    print(response.headers.get("Access-Control-Allow-Origin"))
""",
        "https://app.example.com\nNone\n",
    ),
}


def test_every_block_is_run() -> None:
    """Every sh or python block runs here or in the named test, or has a reason why not."""
    found = {(page, where) for page in PAGES for where in headings(DOCS / page)}
    elsewhere = {(page, where) for page, where in found if page in PAGES_ELSEWHERE}
    assert found == _taken | set(SNIPPETS) | set(NOT_HERE) | elsewhere
    for page, test in PAGES_ELSEWHERE.items():
        assert page in (ROOT / "tests" / test).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "heading"), SNIPPETS)
def test_snippets(page: str, heading: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each snippet of Python works as its page says."""
    monkeypatch.chdir(tmp_path)  # Some snippets write files.
    monkeypatch.setenv("SECRET_KEY", secrets.token_hex())
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the helpers of the tests
    [snippet] = blocks(DOCS / page, heading, "python")
    then, printed = SNIPPETS[page, heading]
    assert python(snippet, then) == printed


EXAMPLES = {
    "README.md": (ROOT / "README.md").read_text(encoding="utf-8"),
    **{page: (DOCS / page).read_text(encoding="utf-8") for page in PAGES},
    "EcwidClient": EcwidClient.__doc__ or "",
}
GIVEN = re.compile(r"""\b(?:ECWID_)?(TOKEN|API_KEYS)=\[?["']?([^\s"'\],)]+)""", re.IGNORECASE)


def test_no_example_can_start() -> None:
    """The settings refuse the token and the API keys of every example."""
    given = [(page, *found) for page, text in EXAMPLES.items() for found in GIVEN.findall(text)]
    assert {page for page, *_ in given} >= {
        "README.md",
        "tutorial.md",
        "deployment.md",
        "EcwidClient",
    }
    for page, name, value in given:
        config = {"ECWID_STORE_ID": "1003", f"ECWID_{name.upper()}": value}
        with pytest.raises(SettingsError) as caught:
            Settings.from_config(config)
        assert any(each.startswith(f"ECWID_{name.upper()} ") for each in caught.value.faults), page
        assert value.endswith("..."), page


@pytest.mark.parametrize("page", EXAMPLES)
def test_no_example_has_a_secret(page: str) -> None:
    """An example has neither a digest nor a secret key that a reader could copy."""
    assert re.findall(r"\b[0-9a-fA-F]{64}\b|secret_key *= *[\"'].*", EXAMPLES[page]) == []


def test_the_options_of_the_constructor() -> None:
    """The docstring of the constructor describes each argument, in their order."""
    described = (inspect.getdoc(Ecwid.__init__) or "").partition("Args:")[2].partition("Raises:")[0]
    names = re.findall(r"^    (\w+): ", described, re.M)
    assert names == list(inspect.signature(Ecwid).parameters)


def test_the_contract_is_printed() -> None:
    """The command of the page on the contract prints the contract."""
    [line] = re.findall(r"`(flask ecwid openapi)`", (DOCS / "contract.md").read_text("utf-8"))
    assert sh(line).stdout.startswith("openapi: 3.0.3")


def test_a_store_is_added(tmp_path: Path) -> None:
    """The command of the page makes the stores file, and prints a new API key once."""
    tmp_path.chmod(0o700)
    (tmp_path / "token.txt").write_text(TOKEN, encoding="utf-8")
    done = sh(ADD_STORE, tmp_path, ECWID_STORES=str(tmp_path / "stores.json"))
    assert (done.returncode, done.stdout.count("key: ")) == (0, 1), done.stderr


def test_the_command_of_a_copy(tmp_path: Path) -> None:
    """The command of the page makes a copy of the customers."""
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    done = sh(SYNC, tmp_path, ECWID_SANDBOX="on")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "customers.sqlite").is_file()


def test_the_command_of_an_event(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The command of the page sends an event to the default URL of the plugin."""
    httpserver.expect_request(f"{API}/webhooks", method="POST").respond_with_data("")
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    line = SEND_EVENT.replace("http://127.0.0.1:5000/", httpserver.url_for("/"))
    done = sh(line, tmp_path, ECWID_SANDBOX="on", ECWID_CLIENT_SECRET=secrets.token_hex())
    assert (done.returncode, done.stdout[:4]) == (0, "200:"), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Follow the quick start in a new folder, and return the folder."""
    path = tmp_path_factory.mktemp("quick start")
    (path / "shop.py").write_text(SHOP, encoding="utf-8")
    shutil.copy(ROOT / "gunicorn.conf.py", path)
    return path


@pytest.fixture(scope="module")
def on_sandbox(folder: Path) -> Iterator[str]:
    """Run the app of the quick start, and return its URL."""
    install, start = START.splitlines()
    assert install == "pip install ."
    port = free_port()
    with running(start.replace("8001", str(port)), folder) as process:
        wait_for(f"http://127.0.0.1:{port}/readers", process)
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("line", [*commands(CALLS[0]), *MOUNTED.splitlines()])
def test_calls_of_the_quick_start(on_sandbox: str, line: str) -> None:
    """Each call of the quick start succeeds."""
    assert curl(line, on_sandbox)[0] == 200


def test_the_view_of_the_quick_start(on_sandbox: str) -> None:
    """The app's own view counts the customers of the store."""
    assert curl(MOUNTED.splitlines()[1], on_sandbox) == (200, '{"readers":2}\n')


@pytest.mark.parametrize("line", [commands(CALLS[0])[2], ONCE.strip()])
def test_once(on_sandbox: str, line: str) -> None:
    """A repeated creation with the same Idempotency-Key gets the same response."""
    first, again = curl(line, on_sandbox), curl(line, on_sandbox)
    assert first[0] == 200
    assert again == first


def test_the_problem(on_sandbox: str) -> None:
    """The problem on the page is the problem that the service sends, with another id."""
    status, body = curl(WRONG, on_sandbox)
    came, shown = json.loads(body), json.loads(PROBLEM)
    assert status == 400
    shown["instance"] = shown["instance"].replace(shown["request_id"], came["request_id"])
    assert came == {**shown, "request_id": came["request_id"]}


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """Run a store on another server, as the page on the sandbox does, and return its settings."""
    with running(SANDBOX.strip().replace("8100", str(free_port()))) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().partition("=") for _ in range(4)]
        assert [key for key, _, _ in lines] == [
            *("ECWID_API_URL", "ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_AUTH")
        ]
        yield {key: value for key, _, value in lines}


def of_this_store(settings: str, store: dict[str, str]) -> str:
    return settings.replace("ECWID_STORE_ID=1003", f"ECWID_STORE_ID={store['ECWID_STORE_ID']}")


def test_a_real_store(folder: Path, store: dict[str, str], tmp_path: Path) -> None:
    """The quick start goes from the sandbox to a store with a key, and to gunicorn."""
    lines = sh(MAKE_KEY, folder).stdout.splitlines()
    key, entry = (line.partition(": ")[2] for line in lines)
    example = REAL_SETTINGS.replace("warehouse:read+write:...", entry)
    example = example.replace("secret_...", store["ECWID_TOKEN"])
    (folder / "ecwid.env").write_text(of_this_store(example, store), encoding="utf-8")
    settings, check, run = REAL.splitlines()
    url = store["ECWID_API_URL"]
    checked = sh(f"{settings}\n{check}", folder, ECWID_API_URL=url)
    assert checked.returncode == 0
    assert checked.stdout.startswith("store: Ecwid replied in ")

    install, gunicorn = SERVE.splitlines()
    assert install == "pip install '.[server]'"
    for command, option in ((run, "--port {}"), (gunicorn, "--bind 127.0.0.1:{}")):
        port = free_port()
        started = f"{settings}\n{command} {option.format(port)}"
        with running(started, folder, ECWID_API_URL=url) as process:
            wait_for(f"http://127.0.0.1:{port}/readers", process)
            served = f"http://127.0.0.1:{port}"
            for sent, status in ((key, 200), ("KEY", 401)):
                header = tmp_path / "key.txt"
                header.write_text(f"Authorization: Bearer {sent}\n", encoding="utf-8")
                line = CALL_WITH_KEY.replace("@key.txt", f"'@{header}'")
                assert curl(line, served)[0] == status


def test_a_spreadsheet(store: dict[str, str], tmp_path: Path) -> None:
    """The commands of the page bring the rows of a spreadsheet into a store."""
    app = {"FLASK_APP": str(ROOT / "wsgi.py")}
    rows = tmp_path / "customers.csv"
    rows.write_text(ROWS_OF_A_SHOP, encoding="utf-8")
    checked = sh(DRY_RUN, tmp_path, **app)
    assert (checked.returncode, checked.stderr) == (1, "2 valid rows, 1 invalid\n")
    assert (tmp_path / "refused.jsonl").read_text(encoding="utf-8") == REFUSED
    rows.write_text(ROWS_OF_A_SHOP.replace("uk", "gb"), encoding="utf-8")
    rehearsed = sh(REHEARSE, tmp_path, **app)
    assert (rehearsed.returncode, rehearsed.stderr) == (0, "")
    with (tmp_path / "rehearsal.csv").open(encoding="utf-8-sig", newline="") as file:
        emails = [row["email"] for row in csv.DictReader(file)]
    assert len(emails) == 4 + 3
    assert {"ada@example.com", "grace@example.com", "alan@example.com"} <= set(emails)
    settings, _ = filled_in(REAL_SETTINGS, store["ECWID_TOKEN"])
    (tmp_path / "ecwid.env").write_text(of_this_store(settings, store), encoding="utf-8")
    imported = sh(IMPORT, tmp_path, ECWID_API_URL=store["ECWID_API_URL"], **app)
    assert (imported.returncode, imported.stderr) == (0, "")
    assert (tmp_path / "refused.jsonl").read_bytes() == b""


def test_with_redis(redis: RedisServer, store: dict[str, str], tmp_path: Path) -> None:
    """The workers of gunicorn count their calls in the Redis of their settings."""
    install, settings, serve = WITH_REDIS.splitlines()
    assert install == "pip install '.[server,redis]'"
    for name in ("wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, tmp_path)
    example, api_key = filled_in(REDIS_SETTINGS, store["ECWID_TOKEN"])
    example = of_this_store(example, store).replace("redis://127.0.0.1:6379/0", redis.url)
    (tmp_path / "ecwid.env").write_text(example, encoding="utf-8")
    port = free_port()
    started = f"{settings}\n{serve} --bind 127.0.0.1:{port}"
    with running(started, tmp_path, ECWID_API_URL=store["ECWID_API_URL"]) as process:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        customers = f"http://127.0.0.1:{port}{API}/customers"
        response = requests.get(customers, headers={"X-API-Key": api_key}, timeout=30)
        assert response.status_code == 200
    assert redis.client.keys()


# Each setting's default and range. The last settings do not belong to the plugin.
DECLARED: dict[str, tuple[Any, str]] = {
    f"ECWID_{spec.name.upper()}": (spec.default, spec.metadata["rule"].allowed)
    for spec in fields(Settings)
}
DECLARED |= {
    "ECWID_METRICS": (False, "on or off"),
    "ECWID_PIN_WORKERS": (True, "on or off"),
    "ECWID_TRUSTED_PROXIES": (0, "from 0 to 9"),
}
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(ECWID_\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", SETTINGS, re.M)


def test_every_setting_is_documented() -> None:
    """The table of settings has one row for each setting, in the order of the declarations."""
    assert [key for key, *_ in ROWS] == list(DECLARED)


@pytest.mark.parametrize(("key", "default", "allowed", "meaning"), ROWS)
def test_a_row_agrees_with_its_declaration(
    key: str, default: str, allowed: str, meaning: str
) -> None:
    """A row has the default and the range of the declaration, and explains the setting."""
    value, declared = DECLARED[key]
    if key == "ECWID_SANDBOX" or value is False:
        shown = "off"
    elif value is True:
        shown = "on"
    else:
        shown = f"{value:g}" if isinstance(value, (float, int)) else value or "none"
    assert (default.strip("`"), allowed) == (shown, declared)
    assert meaning.strip()


def test_the_rules_for_a_token() -> None:
    """The settings refuse each example of a placeholder on the page, and accept the others."""
    rules, _, others = SETTINGS.partition("## Refused tokens")[2].partition("\n\nAny other")
    [words] = [each for each in rules.split("\n- ") if "such a word" in each]
    listed = [word.strip("`") for word in re.findall(r"`[^`]*`", words) if word != "`secret_`"]
    assert {"xxx", "todo", "changeme", "change_me", "change-me"} < {*listed}
    for word in listed:
        for token in (f"secret_{word}", f"secret_1{word.upper()}2"):
            with pytest.raises(ValueError, match="is a placeholder"):
                StoreCredentials("1003", token)
        StoreCredentials("1003", f"secret_{word:1<32}")
    examples = re.findall(r"`(secret_\w+)`", others.partition("\n## ")[0])
    assert len(examples) == 2
    assert [StoreCredentials("1003", token).token for token in examples] == examples


ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")


def kinds(of: type[EcwidError] = EcwidError) -> Iterator[type[EcwidError]]:
    """Return every class of error that has a type of its own."""
    for kind in of.__subclasses__():
        # Classes of tests are left out.
        if hasattr(kind, "slug") and kind.__module__ == errors.__name__:
            yield kind
        yield from kinds(kind)


def statuses(kind: type[EcwidError]) -> set[int]:
    if kind is not errors.Rejected:
        return {kind.status}
    refusals = range(400, 600)
    named = [
        replies.error_from_status(OPERATIONS["add_customer"], n, None, None, body="object")
        for n in refusals
    ]
    return {error.status for error in named if isinstance(error, errors.Rejected)}


def test_every_problem_is_documented() -> None:
    """The page on errors has exactly the types of problems in errors.py."""
    ours: dict[str, list[type[EcwidError]]] = defaultdict(list)
    for kind in kinds():
        ours[kind.slug].append(kind)
    rows = re.findall(
        r"^\| `([a-z-]+)` \| ([\d, ]+) \| (\w+) \| (\w+) \| (.*?) \| .+ \|$", ERRORS, re.M
    )
    documented = {
        slug: ({int(n) for n in status.split(", ")}, origin, executed, re.findall(r"\w+", classes))
        for slug, status, origin, executed, classes in rows
    }
    assert len(documented) == len(rows)
    assert documented == {
        slug: (statuses(first), first.origin, first.executed, [kind.__name__ for kind in of])
        for slug, of in ours.items()
        for first in of[:1]
    }


def test_kinds_of_one_type_are_alike() -> None:
    """Errors of the same type have the same status, origin and executed."""
    for kind in kinds():
        for parent in kind.__mro__[1:]:
            if getattr(parent, "slug", None) == kind.slug:
                for name in ("status", "origin", "executed"):
                    assert getattr(kind, name, None) == getattr(parent, name, None)


def test_every_member_of_a_problem_is_documented() -> None:
    """The page on errors explains every member that the contract gives a problem."""
    members = contract.load().document["components"]["schemas"]["Problem"]["properties"]
    table = ERRORS.partition("| member |")[2].partition("\n\n")[0]
    documented = [
        name for first in re.findall(r"^\| (`.*?) \|", table, re.M) for name in first.split(", ")
    ]
    assert sorted(name.strip("`") for name in documented) == sorted(members)


def test_the_version_is_one() -> None:
    """The package, the contract and the newest changes have the same version."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    in_contract = contract.load().document["info"]["version"]
    assert setup["metadata"]["version"] == in_contract == newest[1]


ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "flask_ecwid"
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))


def tree() -> list[str]:
    """Return the packages and modules of the tree on the page, in its order."""
    [block] = re.findall(r"## The packages\n.*?^```\n(.*?)^```$", ARCHITECTURE, re.M | re.S)
    named, package = [], ""
    for indent, name in re.findall(r"^( *)(\S+) ", block, re.M):
        package = "" if not indent else package
        named.append(package + name)
        package = name if name.endswith("/") else package
    return named


def test_every_module_is_on_the_page() -> None:
    """The architecture page names each module of the package once, and no other."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    paths = sorted(path.relative_to(PACKAGE).as_posix() for path in modules)
    assert sorted(name for name in tree() if name.endswith(".py")) == paths


def test_the_page_has_the_import_order() -> None:
    """The architecture page lists packages and modules in the order of their imports."""
    top = [name.removesuffix("/").removesuffix(".py") for name in tree() if "/" not in name[:-1]]
    assert top == [*LAYOUT, "sandbox"]


def test_every_file_that_the_page_names_exists() -> None:
    """Every file that the architecture page and the decisions name exists."""
    pages = [ARCHITECTURE, *(page.read_text("utf-8") for page in DECISIONS)]
    named = {path for page in pages for path in re.findall(r"\b\w+/[\w/]+\.(?:py|yaml)\b", page)}
    assert len(named) > 30
    assert [path for path in named if not any((at / path).exists() for at in (PACKAGE, ROOT))] == []


def test_every_decision_is_listed() -> None:
    """The list of decisions links to each record by its title, in the order of the numbers."""
    listed = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|$", listed, re.M)
    assert [name for *_, name in rows] == [page.name for page in DECISIONS]
    for number, title, name in rows:
        first = (DOCS / "decisions" / name).read_text(encoding="utf-8").splitlines()[0]
        assert (first, int(name[:4])) == (f"# {number}. {title}", int(number))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_is_complete(page: Path) -> None:
    """A record has the decision, its reasons, its costs, and the moment to look at it again."""
    titles = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.M)
    assert titles == ["Decision", "Why", "Cost", "Look again when"]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_no_command_line_has_a_secret(name: str) -> None:
    """No command of a page has a secret or an e-mail of a search among its words.

    All users of a host can see the arguments of a command, and a shell keeps its lines.
    """
    secret = r"(TOKEN|API_KEYS|REDIS_URL|PROXY_URL)=|Bearer|X-API-Key|--where[= ](email|name)="
    lines = [line for block in blocks(ROOT / name) for line in commands(block)]
    assert [line for line in lines if re.search(secret, line)] == []


RATES = {"more than 24 words": 8, "semicolon": 0.5, "colon": 0.5, "subject": 0.5}


def test_the_pages_are_plain() -> None:
    """The pages have few sentences that break a rule of plain English, per 1,000 words."""
    pages = [(ROOT / "README.md"), *(DOCS / page for page in PAGES)]
    texts = {page.relative_to(ROOT): page.read_text(encoding="utf-8") for page in pages}
    words = sum(len(each.text.split()) for text in texts.values() for each in prose(text))
    found = [(page, *fault) for page, text in texts.items() for fault in faults_of_page(text)]
    assert words > 20_000
    for rule, most in RATES.items():
        broken = [each for each in found if each[2] == rule]
        assert len(broken) <= most * words / 1000, "\n".join(map(str, broken))


LINKING = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md"]


@pytest.mark.parametrize("name", [*LINKING, *(f"docs/{page}" for page in PAGES)])
def test_links(name: str) -> None:
    """Every link of a page leads to an existing file and heading."""
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]*))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def build(folder: Path, into: Path) -> subprocess.CompletedProcess[str]:
    return sh(f"mkdocs build --strict --site-dir '{into}'", folder, NO_MKDOCS_2_WARNING="1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site with `make docs`, and return its folder."""
    into = tmp_path_factory.mktemp("site")
    done = build(ROOT, into)
    assert done.returncode == 0, done.stderr
    return into


def test_every_page_is_on_the_site(site: Path) -> None:
    """The site builds without a warning and has every page, and the README as the first."""
    assert "Why not call Ecwid directly?" in (site / "index.html").read_text(encoding="utf-8")
    for page in PAGES:
        built = re.sub(
            r"README\.md$|\.md$", lambda end: {".": ".html"}.get(end[0][0], "index.html"), page
        )
        assert (site / built).is_file(), page


def test_the_python_api_is_on_the_site(site: Path) -> None:
    """The site shows the docstring of each public name, and of the names for tests."""
    shown = "".join(
        (site / page).read_text(encoding="utf-8") for page in ("api.html", "sandbox.html")
    )
    anchors = set(re.findall(r' id="flask_ecwid\.([\w.]+)"', shown))
    assert {*flask_ecwid.__all__} - {"EcwidError"} <= anchors
    assert {"oauth.exchange_code", "testing.EcwidSandbox", "sandbox.Fault"} <= anchors
    for method in dir(EcwidClient):
        if method in OPERATIONS or method.startswith(("iter_", "put_", "find_")):
            assert f"EcwidClient.{method}" in anchors


@pytest.mark.parametrize("page", [page for page in PAGES if "\n::: " in EXAMPLES[page]])
def test_where_the_docstrings_are(page: str) -> None:
    """A page of docstrings says at its top how a reader in the repository finds them."""
    top, _, rest = EXAMPLES[page].partition("\n## ")
    assert "`make docs`" in top
    [named] = re.findall(r"`python -m pydoc ([\w.]+)`", top)
    directives = re.findall(r"^::: ([\w.]+)$", rest, re.M)
    assert named in directives
    assert f"`::: {named}`" in top
    for directive in directives:
        assert inspect.getdoc(pydoc.locate(directive)), directive
    file = (inspect.getsourcefile(pydoc.locate(named)) or "").removeprefix(f"{ROOT}/")  # type: ignore[arg-type]
    assert any(file.startswith(path) for path in re.findall(r"`(flask_ecwid/[\w./]*)`", top))


def test_the_search_parameters_are_on_the_site(site: Path) -> None:
    """The page on the contract has a row for each search parameter."""
    page = (site / "contract.html").read_text(encoding="utf-8")
    page = page.replace("<wbr>", "")
    rows = re.findall(r"<tr>\s*<td><code>(\w+)</code></td>\s*<td>\w+</td>", page)
    known = contract.load().operations["list_customers"].parameters
    assert sorted(rows) == sorted(name for place, name in known if place == "query")


def test_tables_fit_a_phone(site: Path) -> None:
    """Names in a table may break between words, and sentences after three columns are marked."""
    page = (site / "settings.html").read_text(encoding="utf-8")
    assert "<td><code>ECWID_<wbr>STORE_<wbr>ID</code></td>" in page
    assert "<p><code>ECWID_DEADLINE_S</code> should" in page
    assert page.count("<table data-long>") == page.count("<table") == 1
    page = (site / "errors.html").read_text(encoding="utf-8")
    assert "<td><code>Idempotency<wbr>Key<wbr>Reused</code></td>" in page
    assert page.count("<table data-long>") == page.count("<th>what to do</th>") == 5
    assert "<table>" in page


def test_options_stay_whole(site: Path) -> None:
    """An option in a sentence or a table does not break after its hyphens."""
    page = (site / "command-line.html").read_text(encoding="utf-8")
    code = "".join(re.findall(r"(?<!</span>)<code>((?:[^<]|<wbr>|</?span[^>]*>)+)</code>", page))
    assert '<span class="whole">--store-id</span>' in code
    assert not re.search(r"(?<![\w>-])--[a-z]", re.sub(r"<span.*?</span>", "", code))


def test_nothing_of_the_site_is_elsewhere(site: Path) -> None:
    """A page of the site loads nothing from another server."""
    loaded = r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)|<link\b[^>]*\bhref="([^"]+)'
    for page in site.rglob("*.html"):
        found = [a or b for a, b in re.findall(loaded, page.read_text(encoding="utf-8"))]
        assert found
        assert [each for each in found if re.match(r"(\w+:)?//", each)] == []
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(url\(|@import )[\"']?(https?:)?//", style.read_text(encoding="utf-8")
        )


def test_lists_are_lists(site: Path) -> None:
    """A list or table in the repository is a list or table on the site."""
    for page in site.rglob("*.html"):
        for paragraph in re.findall(r"<p>(.*?)</p>", page.read_text(encoding="utf-8"), re.S):
            assert not re.search(r"^(- |\d+\. |\| )", paragraph, re.M), (page.name, paragraph[:200])


@pytest.mark.parametrize("name", ["ecwid_shop.py", "ecwid-shop.ts"])
def test_the_modules_are_on_the_page(site: Path, name: str) -> None:
    """The page about clients shows both modules as the tests run them."""
    page = (site / "clients.html").read_text(encoding="utf-8")
    shown = unescape(re.sub(r"<[^>]*>", "", page))
    assert (DOCS / "clients" / name).read_text(encoding="utf-8").strip() in shown


def test_a_broken_page_ends_the_build(tmp_path: Path) -> None:
    """A page outside the navigation, a broken link and a broken anchor each end `make docs`."""
    for name in ("docs", "openapi", "benchmarks/results", "flask_ecwid"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "clients").mkdir()
    pages = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
    files = (*pages, "mkdocs.yml", "mkdocs_hooks.py")
    for name in (*files, "benchmarks/README.md", "clients/spectral.yaml", "clients/redocly.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "docs" / "lost.md").write_text(
        "[a](nowhere.md) [b](errors.md#nowhere) [c](../nowhere.py) [d](/errors.md)",
        encoding="utf-8",
    )
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    warned = re.findall(r"WARNING -  ((?:.+:\n)?.+)", built.stderr)
    assert ["lost.md" in each for each in warned] == [True] * 5, built.stderr
