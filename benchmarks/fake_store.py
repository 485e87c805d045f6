"""The fake store, which is nginx with files so that it is never the bottleneck, and a slow store.

    python fake_store.py PORT DELAY_S FOLDER      run the slow store until it is ended

The files have customers of the sandbox, 100 of them with an address, as Ecwid's search sends them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE_SIZES = (1, 10, 100)
API = "/api/v3/1003"

_HEAD = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  default_type application/json;
"""
_CONF = """\
  limit_req_zone $server_name zone=token:1m rate=600r/m;
  limit_req_status 429;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    root {folder};
    location = {api}/customers {{
      if ($request_method = POST) {{ return 200 '{{"id":177737165}}'; }}
      try_files /page-$arg_limit.json /page-100.json =404;
    }}
    location = {api}/customers/13 {{ try_files /bad.json =404; }}
    location {api}/customers/ {{ try_files /customer.json =404; }}
  }}
  server {{  # Ecwid's limit: 600 calls a minute, which may come at once
    listen 127.0.0.1:{limited_port} backlog=1024;
    server_name limited;
    root {folder};
    limit_req zone=token burst=590 nodelay;
    location {api}/customers/ {{ try_files /customer.json =404; }}
  }}
  upstream store {{ server 127.0.0.1:{port}; keepalive 256; }}
  server {{  # nginx as a proxy in front of the store: the limit of what a proxy can do
    listen 127.0.0.1:{proxy_port} backlog=1024;
    location = /api/json/v1/ecwid/customers {{ proxy_pass http://store{api}/customers; {via} }}
    location ~ ^/api/json/v1/ecwid/customer/(.*) {{
      proxy_pass http://store{api}/customers/$1; {via}
    }}
    location = /api/json/v1/ecwid/add_customer {{ proxy_pass http://store{api}/customers; {via} }}
  }}
}}
"""
# Any store has any customer, and the stalled stores are another server.
_STORES_CONF = """\
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    root {folder};
    location ~ ^/api/v3/(?:{stalled})/ {{
      proxy_pass http://127.0.0.1:{stalled_port};
      proxy_read_timeout 600s;
    }}
    location ~ ^/api/v3/[0-9]+/customers/ {{ try_files /customer.json =404; }}
  }}
}}
"""
_VIA = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;'


def write_files(folder: Path) -> dict[str, int]:
    """Write the replies of the store to files, and return their sizes in bytes."""
    customers = _customers()
    replies: dict[str, Any] = {"customer": customers[0], "bad": {**customers[0], "email": [13]}}
    for size in PAGE_SIZES:
        replies[f"page-{size}"] = {
            "total": 254,
            "count": size,
            "offset": 0,
            "limit": size,
            "items": customers[:size],
        }
    sizes = {}
    for name, reply in replies.items():
        content = json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode()
        (folder / f"{name}.json").write_bytes(content)
        sizes[name] = len(content)
    return sizes


def _customers() -> list[dict[str, Any]]:
    from flask_ecwid.sandbox.seed import customers

    with_address = [
        document for document, _ in customers(1000) if document.get("shippingAddresses")
    ]
    return [
        {"id": 177737000 + number, **document}
        for number, document in enumerate(with_address[: max(PAGE_SIZES)])
    ]


def write_nginx_conf(folder: Path, *, port: int, limited_port: int, proxy_port: int) -> Path:
    path = folder / "nginx.conf"
    path.write_text(
        (_HEAD + _CONF).format(
            folder=folder,
            port=port,
            limited_port=limited_port,
            proxy_port=proxy_port,
            api=API,
            via=_VIA,
        )
    )
    return path


def write_stores_conf(
    folder: Path, *, port: int, stalled_port: int, stalled: Sequence[int]
) -> Path:
    """Write nginx's configuration for any number of stores, some of which are stalled."""
    path = folder / "nginx.conf"
    numbers = "|".join(map(str, stalled))
    path.write_text(
        (_HEAD + _STORES_CONF).format(
            folder=folder, port=port, stalled_port=stalled_port, stalled=numbers
        )
    )
    return path


class _Slow(asyncio.Protocol):
    """A server that delays each reply, for clients that send a request at once."""

    delay_s: float
    content: bytes

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.delay_s, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            )
            self.transport.write(head % len(self.content) + self.content)


async def _serve_slowly(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Slow, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    _Slow.delay_s = float(sys.argv[2])
    _Slow.content = (Path(sys.argv[3]) / "customer.json").read_bytes()
    asyncio.run(_serve_slowly(int(sys.argv[1])))
