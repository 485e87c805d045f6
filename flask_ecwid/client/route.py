"""The way from this host to Ecwid: addresses, proxy and TLS."""

from __future__ import annotations

import base64
import socket
import ssl
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH as CERTIFI
from urllib3.util.ssltransport import SSLTransport

from ..settings import Secret, SecretBytes
from ..storage import names
from .connection import Attempt, Connection

# Seconds until a probe. Probes close a dead flow, and remind a NAT of a living one.
KEEP_ALIVE_S = 30


class Route:
    """The way to the host of a URL, direct or through a proxy.

    Args:
        url: The URL of Ecwid.
        proxy_url: The URL of the proxy, or an empty text.
        ca_bundle: A file of the certificates to trust, or an empty text for those of certifi.
    """

    def __init__(self, url: str, proxy_url: str, ca_bundle: str) -> None:
        ecwid, proxy = urlsplit(url), urlsplit(proxy_url or url)
        self._host, self._next_host = ecwid.hostname or "", proxy.hostname or ""
        self._next_port = proxy.port or _port(proxy.scheme)
        self._is_tls = ecwid.scheme == "https"
        self._proxy_is_tls = bool(proxy_url) and proxy.scheme == "https"
        self._tunnel = ecwid.netloc if ecwid.port else f"{ecwid.netloc}:{_port(ecwid.scheme)}"
        self._has_tunnel = bool(proxy_url) and self._is_tls
        self._proxy_header = ""
        if proxy.username is not None:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
            self._proxy_header = f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}\r\n"
        self.headers = f"Host: {ecwid.netloc}\r\n"  # the first ones of each request
        self.skips = len(f"{ecwid.scheme}://{ecwid.netloc}")  # the part of a URL that is not sent
        if proxy_url and not self._is_tls:
            self.headers += self._proxy_header
            self.skips = 0
        if self._is_tls or self._proxy_is_tls:
            self._tls = ssl.create_default_context(cafile=ca_bundle or CERTIFI)
            self._tls.set_alpn_protocols(["http/1.1"])

    def connect(self, attempt: Attempt) -> Connection:
        """Return a connection to the first address that works.

        Raises:
            OSError: No address works, or the certificate is not the host's.
            ValueError: The proxy does not speak HTTP.
        """
        failure: OSError | ValueError = OSError("the host has no address")
        for address in names.addresses(self._next_host, attempt.within(attempt.connect_timeout)):
            timeout_s = attempt.within(attempt.connect_timeout)
            try:
                sock = socket.create_connection((address, self._next_port), timeout_s)
                return Connection(self._prepared(sock, attempt))
            except ssl.SSLCertVerificationError:
                raise
            except (OSError, ValueError) as exc:
                names.postpone(address)
                failure = exc
        raise failure

    def _prepared(self, sock: socket.socket, attempt: Attempt) -> socket.socket:
        """Return the socket with its options, through the proxy and over TLS."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):  # Other systems choose the time.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_S)
            if self._proxy_is_tls:
                sock = self._over_tls(sock, self._next_host, attempt)
            if self._has_tunnel:
                self._open_tunnel(sock, attempt)
            if self._is_tls:
                sock = self._over_tls(sock, self._host, attempt)
        except BaseException:
            sock.close()
            raise
        return sock

    def _over_tls(self, sock: socket.socket, host: str, attempt: Attempt) -> Any:
        sock.settimeout(attempt.within(attempt.connect_timeout))
        if isinstance(sock, ssl.SSLSocket):  # The standard library has no TLS within TLS.
            return SSLTransport(sock, self._tls, host)
        return self._tls.wrap_socket(sock, server_hostname=host)

    def _open_tunnel(self, sock: socket.socket, attempt: Attempt) -> None:
        """Let the proxy connect to the host. The attempt itself does not count as sent."""
        head = Secret(  # because the header of the proxy has a password
            f"CONNECT {self._tunnel} HTTP/1.1\r\nHost: {self._tunnel}\r\n{self._proxy_header}\r\n"
        )
        limits = replace(attempt, read_timeout=attempt.connect_timeout)
        connection = Connection(sock)
        status, _ = connection.begin(SecretBytes(head.encode()), limits)
        if status >= 300 or connection.rest:
            raise OSError("the proxy opened no tunnel")


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
