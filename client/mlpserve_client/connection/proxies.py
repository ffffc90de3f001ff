"""Which proxy stands between this machine and a server, by the environment variables that gRPC follows."""

import ipaddress
import os

from mlpserve.shown import shown
from mlpserve_client.connection.targets import addresses, host_of, is_local

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")  # in gRPC's order
EXEMPT_VARIABLES = ("no_grpc_proxy", "no_proxy")
ADDRESS_PROXY = "GRPC_ADDRESS_HTTP_PROXY"


def proxy_of(target: str) -> str:
    """The proxy that the environment puts before a target, as "$NAME (HOST:PORT)"; "" for none."""
    if is_local(target) or target.startswith(("unix:", "unix-abstract:", "vsock:")):
        return ""
    named = next((name for name in PROXY_VARIABLES if os.environ.get(name)), "")
    exempt = next((os.environ[name] for name in EXEMPT_VARIABLES if os.environ.get(name)), "").split(",")
    if named and all(_is_exempt(host_of(address), exempt) for address in addresses(target)):
        named = ""
    named = named or (ADDRESS_PROXY if os.environ.get(ADDRESS_PROXY) else "")
    # What stands before the @ are a name and a password.
    return f"${named} ({shown(os.environ[named].rpartition('@')[2])})" if named else ""


def _is_exempt(host: str, entries: list[str]) -> bool:
    """Whether gRPC goes past the proxy: the host ends with an entry, or is an address of a network among them."""
    for entry in filter(None, map(str.strip, entries)):
        if host.lower().endswith(entry.lower()):
            return True
        try:
            if ipaddress.ip_address(host.strip("[]")) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:  # a name, which no network holds
            continue
    return False
