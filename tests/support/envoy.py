"""The shipped gateway configuration, run by Envoy's own binary on other ports."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from support.processes import free_port
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(sys.executable).parent / "envoy"


class Gateway:
    """Envoy with deploy/envoy/envoy.yaml before some servers; ready when the `with` block begins.

    Args:
        folder: for its files.
        servers: addresses.
        tls: PEM files of a certificate chain and its key, to serve tls.yaml as well.
        blind: without health checks, as in the moment after a server died: the dead one gets its share of tries.
    """

    def __init__(
        self, folder: Path, servers: list[str], tls: tuple[Path, Path] | None = None, blind: bool = False
    ) -> None:
        port, admin = free_port(), free_port()
        self.address, self.admin = f"127.0.0.1:{port}", f"127.0.0.1:{admin}"
        config = yaml.safe_load((ROOT / "deploy/envoy/envoy.yaml").read_text())
        config["admin"]["address"]["socket_address"]["port_value"] = admin
        resources = config["static_resources"]
        resources["listeners"][0]["address"]["socket_address"]["port_value"] = port
        hosts = [server.split(":") for server in servers]
        resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(number)}}}}
            for host, number in hosts
        ]
        if blind:
            del resources["clusters"][0]["health_checks"], resources["clusters"][0]["outlier_detection"]
        if tls is not None:
            self.tls_address = f"127.0.0.1:{free_port()}"
            self._add_tls(resources, port, *tls)
        self._config = folder / f"envoy-{port}.json"
        self._config.write_text(json.dumps(config))
        self._log = folder / f"envoy-{port}.log"

    def _add_tls(self, resources: dict[str, Any], port: int, certificate: Path, key: Path) -> None:
        added = yaml.safe_load((ROOT / "deploy/envoy/tls.yaml").read_text())["static_resources"]
        (listener,), (cluster,) = added["listeners"], added["clusters"]
        host, number = self.tls_address.split(":")
        listener["address"]["socket_address"] = {"address": host, "port_value": int(number)}
        context = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
        files = context["tls_certificates"][0]
        files["certificate_chain"]["filename"], files["private_key"]["filename"] = str(certificate), str(key)
        files["watched_directory"]["path"] = str(certificate.parent)
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["socket_address"]["port_value"] = port
        resources["listeners"].append(listener)
        resources["clusters"].append(cluster)

    def __enter__(self) -> "Gateway":
        command = [str(BINARY), "-c", str(self._config), "--use-dynamic-base-id", "--log-level", "warning"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait_until(self._is_ready, lambda: f"Envoy is ready; it says:\n{self.log}", not_yet=(OSError,))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, f"Envoy did not start:\n{self.log}"
        return self.stats().get("cluster.mlpserve.membership_healthy", 0) > 0

    def stats(self) -> dict[str, int]:
        """Envoy's counters and gauges of the servers' cluster."""
        url = f"http://{self.admin}/stats?filter=cluster.mlpserve&format=json&histogram_buckets=none"
        with urllib.request.urlopen(url, timeout=5) as response:
            found = json.load(response)["stats"]
        return {entry["name"]: entry["value"] for entry in found if "value" in entry}

    @property
    def log(self) -> str:
        return self._log.read_text()

    def route_of(self, path: str) -> dict[str, Any]:
        """What Envoy, as it runs, does with gRPC calls of a path."""
        with urllib.request.urlopen(f"http://{self.admin}/config_dump", timeout=5) as response:
            dump = json.load(response)
        (configuration,) = [
            entry["route_config"] for part in dump["configs"] for entry in part.get("static_route_configs", [])
        ]
        for route in configuration["virtual_hosts"][0]["routes"]:
            pattern = route["match"].get("safe_regex", {}).get("regex")
            if pattern is not None and re.fullmatch(pattern, path):
                found: dict[str, Any] = route["route"]
                return found
        raise AssertionError(f"no route takes {path}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
