"""Which server a job calls, as a plain value that can travel to other processes."""

from dataclasses import dataclass

from mlpserve_client.aio import AsyncClient
from mlpserve_client.client import Client
from mlpserve_client.connection.channel import Tls
from mlpserve_client.connection.retries import JOB_TIMEOUT


@dataclass(frozen=True)
class Endpoint:
    """A server, or several that share the work.

    Attributes:
        server: "HOST:PORT", or any name that gRPC resolves; "ipv4:A:1,B:2" names several.
        model: name; "" for the one that is served.
        version: that must answer; 0 for the one that is served when the job begins.
        timeout: seconds for one request, with what is tried again.
        tls, token, token_over_plaintext: as for `Client`.
    """

    server: str
    model: str = ""
    version: int = 0
    timeout: float = JOB_TIMEOUT
    tls: Tls | None = None
    token: str = ""
    token_over_plaintext: bool = False

    def client(self, version: int = 0) -> Client:
        """A client that tries nothing again by itself: the job's window must learn of every refusal."""
        return Client(
            self.server,
            model=self.model,
            version=version or self.version,
            timeout=self.timeout,
            retries=0,
            tls=self.tls,
            token=self.token,
            token_over_plaintext=self.token_over_plaintext,
        )

    def async_client(self, version: int = 0) -> AsyncClient:
        """A client for one event loop that sends every call as a request of its own."""
        return AsyncClient(
            self.server,
            model=self.model,
            version=version or self.version,
            timeout=self.timeout,
            coalesce=False,
            tls=self.tls,
            token=self.token,
            token_over_plaintext=self.token_over_plaintext,
        )
