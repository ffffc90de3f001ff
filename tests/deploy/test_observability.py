"""Every query of the dashboard and of the alerts is about metrics that exist; a real Prometheus answers them."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port
from tests.support.callers import Callers

from mlpserve_client import Client
from mlpserve_server.observe.prometheus import GPU_GAUGES

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = re.compile(r"\b(?:mlpserve|grpc_server)_[a-z0-9_]+")
# Only a reload, a refused call or a second worker makes these; only a GPU makes those.
RARE = {
    "mlpserve_reloads_total",
    "mlpserve_dropped_total",
    "mlpserve_workers",
    "mlpserve_worker_restarts_total",
    *(name for name, _, _ in GPU_GAUGES),
}


def _dashboard_queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana/mlpserve.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def measured(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """A server that has answered, and its metrics' address."""
    address = f"127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("observed")
    with ServerProcess(folder, store, "--metrics-listen", address) as process:
        with Client(process.address) as client:
            client.predict(mnist_images()[:100])
        yield process, address


def test_metrics_of_dashboard_and_alerts_exist(measured: tuple[ServerProcess, str]) -> None:
    with urllib.request.urlopen(f"http://{measured[1]}/metrics", timeout=10) as response:
        text = response.read().decode()
    exported = set(re.findall(r"^# TYPE (\w+)", text, flags=re.MULTILINE)) | set(
        re.findall(r"^(\w+)", text, flags=re.MULTILINE)
    )
    expressions = [*_dashboard_queries(), *(rule["expr"] for rule in _rules())]
    used = {name for expression in expressions for name in NAME.findall(expression)}
    assert used - exported - RARE == set()
    assert "mlpserve_reloads_total" in exported, "the family is there before the first reload"
    # The other way round: nothing is exported that nobody could see.
    families = {name.removesuffix("_created") for name in re.findall(r"^# TYPE (\w+)", text, flags=re.MULTILINE)}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in used}
    assert {name for name in families if name.startswith(("mlpserve", "grpc"))} - shown == set()


def test_rules_are_valid() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    result = subprocess.run(
        ["promtool", "check", "config", str(DEPLOY / "prometheus/prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed: apt-get install prometheus"
)
def test_a_real_prometheus_answers_every_query(measured: tuple[ServerProcess, str], tmp_path: Path) -> None:
    process, metrics = measured
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus/rules.yml")]
    config["scrape_configs"] = [{"job_name": "mlpserve", "static_configs": [{"targets": [metrics]}]}]
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    web = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--web.listen-address={web}"]
    with (tmp_path / "log").open("w") as log, Client(process.address) as client:
        expected = client.predict(mnist_images()[:256]).class_ids
        prometheus = subprocess.Popen([*command, f"--storage.tsdb.path={tmp_path / 'data'}"], stdout=log, stderr=log)
        try:
            with Callers(process.address, expected, threads=2):
                time.sleep(15)
            empty = {query: _ask(web, query) for query in _dashboard_queries()}
        finally:
            prometheus.kill()
            prometheus.wait()
    missing = [query for query, answer in empty.items() if not answer and not any(name in query for name in RARE)]
    assert missing == []
    assert len(empty) > 20


def _ask(web: str, query: str) -> list[Any]:
    query = query.replace('instance=~"$instance"', 'instance=~".*"').replace("$__rate_interval", "10s")
    url = f"http://{web}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        result: list[Any] = json.load(response)["data"]["result"]
        return result
