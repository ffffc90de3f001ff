"""Parse a target as gRPC does, and decide whether it can only be this machine.

gRPC recognises "SCHEME:…" for known schemes and resolves everything else through DNS. DNS is not trusted, so besides
addresses only `localhost` counts as this machine; `x.localhost`, `localhost.`, `127.1` and other names that a resolver
may interpret in its own way do not.
"""

import ipaddress
import re
import socket
from urllib.parse import unquote

_SCHEMES = ("dns:", "ipv4:", "ipv6:")
# If the path is not valid in a URI, gRPC asks DNS for a host named "unix".
_SOCKET = re.compile(r"unix(-abstract)?:(%[0-9A-Fa-f]{2}|[\w/.~!$&'()*+,;=:@-])+", re.ASCII)


def addresses(target: str) -> list[str]:
    """The addresses or names, with ports, in a target; the target itself if its form is unknown."""
    scheme = next((scheme for scheme in _SCHEMES if target.startswith(scheme)), "")
    if not scheme:
        return [target]
    path = target.removeprefix(scheme)
    if path.startswith("//"):
        authority, _, path = path.removeprefix("//").partition("/")
        if authority:  # another resolver than this machine's
            return [target]
    if "?" in path or "#" in path:
        return [target]
    path = unquote(path).removeprefix("/")
    return [path] if scheme == "dns:" else path.split(",")


def is_local(target: str) -> bool:
    """Whether a target is certainly on this machine: a Unix socket, or loopback addresses only."""
    if _SOCKET.fullmatch(target):
        return hasattr(socket, "AF_UNIX")
    return all(_is_loopback(host_of(address)) for address in addresses(target))


def host_of(address: str) -> str:
    """The host of "HOST", "HOST:PORT", "[IPV6]", "[IPV6]:PORT" or "IPV6"; "" for any other form."""
    if address.startswith("["):
        host, bracket, port = address[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or ":" not in host:
            return ""
        port = port.removeprefix(":")
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    else:
        host, port = address, ""
    return host if not port or (port.isascii() and port.isdigit()) else ""


def has_port(address: str) -> bool:
    """Whether an address of a known form names a port."""
    return re.search(r"(\]|^[^:\[\]]*):\d+$", address) is not None


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.isascii() and host.lower() == "localhost"
    # Connecting to ::ffff:127.0.0.1 is connecting to 127.0.0.1, which not every Python counts as loopback.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
