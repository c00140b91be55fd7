"""Which proxy the environment asks for, as curl and requests read it."""

import contextlib
import ipaddress
import re
from urllib.parse import urlsplit
from urllib.request import getproxies_environment


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment asks for, as curl and requests read it; None to connect directly.

    http_proxy, https_proxy and all_proxy, in small letters first, unless no_proxy names the host: a name with all its
    subdomains, an address, a range of addresses (10.0.0.0/8), each with a port or without; or `*`.
    """
    parts, proxies = urlsplit(url), getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or _is_exempt(parts.hostname, parts.port, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    return any(_names(entry, host.rstrip("."), port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _names(entry: str, host: str, port: int | None) -> bool:
    """Return whether an entry of no_proxy names a host."""
    if entry == "*":
        return True
    with contextlib.suppress(ValueError):  # not addresses
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        return (port is None or port == int(number)) and _names(name, host, None)
    domain = entry.removeprefix("*").strip(".")
    return host == domain or host.endswith(f".{domain}")
