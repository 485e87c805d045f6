"""Switches off each guard of the plugin, one at a time, and sees that the tests notice.

    python tests/mutants.py [NAME ...]          make mutants

A mutant is a copy of the work tree in which one piece of text stands for another. It lives on if
its tests stay green: then nobody guards the guard, and the exit status is 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = [
    *("flask_ecwid", "flask_ecwid_plugins", "openapi", "tests", "docs", "benchmarks/results"),
    *("README.md", "setup.cfg", "pyproject.toml", "gunicorn.conf.py", "wsgi.py", "Makefile"),
]


class Mutant(NamedTuple):
    """In `module` the text `old`, which is there once, becomes `new`; `tests` must notice."""

    name: str
    module: str
    old: str
    new: str
    tests: str


MUTANTS = [
    Mutant(
        "no deadline below requests",
        "client.deadline",
        "left_s = self.deadline - clock.now()",
        "left_s = 1e6",
        "tests/client/test_transport.py",
    ),
    Mutant(
        "no deadline for repeated calls",
        "client.retries",
        "return clock.now() + wait_s < moment and clock.sleep(wait_s)",
        "return clock.sleep(wait_s)",
        "tests/client/test_gateway.py",
    ),
    Mutant(
        "redirects followed",
        "client.transport",
        "        try:\n            body = _received(",
        '        if response.headers.get("location"):\n'
        '            request.url = response.headers["location"]\n'
        "            return self._exchange(request, attempt)\n"
        "        try:\n            body = _received(",
        "tests/client/test_faults.py -k redirect",
    ),
    Mutant(
        "no lookup of a lost creation",
        "client.retries",
        'if call.operation.kind == "create" and error.needs_reconciliation:\n            # The',
        "if False:\n            # The",
        "tests/client/test_faults.py -k add_customer-closed",
    ),
    Mutant(
        "a lost creation made again",
        "errors",
        "    retries = Retries(2, 1)\n    needs_reconciliation = True\n    trips_breaker = True\n"
        "\n\nclass DeadlineExceeded",
        "    retries = Retries(2, 1, 1)\n    needs_reconciliation = True\n    trips_breaker = True\n"  # noqa: E501
        "\n\nclass DeadlineExceeded",
        "tests/client/test_faults.py -k add_customer-closed",
    ),
    Mutant(
        "nothing happened, though it may have",
        "client.retries",
        '        error.executed = "unknown"\n',
        "        pass\n",
        "tests/client/test_gateway.py",
    ),
    Mutant(
        "any customer with the e-mail is ours",
        "client.reconcile",
        "if registered >= int(since - CLOCKS_DIFFER_S) and _matches(compared, item):",
        "if True:",
        "tests/client/test_faults.py -k found",
    ),
    Mutant(
        "no latch",
        "throttling.guard",
        "        if error.pause_s:\n",
        "        if False:\n",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "no probe behind the latch",
        "throttling.guard",
        "return replace(admission, held=self._latch.claimed(held))",
        "return replace(admission, held=held)",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "two hosts go first",
        "throttling.guard",
        "mine = self._compare_and_swap(before, after)",
        "self._compare_and_swap(before, after)",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "a look that is forgotten",
        "throttling.guard",
        "                    self._known, self._owed = found, None",
        "                    self._owed = None",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "a closing that is not owed",
        "throttling.guard",
        "found = self._told(owed) if owed else self._read()",
        "found = self._read()",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "a look that overwrites a pause",
        "throttling.guard",
        "if not self._changing and self._changed == changed:",
        "if True:",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "a share spent twice while Redis is asked",
        "throttling.rate_limit",
        "(self._all.amount - remaining) - self._reserved",
        "(self._all.amount - remaining)",
        "tests/unit/test_budget.py",
    ),
    Mutant(
        "refusals that nobody explains",
        "throttling.guard",
        "if self._unexplained >= UNEXPLAINED_MOST:",
        "if False:",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "a pause after the lookups",
        "client.retries",
        "acquire = self._guard.acquire_for_search",
        "acquire = self._guard.acquire",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "clocks that are thought the same",
        "client.retries",
        "find_created(sent, page, since + ahead_s)",
        "find_created(sent, page, since)",
        "tests/client/test_faults.py -k found",
    ),
    Mutant(
        "any clock believed",
        "client.reconcile",
        "return ahead if ahead is not None and abs(ahead) <= CLOCKS_DIFFER_MOST_S else 0.0",
        "return ahead or 0.0",
        "tests/unit/test_lookup.py",
    ),
    Mutant(
        "a twin proves that nothing happened",
        "client.retries",
        '            taken.executed = "unknown"',
        "            pass",
        "tests/client/test_faults.py -k found",
    ),
    Mutant(
        "any 404 proves a deletion",
        "client.retries",
        "isinstance(error, CustomerNotFound) and error.by_ecwid",
        "isinstance(error, CustomerNotFound)",
        "tests/client/test_faults.py -k story",
    ),
    Mutant(
        "a resolver without a deadline",
        "clock",
        "return shared.result(timeout_s)",
        "return shared.result()",
        "tests/client/test_transport.py -k resolver",
    ),
    Mutant(
        "a resolver that holds Redis without a deadline",
        "storage.redis_connection",
        "addresses = names.addresses(connection.host, ends - clock.now())",
        "addresses = names.addresses(connection.host, 1e6)",
        "tests/unit/test_redis_link.py",
    ),
    Mutant(
        "a removed file of keys",
        "storage.state",
        "elif connection.file != _identity(connection.path):",
        "elif False:",
        "tests/unit/test_state.py",
    ),
    Mutant(
        "values of a removed file that come back",
        "storage.state",
        'removed.db.execute("DELETE FROM state")',
        "pass",
        "tests/unit/test_state.py",
    ),
    Mutant(
        "a connection to the state file carried over a fork",
        "storage.state",
        "os.register_at_fork(before=_close_before_fork)",
        "pass",
        "tests/unit/test_state.py",
    ),
    Mutant(
        "a busy file of keys gets no rest",
        "storage.state",
        "        self._cooldown.begin()\n",
        "",
        "tests/unit/test_state.py",
    ),
    Mutant(
        "a refusal kept that leaves open what happened",
        "web.idempotency",
        'if error.executed == "unknown" or tried_before:',
        "if tried_before and not isinstance(error, Rejected):",
        "tests/web/test_idempotency.py",
    ),
    Mutant(
        "no breaker",
        "throttling.guard",
        "            self._breaker.failed()\n",
        "            pass\n",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "no budget",
        "throttling.guard",
        "        self.budget.take()\n        admission",
        "        admission",
        "tests/unit/test_budget.py",
    ),
    Mutant(
        "an emptied Redis is believed",
        "throttling.rate_limit",
        "        if known >= self._all.amount - remaining:  # Redis was emptied\n",
        "        if False:\n",
        "tests/unit/test_budget.py",
    ),
    Mutant(
        "no limit of repeated calls",
        "throttling.guard",
        "return self._bucket.take(TIMEOUT_COST if timed_out else RETRY_COST)",
        "return True",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "no lease",
        "web.idempotency",
        'if earlier.state == "running" and now < earlier.lease_ends_at:',
        "if False:",
        "tests/web/test_idempotency.py",
    ),
    Mutant(
        "a lease for ever",
        "web.idempotency",
        'if found.state == "running" and now < found.lease:',
        'if found.state == "running":',
        "tests/web/test_idempotency.py",
    ),
    Mutant(
        "no look before a second creation",
        "web.idempotency",
        "since = found.since if found else None",
        "since = None",
        "tests/web/test_idempotency.py",
    ),
    Mutant(
        "a key for any body",
        "web.idempotency",
        "if earlier.body != fingerprint:",
        "if False:",
        "tests/web/test_idempotency.py",
    ),
    Mutant(
        "no cap on what is received",
        "client.transport",
        "        if left < 0:\n",
        "        if False:\n",
        "tests/client/test_faults.py -k 'MiB or bomb or memory'",
    ),
    Mutant(
        "a bomb inflated whole",
        "client.transport",
        "inflate.decompress(chunk, most)",
        "inflate.decompress(chunk)",
        "tests/client/test_faults.py -k memory",
    ),
    Mutant(
        "no check by the contract",
        "web.handlers",
        "contract.operations[operation].check_answer(200, document)",
        "pass",
        "tests/client/test_ecwid_replies.py",
    ),
    Mutant(
        "no log filter",
        "client.transport",
        "return not is_set()",
        "return True",
        "tests/client/test_transport.py -k logged",
    ),
    Mutant(
        "a rest of bytes overlooked",
        "client.transport",
        "        if attempt.has_rest:\n",
        "        if False:\n",
        "tests/client/test_faults.py -k 'extra or replies'",
    ),
    Mutant(
        "cut headers taken for whole ones",
        "client.deadline",
        "if self.fp.raw.has_ended:",
        "if False:",
        "tests/client/test_faults.py -k headers",
    ),
    Mutant(
        "waits that do not end",
        "clock",
        "    _stopping.set()",
        "    pass",
        "tests/client/test_guard.py",
    ),
    Mutant(
        "nobody asked who is calling",
        "web.connexion_api",
        "notes.caller = admit(operation)",
        "notes.caller = admit and None",
        "tests/web/test_auth.py",
    ),
    Mutant(
        "asked after the request was read",
        "web.connexion_api",
        "        notes.caller = admit(operation)\n"
        '        body = _body(max_body_bytes) if _has_body(operation) else b""\n',
        '        body = _body(max_body_bytes) if _has_body(operation) else b""\n'
        "        notes.caller = admit(operation)\n",
        "tests/web/test_auth.py",
    ),
    Mutant(
        "any scope will do",
        "web.authentication",
        "    if scope not in entry.scopes:\n",
        "    if False:\n",
        "tests/web/test_auth.py",
    ),
    Mutant(
        "the second of two keys",
        "web.authentication",
        'return bearer[1] if bearer and api_key is None else ""',
        'return bearer[1] if bearer else ""',
        "tests/web/test_auth.py",
    ),
    Mutant(
        "whatever looks true lets in",
        "web.authentication",
        "        if granted is True:\n",
        "        if granted:\n",
        "tests/web/test_auth.py",
    ),
    Mutant(
        "another site's page let in",
        "web.authentication",
        "    if operation.writes and _may_be_cross_site():\n",
        "    if False:\n",
        "tests/web/test_auth.py",
    ),
    Mutant(
        "an open store without a word",
        "settings",
        '        if not authorize and not values["api_keys"]:\n',
        "        if False:\n",
        "tests/web/test_auth.py",
    ),
    Mutant(
        "one Idempotency-Key for all callers",
        "web.idempotency",
        'f"{caller}\\n{key}"',
        'f"{key}"',
        "tests/web/test_auth.py",
    ),
    Mutant(
        "no line before a deletion",
        "web.connexion_api",
        '        if operation.scope == "delete":\n',
        "        if False:\n",
        "tests/web/test_audit.py",
    ),
    Mutant(
        "secrets that show",
        "secret",
        "return \"'***'\"",
        "return str.__repr__(self)",
        "tests/unit/test_secret.py",
    ),
    Mutant(
        "secrets that are pickled",
        "secret",
        'raise TypeError("a secret cannot be pickled")',
        "return super().__reduce_ex__(protocol)",
        "tests/unit/test_secret.py",
    ),
    Mutant(
        "a write after its time by another clock",
        "client.retries",
        ' or (call.operation.kind != "read" and clock.wall() >= ends_at)',
        "",
        "tests/client/test_gateway.py",
    ),
    Mutant(
        "time that ran out blamed on Ecwid",
        "client.retries",
        "            self._guard.release(admission)\n            raise _no_time_left()",
        "            pass",
        "tests/client/test_gateway.py",
    ),
    Mutant(
        "a call that went first and was never made",
        "throttling.guard",
        "            self._breaker.release()\n",
        "            pass\n",
        "tests/client/test_gateway.py",
    ),
    Mutant(
        "all violations of any document",
        "contract.schema",
        "        if _is_small(document):\n",
        "        if True:\n",
        "tests/web/test_refused_requests.py -k violations",
    ),
    Mutant(
        "an authorize that ends the service",
        "web.authentication",
        "    except BaseException as exc:",
        "    except Exception as exc:",
        "tests/web/test_auth.py -k refuses",
    ),
    Mutant(
        "no word about POSIX",
        "extension",
        "        _require_posix()\n",
        "",
        "tests/e2e/test_bystanders.py -k posix",
    ),
    Mutant(
        "a clock set back",
        "throttling.guard",
        "return left if left <= _HELD_MOST_S else 0.0",
        "return left",
        "tests/client/test_guard.py",
    ),
]


def main(names: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    for tests in dict.fromkeys(mutant.tests for mutant in chosen):
        assert _passes(tests), f"not even without a mutant: {tests}"
    living = 0
    for mutant in chosen:
        begun = time.monotonic()
        noticed = not _passes(mutant.tests, mutant)
        seconds = time.monotonic() - begun
        print(f"{'killed' if noticed else 'LIVES':7} {seconds:5.1f} s  {mutant.name}", flush=True)
        living += not noticed
    return 1 if living else 0


def _passes(tests: str, mutant: Mutant | None = None) -> bool:
    """Whether the tests pass in a copy; what else ends pytest is an error of this script."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, copy / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, copy / name)
        if mutant:
            module = copy / "flask_ecwid" / f"{mutant.module.replace('.', '/')}.py"
            text = module.read_text(encoding="utf-8")
            assert text.count(mutant.old) == 1, f"{mutant.name}: the text is not there once"
            module.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(
            f"{sys.executable} -m pytest -q -x -p no:cacheprovider {tests}",
            shell=True,
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode in (0, 1), f"pytest ended with {done.returncode}: {tests}"
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
