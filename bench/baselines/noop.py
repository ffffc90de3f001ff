"""Our transports with nothing behind them: the same loop of receive and send, and one constant answer.

The reply has the size of a real answer to one image; requests with more images get the same reply.

python bench/baselines/noop.py STORE PORT wire|grpcio
"""

import sys
from pathlib import Path

from mlpserve.v1.classifier_pb2 import PredictResponse, ServingInfo
from mlpserve_server.catalog import Catalog
from mlpserve_server.config import ServerConfig
from mlpserve_server.control.services import ControlServices
from mlpserve_server.store.folder import Store
from mlpserve_server.transports import open_transport


def main() -> None:
    store, port, name = sys.argv[1:]
    config = ServerConfig(store=Path(store), listen=f"127.0.0.1:{port}", transport=name)
    version = Store(config.store).open("mnist")
    services = ControlServices(Store(config.store), Catalog("mnist", keep=0), lambda _: ServingInfo())
    transport = open_transport(config, services, max_message=4 << 20, on_dropped=lambda reason: None)
    transport.start()
    reply = PredictResponse(top_k=1, class_ids=[7], scores=[1.0])
    reply.model.name, reply.model.version, reply.model.digest = "mnist", version.manifest.version, version.digest
    payload = reply.SerializeToString()
    while True:
        calls = transport.receive(0.1)
        if calls:
            transport.send([(call, payload) for call in calls])


if __name__ == "__main__":
    main()
