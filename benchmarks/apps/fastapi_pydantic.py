"""FastAPI with pydantic models made from our contract: requests in a thread, or aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import requests
from fastapi import FastAPI, Query, Request
from models import AddedCustomerEnvelope, CustomerEnvelope, CustomerInput, CustomerPageEnvelope
from requests.adapters import HTTPAdapter
from upstream import HEADERS, PREFIX, STORE, TIMEOUT, added_envelope, customer_envelope, envelope

UNSET = {"response_model_exclude_unset": True}


def with_requests() -> FastAPI:
    app = FastAPI()
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_maxsize=256))
    session.headers.update(HEADERS)

    def call(method: str, path: str, **kwargs: Any) -> Any:
        reply = session.request(method, STORE + path, timeout=TIMEOUT, **kwargs)
        reply.raise_for_status()
        return reply.json()

    @app.get(f"{PREFIX}/customers", response_model=CustomerPageEnvelope, **UNSET)
    def list_customers(limit: int = Query(100, ge=1, le=100), offset: int = Query(0, ge=0)) -> Any:
        return envelope(call("GET", "/customers", params={"limit": limit, "offset": offset}))

    @app.get(f"{PREFIX}/customer/{{customer_id}}", response_model=CustomerEnvelope, **UNSET)
    def get_customer(customer_id: int) -> Any:
        return customer_envelope(call("GET", f"/customers/{customer_id}"))

    @app.post(f"{PREFIX}/add_customer", response_model=AddedCustomerEnvelope)
    def add_customer(body: CustomerInput) -> Any:
        sent = body.model_dump(mode="json", exclude_unset=True)
        return added_envelope(call("POST", "/customers", json=sent))

    return app


def with_aiohttp() -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=256)
        timeout = aiohttp.ClientTimeout(connect=TIMEOUT[0], sock_read=TIMEOUT[1])
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=HEADERS
        ) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)

    async def call(request: Request, method: str, path: str, **kwargs: Any) -> Any:
        session: aiohttp.ClientSession = request.app.state.session
        async with session.request(method, STORE + path, **kwargs) as reply:
            reply.raise_for_status()
            return await reply.json()

    @app.get(f"{PREFIX}/customers", response_model=CustomerPageEnvelope, **UNSET)
    async def list_customers(
        request: Request, limit: int = Query(100, ge=1, le=100), offset: int = Query(0, ge=0)
    ) -> Any:
        query = {"limit": limit, "offset": offset}
        return envelope(await call(request, "GET", "/customers", params=query))

    @app.get(f"{PREFIX}/customer/{{customer_id}}", response_model=CustomerEnvelope, **UNSET)
    async def get_customer(request: Request, customer_id: int) -> Any:
        return customer_envelope(await call(request, "GET", f"/customers/{customer_id}"))

    @app.post(f"{PREFIX}/add_customer", response_model=AddedCustomerEnvelope)
    async def add_customer(request: Request, body: CustomerInput) -> Any:
        sent = body.model_dump(mode="json", exclude_unset=True)
        return added_envelope(await call(request, "POST", "/customers", json=sent))

    return app


in_threads = with_requests()
asynchronous = with_aiohttp()
