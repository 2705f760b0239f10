"""Photos by their addresses in Label Studio: fetched from it with a token, or from other servers without."""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import json
import re
import ssl
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from crispmask._version import __version__
from crispmask.errors import CrispmaskError, DataError, ParamsError
from crispmask.structured import parse_json

REDIRECTS = 5
SECONDS = 15.0
"""Longest wait for a server's next bytes."""

IN_ALL = 60.0
"""Longest time for a photo to arrive."""

_MAX_ANSWER = 100_000
_CHUNK = 1 << 16
_DATA = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)


@dataclass(frozen=True)
class Photos:
    """Fetches photos.

    The token goes to Label Studio only, never to another server, also where Label Studio redirects to one. Servers in
    this computer's own network are asked only where they were named; otherwise whoever may add tasks to a project could
    reach them.

    Attributes:
        url: of Label Studio, such as ``http://localhost:8080``.
        token: a personal access token of Label Studio, or a legacy token; "" for none.
        max_bytes: larger files are refused.
        hosts: names of other servers in private networks that photos may come from.

    Raises:
        ParamsError: a URL that is none, or a token that no header can hold.
    """

    url: str
    token: str = field(default="", repr=False)
    max_bytes: int = 40_000_000
    hosts: Collection[str] = ()
    _access: list[str] = field(default_factory=list, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.token and not re.fullmatch(r"[\x21-\x7e]{1,10000}", self.token):
            raise ParamsError("the token of Label Studio must be letters, digits and signs without spaces")
        try:
            _checked(self.url)
        except DataError as error:
            raise ParamsError(f"the address of Label Studio cannot be used: {error}") from None

    def read(self, address: str) -> bytes:
        """The content of a photo.

        Args:
            address: as a task has it: ``/data/upload/...`` and other paths of Label Studio, an http(s) URL, or a data
                URL.

        Raises:
            DataError: an address that is not read, or a server that does not give the photo.
        """
        if match := _DATA.match(address):
            return self._embedded(address[match.end() :])
        if address.startswith("/") and not address.startswith(("//", "/\\")):
            address = self.url.rstrip("/") + address
        try:
            return self._fetch(address)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DataError(f"cannot fetch {_shown(address)}: {reason}") from None

    def _embedded(self, text: str) -> bytes:
        if len(text) > 4 * self.max_bytes / 3 + 4:
            raise self._too_large("the embedded photo")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise DataError("the embedded photo is not valid base64") from None

    def _fetch(self, address: str) -> bytes:
        deadline, renewed = time.monotonic() + IN_ALL, False
        for _ in range(REDIRECTS + 2):
            parts = _checked(address)
            own = _origin(parts) == _origin(urlsplit(self.url))
            headers = {"authorization": self._authorization()} if own and self.token else {}
            status, location, content = self._get(parts, headers, own, deadline)
            if status in (301, 302, 303, 307, 308) and location:
                address = urljoin(address, location)
            elif status == 401 and own and self._access and not renewed:
                renewed = True  # access tokens of Label Studio live five minutes
                self._access.clear()
            elif status == 200:
                return content
            else:
                raise DataError(f"cannot fetch {_shown(address)}: {self._reason(status, own)}")
        raise DataError(f"cannot fetch {_shown(address)}: more than {REDIRECTS} redirections")

    def _reason(self, status: int, own: bool) -> str:
        if own and status in (401, 403):
            advice = "it does not accept the token" if self.token else "it needs a token"
            return f"status {status}, {advice}: set LABEL_STUDIO_API_KEY to a personal access token of Label Studio"
        return f"status {status} {http.client.responses.get(status, '')}".strip()

    def _get(
        self, parts: SplitResult, headers: dict[str, str], own: bool, deadline: float
    ) -> tuple[int, str | None, bytes]:
        """Status, target of a redirection, and content."""
        connection = self._connection(parts, own)
        try:
            connection.request("GET", _target(parts), headers={"user-agent": f"crispmask/{__version__}", **headers})
            response = connection.getresponse()
            if response.status != 200:
                return response.status, response.getheader("location"), b""
            return 200, None, self._body(response, deadline, _shown(parts.geturl()))
        finally:
            connection.close()

    def _body(self, response: http.client.HTTPResponse, deadline: float, name: str) -> bytes:
        parts: list[bytes] = []
        total = 0
        while part := response.read(_CHUNK):
            parts.append(part)
            total += len(part)
            if total > self.max_bytes:
                raise self._too_large(name)
            if time.monotonic() > deadline:
                raise DataError(f"cannot fetch {name}: it took longer than {IN_ALL:.0f} seconds")
        return b"".join(parts)

    def _too_large(self, name: str) -> DataError:
        return DataError(f"{name} has more than {self.max_bytes / 1e6:.10g} MB: scale it down, or raise --max-upload")

    def _connection(self, parts: SplitResult, own: bool) -> http.client.HTTPConnection:
        """An open connection; what it leads to is checked before anything is asked."""
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        connection.connect()
        if not own and host not in self.hosts:
            peer = ipaddress.ip_address(connection.sock.getpeername()[0].partition("%")[0])
            peer = getattr(peer, "ipv4_mapped", None) or peer
            if not peer.is_global:
                connection.close()
                raise DataError(f"{host} is in a private network: name it with --allow-host {host}")
        return connection

    def _authorization(self) -> str:
        """The header for Label Studio. A personal access token is a JWT that gives access tokens."""
        if self.token.count(".") != 2:
            return f"Token {self.token}"
        with self._lock:
            if not self._access:
                self._access.append(self._renewed())
            return f"Bearer {self._access[0]}"

    def _renewed(self) -> str:
        parts = _checked(self.url.rstrip("/") + "/api/token/refresh/")
        connection = self._connection(parts, True)
        try:
            body = json.dumps({"refresh": self.token})
            connection.request("POST", _target(parts), body, {"content-type": "application/json"})
            response = connection.getresponse()
            content = response.read(_MAX_ANSWER)
        finally:
            connection.close()
        try:
            access = parse_json(content, "the answer")["access"] if response.status == 200 else None
        except (CrispmaskError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not re.fullmatch(r"[\x21-\x7e]+", access):
            raise DataError(f"{self.url} does not accept the token: make a new one in Label Studio, Account & Settings")
        return access


def _checked(address: str) -> SplitResult:
    """The parts of an http(s) URL.

    Raises:
        DataError: anything else.
    """
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except (ValueError, UnicodeError):
        usable = False
    if not usable or re.search(r"[\x00-\x20\x7f]", parts.netloc):
        raise DataError(f"{_shown(address)} is not an address that photos are read from: use http:// or https://")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _target(parts: SplitResult) -> str:
    """What is asked for: path and query, with what no request line can hold escaped."""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    return path + ("?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?") if parts.query else "")


def _shown(address: str) -> str:
    """An address in a message, without its query, which can hold a signature, and without a password."""
    text = re.sub("//[^/]*@", "//", address.partition("?")[0])
    return repr(text if len(text) <= 120 else f"{text[:120]}...")
