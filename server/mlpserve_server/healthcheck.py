"""Ask a server for its health, exit code 0 when it is SERVING.

python -m mlpserve_server.healthcheck HOST:PORT [--ca FILE [--server-name NAME] [--cert FILE --key FILE]]
"""

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 3.0
# The check runs beside the server; a proxy that the environment names would look for it elsewhere.
NO_PROXY = (("grpc.enable_http_proxy", 0), ("grpc.address_http_proxy_enabled_addresses", ""))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Ask a server for its health.")
    parser.add_argument("address", metavar="HOST:PORT")
    for flag, text in (("ca", "that vouches for the server"), ("cert", "of our own"), ("key", "of --cert")):
        parser.add_argument(f"--{flag}", type=Path, metavar="FILE", help=f"PEM {flag} {text}")
    parser.add_argument("--server-name", default="", help="name in the server's certificate")
    arguments = parser.parse_args()
    credentials = None
    if arguments.ca:
        ca, key, cert = (path.read_bytes() if path else None for path in (arguments.ca, arguments.key, arguments.cert))
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
    sys.exit(0 if is_serving(arguments.address, credentials, arguments.server_name) else 1)


def is_serving(address: str, credentials: grpc.ChannelCredentials | None = None, server_name: str = "") -> bool:
    """Whether the server at "HOST:PORT" says SERVING within `SECONDS`."""
    options: list[tuple[str, int | str]] = [*NO_PROXY]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    with (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
    ) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    main()
