"""Where a server is, and a connection to it: one rule for addresses over both protocols."""

import ipaddress
import os
import re
from collections.abc import Mapping

from seresnext_client.errors import InvalidOption
from seresnext_client.transports.base import (
    DEFAULT_TIMEOUTS,
    Connection,
    ConnectionSettings,
    Proxy,
    Timeouts,
    Tls,
    WireProtocol,
)
from seresnext_client.transports.headers import check_headers

URL_VARIABLES = {WireProtocol.GRPC: "SERESNEXT_URL", WireProtocol.HTTP: "SERESNEXT_HTTP_URL"}
# What a scheme says: the protocol, whether TLS is used, and the port where the address has none. Those of http and
# https are the web's, since what is given as a web address is behind a web server.
SCHEMES = {
    "grpc": (WireProtocol.GRPC, False, WireProtocol.GRPC.default_port),
    "grpcs": (WireProtocol.GRPC, True, WireProtocol.GRPC.default_port),
    "http": (WireProtocol.HTTP, False, 80),
    "https": (WireProtocol.HTTP, True, 443),
}
# The variables of the environment that name a proxy, in the order in which they count; gRPC's own are in lower case.
PROXY_VARIABLES = {WireProtocol.GRPC: ("grpc_proxy", "https_proxy", "http_proxy")}
NO_PROXY_VARIABLES = {
    WireProtocol.GRPC: ("no_grpc_proxy", "no_proxy"),
    WireProtocol.HTTP: ("no_proxy", "NO_PROXY"),
}
# gRPC's own scheme, for a name that stands for several servers: https://grpc.github.io/grpc/core/md_doc_naming.html
DNS = "dns"
_NAME_SERVER = re.compile(r"[\w.:\[\]-]*", re.ASCII)
_HOST = re.compile(r"[^\s/\\?#@\[\]:\x00-\x20\x7f]+")
_PREFIX = re.compile(r"(/[\w.~!$&'()*+,;=:@%-]+)*/?", re.ASCII)


def connect(
    url: str | None = None,
    protocol: WireProtocol | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    *,
    headers: Mapping[str, str] | None = None,
    tls: Tls | None = None,
) -> Connection:
    """Return a connection to a server; nothing is sent yet.

    `url` is `HOST`, `HOST:PORT`, or one of both behind `grpc://`, `grpcs://`, `http://` or `https://`, whose scheme
    chooses the protocol and TLS; an IPv6 address stands in brackets. Over HTTP a path may follow, under which the
    server is. `dns:///HOST:PORT` is gRPC, and sends requests to all addresses of a host in turn. Without `url` the
    environment says where the server is (SERESNEXT_URL; over HTTP SERESNEXT_HTTP_URL), or it is on this machine at
    Triton's own port. Without `protocol` and scheme it is gRPC.

    `headers` go with every request. The files of `tls` imply TLS. A proxy that the environment names is used, except
    for this machine. Raises InvalidOption for an address, headers or TLS that cannot be used so.
    """
    settings = connection_settings(url, protocol, timeouts, headers=headers, tls=tls)
    match settings.protocol:  # the other protocol's library is never imported
        case WireProtocol.GRPC:
            from seresnext_client.transports.grpc import GrpcTransport

            return GrpcTransport(settings)
        case WireProtocol.HTTP:
            from seresnext_client.transports.http import HttpTransport

            return HttpTransport(settings)


def connection_settings(
    url: str | None = None,
    protocol: WireProtocol | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    *,
    headers: Mapping[str, str] | None = None,
    tls: Tls | None = None,
) -> ConnectionSettings:
    """Return what `connect` makes of its arguments and of the environment; raises InvalidOption."""
    address, source = resolve_url(url, protocol)
    scheme, separator, rest = address.strip().rpartition("://")
    if "@" in rest.partition("/")[0]:
        raise InvalidOption(f"{source} holds a user name: send credentials as a header instead")
    resolver = None
    if separator and scheme.lower() == DNS:
        if protocol is WireProtocol.HTTP:
            raise InvalidOption(f"{source} is {address}, and only gRPC spreads requests over several servers")
        authority, slash, rest = rest.partition("/")
        if not slash or not _NAME_SERVER.fullmatch(authority):
            raise InvalidOption(f"{source} is {address}: give dns:///HOST:PORT, with three slashes")
        protocol, default_port, resolver = WireProtocol.GRPC, WireProtocol.GRPC.default_port, f"dns://{authority}/"
    elif separator:
        if scheme.lower() not in SCHEMES:
            known = ", ".join(f"{name}://" for name in (*SCHEMES, DNS))
            raise InvalidOption(f"{source} has the scheme {scheme}://: give {known}")
        scheme_protocol, is_tls, default_port = SCHEMES[scheme.lower()]
        if protocol not in (None, scheme_protocol):
            raise InvalidOption(f"{source} is {address}, and the protocol {protocol}: give one of both")
        if tls and not is_tls:
            raise InvalidOption(f"{source} is {address}, and TLS is asked for: give {scheme}s://")
        protocol, tls = scheme_protocol, tls or (Tls() if is_tls else None)
    else:
        protocol, rest = protocol or WireProtocol.GRPC, address.strip()
        default_port = protocol.default_port
    host, port, prefix = _split(rest, default_port, source)
    if prefix and protocol is WireProtocol.GRPC:
        raise InvalidOption(f"{source} has the path {prefix}, and gRPC has no paths: give HOST:PORT, or http://")
    check_headers(headers or {}, protocol)
    return ConnectionSettings(
        url=f"{f'[{host}]' if ':' in host else host}:{port}{prefix}",
        protocol=protocol,
        timeouts=timeouts,
        headers=headers or {},
        tls=tls,
        proxy=_proxy(host, port, protocol, is_tls=tls is not None),
        resolver=resolver,
    )


def resolve_url(url: str | None, protocol: WireProtocol | None) -> tuple[str, str]:
    """Return a server's address and how an error names its source: the argument, the environment, or the default.

    Over HTTP the address in SERESNEXT_URL counts too where its scheme says HTTP and SERESNEXT_HTTP_URL is not set.
    """
    if url:
        return url, "the server's address"
    wanted = protocol or WireProtocol.GRPC
    variable = URL_VARIABLES[wanted]
    if address := os.environ.get(variable):
        return address, variable
    for other in URL_VARIABLES.values():
        address = os.environ.get(other, "")
        scheme, separator, _ = address.partition("://")
        if separator and scheme.lower() in SCHEMES and SCHEMES[scheme.lower()][0] is wanted:
            return address, other
    return f"localhost:{wanted.default_port}", "the default address"


def _split(address: str, default_port: int, source: str) -> tuple[str, int, str]:
    """Return host (an IPv6 address without brackets), port and path prefix ("" or "/a/b") of an address."""
    authority, slash, path = address.partition("/")
    prefix = f"{slash}{path}".rstrip("/")
    match = re.fullmatch(r"(\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:\[\]]+))(:(?P<port>\d{1,5}))?", authority)
    if match is None or not _PREFIX.fullmatch(prefix):
        advice = "an IPv6 address stands in brackets, [::1]:8001" if authority.count(":") > 1 else "give HOST:PORT"
        raise InvalidOption(f"{source}, {address!r}, is not the address of a server: {advice}")
    port = int(match["port"] or default_port)
    if not 0 < port < 65536:
        raise InvalidOption(f"{source}, {address!r}, has no port from 1 to 65535")
    if match["ipv6"]:
        try:
            return str(ipaddress.IPv6Address(match["ipv6"])), port, prefix
        except ValueError as error:
            raise InvalidOption(f"{source}, {address!r}, has no IPv6 address in its brackets") from error
    try:
        host = match["host"].encode("idna").decode()  # neither library takes other letters
    except UnicodeError as error:
        raise InvalidOption(f"{source}, {address!r}, has a host name that cannot be: {error}") from error
    if not _HOST.fullmatch(host):
        raise InvalidOption(f"{source}, {address!r}, is not the address of a server: give HOST:PORT")
    return host, port, prefix


def _proxy(host: str, port: int, protocol: WireProtocol, *, is_tls: bool) -> Proxy | None:
    """Return the proxy that the environment names for a host; loopback has none."""
    if is_loopback(host):
        return None
    scheme = "https" if is_tls else "http"
    variables = PROXY_VARIABLES.get(protocol, (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"))
    for variable in variables:
        if url := os.environ.get(variable):
            return None if _bypasses_proxy(host, port, protocol) else Proxy(url, variable)
    return None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost")


def _bypasses_proxy(host: str, port: int, protocol: WireProtocol) -> bool:
    """Return whether no_proxy names a host, its domain, or a network that it is in."""
    value = next(filter(None, map(os.environ.get, NO_PROXY_VARIABLES[protocol])), "")
    for entry in filter(None, re.split(r"[,\s]+", value.lower())):
        name = entry.lstrip("*").lstrip(".")
        if entry == "*" or name in (host.lower(), f"{host.lower()}:{port}") or host.lower().endswith(f".{name}"):
            return True
        try:
            if "/" in entry and ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
