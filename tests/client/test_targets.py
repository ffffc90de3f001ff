"""Which targets are this machine: a token goes to nothing else without TLS, and no proxy carries it away."""

import ipaddress
import socket
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.liar import Liar

from mlpserve_client import AsyncClient, Client, InvalidInputError
from mlpserve_client.connection.targets import is_local

LOCAL = [
    *("127.0.0.1:1", "127.9.8.7", "localhost:1", "LocalHost", "[::1]:1", "::1", "[::1]", "[0:0:0:0:0:0:0:1]:1"),
    *("[::ffff:127.0.0.1]:1", "dns:localhost:1", "dns:///localhost:1", "dns:/127.0.0.1:1", "dns:[::1]:1"),
    *("ipv4:127.0.0.1:1", "ipv4:127.0.0.1:1,127.0.0.2:1", "ipv6:[::1]:1", "ipv6:%5B::1%5D:1", "ipv6:[::1%25lo]:1"),
    *("ipv4:127.0.0.1:1%2C127.0.0.2:1", "unix:/run/x.sock", "unix:///run/a%20b", "unix:x", "unix-abstract:name"),
]
ELSEWHERE = [
    *("localhost.evil.example:1", "127.evil.example:1", "127.0.0.1.evil.example", "ipv4:127.0.0.1:1,10.0.0.9:1"),
    *("ipv4:127.0.0.1:1%2C10.0.0.9:1", "ipv6:[::1]:1,[2001:db8::1]:1", "localhost:1,evil.example:1", "10.0.0.9:1"),
    *(
        "dns://10.0.0.9/localhost:1",
        "dns://127.0.0.1:1",
        "dns:///localhost.evil.example",
        "dns:localhost%2eevil.example",
    ),
    *("xds:///localhost:1", "vsock:1:1", "UNIX:/x", "IPV4:127.0.0.1:1", "unix:80%zz", "unix:/a b", "unix:", "unix"),
    *("localhost.:1", "evil.localhost:1", "127.1:1", "2130706433:1", "0x7f.1:1", "0177.0.0.1:1", "0.0.0.0:1", "[::]:1"),
    *(
        "[::1].evil.example:1",
        "[::1]evil:1",
        "[localhost]:1",
        "[::1%25lo]:1.evil.example",
        "user@127.0.0.1:1",
        "127.0.0.1:http",
    ),
    *("127.0.0.1:1?x", "127.0.0.1:1#x", "ipv4:127.0.0.1:1?,10.0.0.9:1", "[::127.0.0.1]:1", "[::ffff:10.0.0.9]:1", ""),
    *(
        "ipv4:127.0.0.1:1,",
        "１２７.0.0.1:1",
        "ⓛocalhost:1",
        "127.0.0.1:１",
        "127.0.0.1\0:1",
        "localhost\n",
        "evil\0localhost",
    ),
]


@pytest.mark.parametrize("target", LOCAL)
def test_targets_of_this_machine(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize("target", ELSEWHERE)
def test_targets_that_may_be_other_machines(target: str) -> None:
    assert not is_local(target)
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidInputError):
            kind(target, token="secret")


SCHEMES = st.sampled_from(["", "dns:", "dns:/", "dns:///", "ipv4:", "ipv6:", "dns://127.0.0.1/", "xds:///", "IPV4:"])
HERE = st.sampled_from(["127.0.0.1", "localhost", "[::1]", "127.255.255.254", "LOCALHOST", "[::ffff:127.0.0.1]"])
NAME = st.text("abc019.-_%@[]:,/\\?# \t\0x", max_size=12)
ABROAD = st.one_of(
    st.ip_addresses(v=4).filter(lambda address: not address.is_loopback).map(str),
    st.ip_addresses(v=6).filter(lambda a: not a.is_loopback and a.ipv4_mapped is None).map(lambda a: f"[{a}]"),
    st.tuples(HERE, st.sampled_from([".", "-", "x", "%2e"]), st.text("abc019.", min_size=1, max_size=9)).map("".join),
)


@given(SCHEMES, st.lists(HERE, max_size=3), ABROAD, st.lists(HERE, max_size=3), st.booleans(), NAME)
def test_one_other_address_is_enough(
    scheme: str, before: list[str], abroad: str, after: list[str], escaped: bool, tail: str
) -> None:
    hosts = ",".join(f"{host}:50051" for host in [*before, abroad, *after])
    target = scheme + (quote(hosts, safe="") if escaped else hosts)
    assert not is_local(target)
    assert not is_local(target + tail)


@given(st.sampled_from(["", "dns:", "dns:///", "ipv4:", "ipv6:"]), HERE, NAME, st.integers(0, 3))
def test_what_counts_as_local_resolves_to_loopback(scheme: str, host: str, noise: str, place: int) -> None:
    """Damage to a loopback target either leaves one, by the system's own resolver, or is not taken for one."""
    target = scheme + host[:place] + noise + host[place:] + ":50051"
    if is_local(target):
        name = target.removeprefix(scheme).lstrip("/").removesuffix(":50051").strip("[]")
        found = [ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(name, 50051)]
        assert all((getattr(address, "ipv4_mapped", None) or address).is_loopback for address in found)


@pytest.mark.parametrize("kind", ["http_proxy", "grpc_proxy", "https_proxy", "GRPC_ADDRESS_HTTP_PROXY"])
def test_no_proxy_gets_a_local_call(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy, Liar() as server:
        proxy.setblocking(False)
        address = f"127.0.0.1:{proxy.getsockname()[1]}"
        monkeypatch.setenv(kind, address if kind.isupper() else f"http://{address}")
        monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.0/8")
        port = server.address.rpartition(":")[2]
        for target in (f"127.0.0.1:{port}", f"localhost:{port}", f"ipv4:127.0.0.1:{port}"):
            with Client(target, token="secret", timeout=5) as client:
                assert len(client.predict(np.zeros((1, 2, 2), np.uint8))) == 1
        with pytest.raises(BlockingIOError):
            proxy.accept()
