"""Play a plan in a world of its own, judge the ledger, and print the history for people."""

from __future__ import annotations

import hashlib
import traceback
import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import orjson

from flask_ecwid import Caller, EcwidClient, StoreCredentials, clock, contract
from flask_ecwid.cli import database, mirror
from flask_ecwid.client import ChangeIterator, CustomerDeleted, CustomerUnreadable
from flask_ecwid.client.open_stores import OpenStores
from flask_ecwid.client.opening import OpenStore, Upstream, open_upstream
from flask_ecwid.errors import EcwidError
from flask_ecwid.settings import Settings
from flask_ecwid.settings.rules import BY_HOST
from flask_ecwid.storage.work import piece_of_work
from flask_ecwid.web import handlers
from flask_ecwid.web.cache import CachedResponse
from flask_ecwid.web.context import RequestContext, request_var
from flask_ecwid.web.mount import Mount
from flask_ecwid.web.store_choice import HostStores, OnlyStore, StoreChoice

from . import seams
from .database import Database
from .ecwid_model import GONE, ONLY_STORE, SEEDS, UNFIT, Customer, Ecwid, is_invented, name_of
from .invariants import BACK_S, FINAL, Violation, judge
from .ledger import DEADLINE_S, Ledger, Request
from .network import Network, SimulatedTransport
from .plan import MIRROR_ID, Event, Plan
from .storage_model import HostFile, RedisServer, foreign, open_storage
from .world import Endless, Host, Killed, Line, Process, World

_CONTRACT = contract.load()
_SETTLED_S = 700.0  # after which each change is older than the search lag and the clocks allow


@dataclass(frozen=True)
class Result:
    """A history that was played."""

    plan: Plan
    violations: list[Violation]
    trace: list[Line]
    steps: int

    @property
    def digest(self) -> str:
        """A digest of the trace, which is the same whenever the plan is played."""
        return hashlib.blake2b(repr(self.trace).encode(), digest_size=8).hexdigest()


def play(plan: Plan) -> Result:
    """Play a plan, and judge its history."""
    world = World(plan.seed, plan.setting.preempt_p)
    with seams.installed(world, plan.setting):
        history = _History(plan, world)
        try:
            try:
                history.play()
            except Endless:
                history.ledger.is_endless = True
            history.close_ledger()
            violations = judge(history.ledger)
        finally:
            world.end()
            history.close()
    return Result(plan, violations, world.trace, world.steps)


class _History:
    """The playing of one plan."""

    def __init__(self, plan: Plan, world: World) -> None:
        setting = plan.setting
        self._plan, self._setting, self._world = plan, setting, world
        self._ecwid = Ecwid(world, setting)
        self._network = Network(world, setting, self._ecwid)
        self._redis = RedisServer(world, setting) if setting.redis else None
        self._hosts = [
            Host("ABC"[number], ahead_s, file=HostFile())
            for number, ahead_s in enumerate(setting.ahead_s)
        ]
        self._processes: list[Process] = []
        self._transports: list[tuple[Process, SimulatedTransport]] = []
        self._limits = [setting.calls_per_minute for _ in setting.processes]
        self._shop: dict[int, Customer] = {}
        self._pairs = list(setting.pairs)  # The tokens may change.
        stores = dict.fromkeys(pair.partition(" ")[0] for pair in setting.pairs)
        for store in stores or (ONLY_STORE,):
            shop, of_store = self._ecwid.shop(store), f" of {store}" if stores else ""
            targets = [
                self._ecwid.put(f"seed{n}@x.example", f"seed{n}{of_store}", shop, lag_s=-1.0).id
                for n in range(SEEDS)
            ]
        self.ledger = Ledger(plan, world, self._ecwid, self._network, targets, self._redis)
        for slot in range(len(setting.processes)):
            self._processes.append(self._start(slot))
        runs = [event for event in plan.events if event["do"] == "mirror"]
        self._database = Database(world) if runs else None
        self._mirrors: list[Request] = []  # one for each process that keeps the mirror

    # From the beginning to the end

    def play(self) -> None:
        """Play the events of the plan, end all faults, and ask for a sign of life."""
        world = self._world
        for event in self._plan.events:
            place = event.get("point") or event.get("transaction")
            if place:
                faults = world.faults if "point" in event else world.faults_of_transactions
                at_place = faults.setdefault((event["request"], place), [])
                at_place.append(lambda event=event: self._happen(event))  # type: ignore[misc]
            else:
                world.at(event["at"], self._happen, event)
        world.run()
        self._end_faults()
        self._look_after(world.time + BACK_S)
        world.run()
        if self._database:
            world.run(until=world.time + _SETTLED_S)
            self._begin_mirror({"host": 0, "limit": 4, "gaps_s": [0]}, is_final=True)
            world.run()
            self.ledger.mirror = self._database.copy()

    def close(self) -> None:
        if self._database:
            self._database.close()

    def close_ledger(self) -> None:
        ledger = self.ledger
        ledger.slots = [process.name for process in self._processes]
        for process, transport in self._transports:
            ledger.breaker_breaches += transport.host.breaches
            ledger.doubts.setdefault((process.name, ""), []).extend(transport.host.doubts)
            for token, breaker, retries in transport.watches:
                ledger.breaker_breaches += breaker.breaches
                ledger.doubts.setdefault((process.name, token), []).extend(breaker.doubts)
                if retries.debt:
                    ledger.retry_debts.append((process.name, retries.debt))
        ledger.stuck = [
            task.name for task in self._world.tasks if not task.done and not task.process.dead
        ]

    def _end_faults(self) -> None:
        self._world.log("ALL FAULTS END")
        self.ledger.faults_ended_at = self._world.time
        self._world.faults.clear()
        self._world.faults_of_transactions.clear()
        self._network.healed = True
        self._network.slow = (-1.0, 0.0, None)
        self._ecwid.refusing.clear()
        self._ecwid.blocked_until.clear()
        self._ecwid.evil = None
        for host in self._hosts:
            host.file.gone_until = host.file.slow_until = host.file.locked_until = -1.0
        if self._redis:
            self._redis.mode, self._redis.healed = "up", True
        for slot, process in enumerate(self._processes):
            if process.dead or process.stopping:
                self._restart(slot)

    def _look_after(self, time: float) -> None:
        """Send a read to each process and a creation for each key, and again if they fail.

        The creations come one after the other, because a small rate limit is for one at a time.
        """
        world, number = self._world, 1000
        requests = self.ledger.requests
        written = [each.target for each in requests if each.operation in ("update", "delete")]
        target = written[-1] if written else 0
        well = self._well_pairs()
        keys = {each.own_key: each for each in requests if each.own_key}
        if self._pairs:
            keys = {key: each for key, each in keys.items() if each.store in well}
        pairs = list(well.values()) or [0]
        slots = [] if self._pairs and not well else range(len(self._processes))
        for _ in range(4):
            world.run(until=time)
            is_done = True
            for slot in slots:
                if not self._has_final(slot=slot):
                    number, is_done = number + 1, False
                    mount, pair = number % self._setting.mounts, pairs[slot % len(pairs)]
                    self._request(number, slot, "get", target, None, mount, pair, is_final=True)
            for key, first in keys.items():
                if not self._has_final(key=key):
                    number, is_done = number + 1, False
                    world.run()
                    world.run(until=world.time + 61)
                    slot = number % len(self._processes)
                    pair = well[first.store] if well else 0
                    of_key = "create", first.target, first.key, first.mount, pair
                    self._request(number, slot, *of_key, is_final=True)
            if is_done:
                break
            world.run()
            time = world.time + 35
        # A second read sees what the first reads have delivered to Redis.
        world.run()
        world.run(until=world.time + 1)
        for slot in slots:
            pair = pairs[slot % len(pairs)]
            self._request(number + slot + 1, slot, "get", target, pair=pair, is_final=True)

    def _well_pairs(self) -> dict[str, int]:
        """Return a pair of each store of many whose token Ecwid has never refused."""
        refused = {each["token"] for each in self._plan.events if each["do"] == "refuse"}
        refused |= {token for _, token in self._ecwid.blocks}
        return {
            pair.partition(" ")[0]: number
            for number, pair in enumerate(self._pairs)
            if not is_invented(pair) and pair not in refused and "*" not in refused
        }

    def _has_final(self, *, slot: int | None = None, key: tuple[str, str] | None = None) -> bool:
        return any(
            each.is_final
            and each.own_key == key
            and (slot is None or each.slot == slot)
            and (each.outcome in FINAL or each.outcome == "customer-not-found")
            for each in self.ledger.requests
        )

    # Processes

    def _start(self, slot: int) -> Process:
        """Start a process, which opens its store as a worker does."""
        return self._start_on(self._hosts[self._setting.processes[slot]], slot)

    def _start_on(self, host: Host, slot: int) -> Process:
        """Start a process on a host, with the settings of a slot."""
        world, number = self._world, len(self.ledger.processes) + 1
        limit = self._limits[slot]
        process = Process(f"{host.name}{number}", host, number, world.time, limit)
        world.building = world.processes[number] = process
        settings = _settings(self._setting, self._setting.tokens[slot], limit)
        process.mounts = [
            self._open_mount(process, settings, each) for each in range(self._setting.mounts)
        ]
        world.building = None
        self.ledger.processes.append(process)
        return process

    def _open_mount(self, process: Process, settings: Settings, number: int) -> Mount:
        transport = SimulatedTransport(self._network, process, settings, number)
        self._transports.append((process, transport))
        storage = open_storage(self._world, self._redis, process.host, settings)
        client: EcwidClient | None = None
        choice: StoreChoice = HostStores(self._store_of, None)
        if self._pairs:
            upstream = open_upstream(settings, transport=transport, storage=storage)
            stores: OpenStores = _WatchedStores(upstream, transport)
        else:
            client = EcwidClient(settings, transport=transport, storage=storage)
            stores, choice = client.stores, OnlyStore(settings.credentials)
        return Mount(
            app_name="simulated",
            name="ecwid",
            url_prefix=f"/ecwid{number}",
            settings=settings,
            warnings=(),
            contract=_CONTRACT,
            document={},
            authenticator=cast(Any, None),
            choice=choice,
            stores=stores,
            client=client,
            refusals=cast(Any, None),
        )

    def _store_of(self, caller: Caller) -> StoreCredentials:
        """Return the store of a caller, as the host does. The name is the number of the pair."""
        return _credentials(self._pairs[int(caller.name)])

    def _restart(self, slot: int) -> None:
        process = self._processes[slot]
        if process.dead or process.stopping:
            self._processes[slot] = self._start(slot)
            self._world.log("STARTED", self._processes[slot].name)

    # Requests

    def _request(
        self,
        number: int,
        slot: int,
        operation: str,
        target: int | str,
        key: str | None = None,
        mount: int = 0,
        pair: int = 0,
        *,
        is_final: bool = False,
    ) -> None:
        request = Request(number, slot, operation, target, key, is_final, mount, pair)
        if self._pairs:
            request.store = self._pairs[pair].partition(" ")[0]
        self.ledger.requests.append(request)
        process = self._processes[slot]
        if not process.dead:
            request.process = process
            name = f"{process.name}/r{number}"
            self._world.start(name, process, number, lambda: self._serve(request, process))

    def _serve(self, request: Request, process: Process) -> None:
        """Serve a request, and note what its caller is told."""
        world, host = self._world, process.host
        request.begin, asleep_s = world.time, host.asleep_s
        key = f"key {request.key}" if request.key else ""
        request.token = self._setting.tokens[request.slot]
        if self._pairs:
            request.token = self._pairs[request.pair]
            key = f"{key} of {request.token}"
        world.log("request", request.operation, request.target, key)
        try:
            request.value = self._respond(request, process)
            request.outcome = "ok"
        except Killed:
            raise
        except EcwidError as exc:
            request.outcome, request.error = exc.slug, exc
        except Exception as exc:
            request.outcome, request.error = "crash", exc
        request.end = world.time
        request.asleep_s = host.asleep_s - asleep_s
        error = request.error
        _let_go(error)
        if isinstance(error, EcwidError):
            wait = f"Retry-After {error.retry_after_s}" if error.retry_after_s else ""
            executed = f"executed: {error.executed}"
            world.log("response", error.status, error.slug, executed, wait)
        else:
            world.log("response", 500 if error else 200, repr(error or request.value))

    def _respond(self, request: Request, process: Process) -> object:
        """Return the tag or the id that the response shows. The real handlers make the response."""
        if request.operation == "export":
            return self._export(request, process)
        if request.operation == "follow":
            return self._follow(request, process)
        if request.operation == "mirror":
            return self._keep_mirror(request, process)
        with piece_of_work():  # as the view of a request does
            return self._handle(request, _mount_of(request, process))

    def _handle(self, request: Request, mount: Mount) -> object:
        store = mount.runtime(mount.choice.of(Caller(str(request.pair))))
        context = RequestContext(
            mount, "", None, str(request.id), store=store, idempotency_key=request.key
        )
        token = request_var.set(context)
        try:
            return self._call_handler(request)
        finally:
            request_var.reset(token)  # Otherwise the task would use the store of the request.

    def _call_handler(self, request: Request) -> object:
        if request.operation == "create":
            body = {"email": request.target, "taxId": request.tag}
            made = handlers.add_customer(body)
            document = made[0] if isinstance(made, tuple) else made
            return int(document["data"]["id"])
        if request.operation == "search":
            handlers.list_customers(keyword=request.target)
            return None
        assert isinstance(request.target, int)
        id = self.ledger.targets[request.target]
        if request.operation == "get":
            shown = handlers.get_customer(id)
            if isinstance(shown, CachedResponse):
                return orjson.loads(shown.attributes)["taxId"]
            return shown["data"]["attributes"]["taxId"]
        if request.operation == "update":
            handlers.update_customer(id, {"taxId": request.tag})
        else:
            handlers.delete_customer(id)
        return request.operation

    def _export(self, request: Request, process: Process) -> int:
        """Read all customers. Resume from the cursor now and then, and go on after each error."""
        event = next(
            each
            for each in self._plan.events
            if each["do"] == "export" and each.get("id", 1) == request.id
        )
        client, limit = _mount_of(request, process).client, event["limit"]
        assert client is not None
        reader = client.iter_customers(limit=limit)
        exported = request.exported
        while True:
            try:
                exported.append(next(reader)["id"])
            except StopIteration:
                return len(exported)
            except EcwidError as exc:
                self._world.log("failed", exc.slug)
                if not clock.sleep(1.0):
                    raise
            if event["resumes_after"] and len(exported) % event["resumes_after"] == 0:
                reader = client.iter_customers(limit=limit, cursor=reader.cursor)

    def _follow(self, request: Request, process: Process) -> int:
        """Read the changes several times. Go on after each error, or from the cursor."""
        [event] = [each for each in self._plan.events if each["do"] == "follow"]
        client = _mount_of(request, process).client
        assert client is not None
        cursor: str | None = None
        for gap_s in event["gaps_s"]:
            if not clock.sleep(gap_s):
                break
            request.last_reading_at = self._world.time
            cursor = self._read_changes(client, cursor, request, event)
        return len(request.followed)

    def _read_changes(
        self, client: EcwidClient, cursor: str | None, request: Request, event: Event
    ) -> str:
        """Read the changes to their end, and return the cursor."""
        changes = client.iter_changes(cursor, limit=event["limit"])
        while True:
            try:
                change = next(changes)
            except StopIteration:
                return changes.cursor
            except EcwidError as exc:
                self._world.log("failed", exc.slug)
                if not clock.sleep(1.0):
                    raise
                continue
            assert not isinstance(change, CustomerUnreadable)
            is_gone = isinstance(change, CustomerDeleted)
            tag = GONE if isinstance(change, CustomerDeleted) else change.customer["taxId"]
            assert tag is not None
            request.followed.append((change.customer_id, tag))
            self._world.log("change", "deleted" if is_gone else "updated", *request.followed[-1])
            if event["resumes_after"] and len(request.followed) % event["resumes_after"] == 0:
                changes = client.iter_changes(changes.cursor, limit=event["limit"])

    # The mirror

    def _begin_mirror(self, event: Event, *, is_final: bool = False) -> None:
        """Start the command that keeps the mirror, as a process of its own on a host."""
        host = self._hosts[event["host"] % len(self._hosts)]
        request = Request(MIRROR_ID + len(self._mirrors), 0, "mirror", "", None, is_final)
        request.process = process = self._start_on(host, 0)
        request.mirror = event
        self._mirrors.append(request)
        self.ledger.requests.append(request)
        name = f"{process.name}/r{request.id}"
        self._world.start(name, process, request.id, lambda: self._serve(request, process))

    def _keep_mirror(self, request: Request, process: Process) -> object:
        """Bring the mirror up to date, once after each gap."""
        assert self._database is not None
        client = process.mounts[0].client
        assert client is not None
        pages = _SmallPages(client, request.mirror["limit"])
        copy = mirror.Mirror(self._database.engine, ONLY_STORE)
        try:
            for gap_s in request.mirror["gaps_s"]:
                if not clock.sleep(gap_s):
                    break
                self._update(copy, pages)
        except mirror.AnotherSync:
            self._world.log("another process keeps the mirror")
        return None

    def _update(self, copy: mirror.Mirror, pages: _SmallPages) -> None:
        """Bring the mirror up to date. Go on after each error."""
        is_over = False
        while not is_over:
            begun = self._world.time
            try:
                copy.create_tables()
                for count in mirror.update(cast(EcwidClient, pages), copy):
                    self._world.log("stored", count)
                    self._look_for_buried()
                is_over = True
            except (EcwidError, database.DatabaseFailed) as exc:
                self._world.log("failed", str(exc))
                if not clock.sleep(1.0):
                    raise
        self._look_for_buried()
        if copy.is_complete:
            self._look_for_lacking(begun)

    def _look_for_buried(self) -> None:
        """Note each living customer whose row says that the customer was deleted."""
        assert self._database is not None
        customers = self._ecwid.shop(ONLY_STORE).customers
        for id, row in self._database.copy().rows.items():
            if row.deleted_at is not None and customers[id].gone_at is None:
                self.ledger.buried.append((self._world.time, id))

    def _look_for_lacking(self, begun: float) -> None:
        """Note each customer without the last version, if Ecwid showed it before the reading."""
        assert self._database is not None
        customers = self._ecwid.shop(ONLY_STORE).customers.values()
        rows = self._database.copy().rows
        # The list of a second that still changes may be read only in part.
        late = {each.updated for each in customers if each.shown_at > begun}
        for each in customers:
            row = rows.get(each.id)
            if each.shown_at > begun or each.updated in late:
                continue
            if each.is_unfit or each.gone_at is not None:
                continue
            document = row and row.document
            if not document or document["taxId"] != each.versions[-1].tag:
                self.ledger.lacking.append((self._world.time, each.id))

    # Events

    def _happen(self, event: Event) -> None:
        getattr(self, "_do_" + event["do"].replace("-", "_"))(event)

    def _do_request(self, event: Event) -> None:
        number, slot, target = event["id"], event["process"], event["target"]
        facts = event["key"], event.get("mount", 0), event.get("pair", 0)
        self._request(number, slot, event["operation"], target, *facts)

    def _do_export(self, event: Event) -> None:
        mount = event.get("mount", 0)
        self._request(event.get("id", 1), event["process"], "export", "", None, mount)

    def _do_follow(self, event: Event) -> None:
        self._request(event["id"], event["process"], "follow", "")

    def _do_mirror(self, event: Event) -> None:
        self._begin_mirror(event)

    def _do_mirror_kill(self, event: Event) -> None:
        """Kill a process that keeps the mirror, and start it again later."""
        killed = self._mirrors[event["request"] - MIRROR_ID]
        assert killed.process is not None
        self._world.kill(killed.process)
        again = {**killed.mirror, "gaps_s": [0]}
        self._world.at(self._world.time + event["back_s"], self._begin_mirror, again)

    def _do_commit_lost(self, event: Event) -> None:
        """Let the connection break after the commit of the transaction that begins."""
        assert self._database is not None
        self._database.loses_commit = True
        self._world.log("THE REPLY TO THE COMMIT IS LOST")

    def _do_kill(self, event: Event) -> None:
        self._world.kill(self._processes[event["process"]])
        self._world.at(self._world.time + event["back_s"], self._restart, event["process"])

    def _do_reload(self, event: Event) -> None:
        """Ask a process to end, as a reload does. It is killed if it has not ended after 30 s."""
        process = self._processes[event["process"]]
        self._world.stop(process)
        self._world.at(self._world.time + 30.0, self._world.kill, process)
        self._restart(event["process"])

    def _do_limit_changed(self, event: Event) -> None:
        """Change the rate limit in the settings of a process, which is reloaded."""
        self._world.log("LIMIT", event["limit"], f"for process {event['process']}")
        self._limits[event["process"]] = event["limit"]
        self._do_reload(event)

    def _do_step(self, event: Event) -> None:
        self._world.step(self._hosts[event["host"]], event["seconds"])

    def _do_suspend(self, event: Event) -> None:
        self._world.suspend(self._hosts[event["host"]], event["seconds"])

    def _do_outage(self, event: Event) -> None:
        until = self._world.time + event["seconds"]
        self._network.outages.append((until, event["host"], event["fate"]))
        self._world.log("OUTAGE", event["fate"], f"for {event['seconds']} s", event["host"] or "")

    def _do_slow(self, event: Event) -> None:
        until = self._world.time + event["seconds"]
        self._network.slow = until, event["one_way_s"], event["what"]
        self._world.log("SLOW", f"{event['one_way_s']} s each way, for {event['seconds']} s")

    def _do_redis_mode(self, event: Event) -> None:
        if self._redis:
            self._redis.set_mode(event["mode"])
            self._world.at(self._world.time + event["seconds"], self._redis.set_mode, "up")

    def _do_redis_emptied(self, event: Event) -> None:
        if self._redis:
            self._redis.empty()

    def _do_redis_snapshot(self, event: Event) -> None:
        if self._redis:
            self._redis.snapshot()

    def _do_redis_failover(self, event: Event) -> None:
        if self._redis:
            self._redis.fail_over()

    def _do_redis_evicted(self, event: Event) -> None:
        if self._redis:
            self._redis.evict(event["kind"])

    def _do_redis_clock(self, event: Event) -> None:
        if self._redis:
            self._redis.step(event["seconds"])

    def _do_file_gone(self, event: Event) -> None:
        self._hosts[event["host"]].file.gone_until = self._world.time + event["seconds"]
        self._world.log("FILE GONE", f"for {event['seconds']} s")

    def _do_file_lost(self, event: Event) -> None:
        self._hosts[event["host"]].file.values.clear()
        self._world.log("FILE LOST")

    def _do_file_slow(self, event: Event) -> None:
        file: HostFile = self._hosts[event["host"]].file
        file.slow_until, file.slow_s = self._world.time + event["seconds"], event["most_s"]
        self._world.log("FILE SLOW", f"up to {event['most_s']} s, for {event['seconds']} s")

    def _do_file_locked(self, event: Event) -> None:
        """Let another program lock the file."""
        self._hosts[event["host"]].file.locked_until = self._world.time + event["seconds"]
        self._world.log("FILE LOCKED", f"for {event['seconds']} s")

    def _do_foreign(self, event: Event) -> None:
        """Replace the pause or the records by those of another version, or by garbage."""
        stores = [self._redis] if self._redis else [host.file for host in self._hosts]
        mark = ":pause" if event["what"] == "pause" else ":once:"
        for store in stores:
            for key, (value, ends) in store.values.items():
                if mark in key:
                    store.values[key] = foreign(value, event["how"]), ends
        self._world.log("FOREIGN", event["what"], event["how"])

    def _do_refuse(self, event: Event) -> None:
        token = event["token"]
        self._ecwid.refusing[token] = event["refusal"]
        self._world.log("ECWID REFUSES", token, event["refusal"], f"for {event['seconds']} s")
        end = self._world.time + event["seconds"]
        self._world.at(end, lambda: self._ecwid.refusing.pop(token, None))

    def _do_rotate(self, event: Event) -> None:
        """Let the host have a new token of a store, and Ecwid refuse the old one."""
        before, self._pairs[event["pair"]] = self._pairs[event["pair"]], event["token"]
        self._world.log("NEW TOKEN", event["token"], "instead of", before)
        if event["refuses"]:
            self._ecwid.refusing[before] = "403-token"

    def _do_evil(self, event: Event) -> None:
        self._ecwid.evil = event["refusal"]

    def _do_miss(self, event: Event) -> None:
        """Let each list miss a customer for some seconds, if the mirror has the customer.

        The questions for the customer may fail meanwhile.
        Nobody can ask for a customer of whom the mirror does not know.
        """
        assert self._database is not None
        customer = self._shop.get(event["number"])  # A shrunk plan may not have made the customer.
        if customer is None or not self._database.has(customer.id):
            return
        customer.missed_until = self._world.time + event["seconds"]
        customer.failing_until = self._world.time + event["fails_s"]
        self._world.log("LISTS MISS", customer.id, f"for {event['seconds']} s")

    def _do_shop(self, event: Event) -> None:
        """Let somebody change a customer in the shop itself."""
        number, what = event["number"], event["what"]
        if what == "create":
            self._shop[number] = self._ecwid.put(f"shop{number}@x.example", f"shop{number}")
        else:
            customer = self._shop.get(number)  # A shrunk plan may not have made the customer.
            if customer is None or customer.gone_at is not None:
                return
            changed = f"{customer.tag}.{len(customer.versions)}"
            self._ecwid.change(customer, {"delete": GONE, "break": UNFIT}.get(what, changed))
        self._world.log("SHOP", what, self._shop[number].id)


def _let_go(error: BaseException | None) -> None:
    """Clear the frames of an error. They use a store until Python collects them, at any time."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        context, error.__traceback__ = error.__context__, None
        error.__context__ = error.__cause__ = None
        error = context


def _mount_of(request: Request, process: Process) -> Mount:
    """Return the mount that serves a request. A shrunk plan may have fewer mounts."""
    mount: Mount = process.mounts[request.mount % len(process.mounts)]
    return mount


class _SmallPages:
    """A client whose pages have few customers."""

    def __init__(self, client: EcwidClient, limit: int) -> None:
        self._client = client
        self._limit = limit

    def iter_changes(self, cursor: str | None = None) -> ChangeIterator:
        return self._client.iter_changes(cursor, limit=self._limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _WatchedStores(OpenStores):
    """The real open stores, which tell the transport when a store is opened again."""

    def __init__(self, upstream: Upstream, transport: SimulatedTransport) -> None:
        super().__init__(upstream, "ecwid")
        self._transport = transport
        self._last: dict[StoreCredentials, weakref.ref[OpenStore]] = {}

    def get(self, credentials: StoreCredentials) -> OpenStore:
        store = super().get(credentials)
        last = self._last.get(credentials)
        if last is None or last() is not store:
            self._last[credentials] = weakref.ref(store)
            self._transport.opened(name_of(credentials))
        return store


@lru_cache(256)
def _credentials(pair: str) -> StoreCredentials:
    store_id, _, token = pair.partition(" ")
    return StoreCredentials(store_id, token)


@lru_cache(256)
def _settings(setting: Any, token: str, calls_per_minute: int) -> Settings:
    has_many = bool(setting.pairs)
    return Settings(
        store_id="" if has_many else ONLY_STORE,
        token="" if has_many else token,
        auth="keys" if has_many else "none",
        stores=BY_HOST if has_many else "",
        max_open_stores=setting.max_open_stores,
        calls_per_minute=calls_per_minute,
        redis_url="redis://simulated" if setting.redis else "",
        hosts=setting.known_hosts or len(setting.ahead_s),
        cache_ttl_s=setting.cache_ttl_s,
        deadline_s=DEADLINE_S,
    )


def printed(result: Result) -> str:
    """Return the history as text for people."""
    plan, setting = result.plan, result.plan.setting
    lines = [
        f"seed {plan.seed}, aim {plan.aim}: "
        + ("e-mails are unique" if setting.unique else "the store takes an e-mail twice")
        + f", the search lags up to {setting.lag_s:g} s, {setting.calls_per_minute} calls a minute"
        + (", Redis" if setting.redis else ", no Redis")
        + (", cache" if setting.cache_ttl_s else "")
    ]
    if setting.pairs:
        lines.append(f"  {setting.max_open_stores} open stores of {', '.join(setting.pairs)}")
        lines.append(f"  {setting.refusals_most} refusals of tokens a minute")
    for number, ahead_s in enumerate(setting.ahead_s):
        count = setting.processes.count(number)
        mounts = f" with {setting.mounts} mounts" if setting.mounts > 1 else ""
        lines.append(f"  host {'ABC'[number]}: clock {ahead_s:+g} s, {count} processes{mounts}")
    text = " ".join(violation.text for violation in result.violations)
    for line in result.trace:
        request = line.who.partition("/r")[2]
        if request.isdecimal() and int(request) > 1000 and f"r{request} " not in f"{text} ":
            continue  # A sign of life at the end, of which no violation speaks.
        facts = " ".join(str(fact) for fact in line.facts if fact != "")
        lines.append(f"{line.time:9.3f}  {line.who or '*':9} {line.what:9} {facts}")
    for name in dict.fromkeys(each.invariant for each in result.violations):
        texts = [each.text for each in result.violations if each.invariant == name]
        lines += [f"VIOLATED {name}: {text}" for text in texts[:3]]
        if len(texts) > 3:
            lines.append(f"VIOLATED {name}: {len(texts) - 3} more times")
    return "\n".join(lines)
