"""Pagination of ListModels, for both clients."""

from grpc import StatusCode

from mlpserve.v1.classifier_pb2 import ListModelsRequest, ListModelsResponse
from mlpserve_client.errors import InvalidInputError, InvalidResponseError

PAGE_SIZE = 1000  # versions; the servers' maximum


class Pages:
    """Collects pages until `request` is None.

    Args:
        limit: maximum number of versions; 0 for all.
        target: the server's address, for messages.

    Attributes:
        listed: the versions so far, newest first; the total number; and the token of the next page.
        request: the next request; None after the last page.

    Raises:
        InvalidInputError: the limit is negative.
    """

    def __init__(self, limit: int, target: str) -> None:
        if limit < 0:
            raise InvalidInputError(f"limit is {limit}; expected 0 for all, or a number of versions")
        self._limit = limit
        self._target = target
        self.listed = ListModelsResponse()
        self.request: ListModelsRequest | None = self._next("")

    def _next(self, token: str) -> ListModelsRequest:
        left = self._limit - len(self.listed.models) if self._limit else PAGE_SIZE
        return ListModelsRequest(page_size=min(left, PAGE_SIZE), page_token=token)

    def add(self, page: ListModelsResponse) -> None:
        """Add the response to `request`.

        Raises:
            InvalidResponseError: it does not continue where the previous page ended, so the listing might never end.
        """
        assert self.request is not None
        token = page.next_page_token
        numbers = [summary.model.version for summary in [*self.listed.models[-1:], *page.models]]
        if (token and token == self.request.page_token) or numbers != sorted(set(numbers), reverse=True):
            raise InvalidResponseError(
                f"{self._target}: a page of ListModels does not continue where the previous one ended",
                StatusCode.INTERNAL,
                self._target,
            )
        self.listed.models.extend(page.models[: self._limit - len(self.listed.models)] if self._limit else page.models)
        self.listed.next_page_token = token
        # A server without pagination lists everything at once, and no total.
        self.listed.total_size = page.total_size or len(page.models)
        full = self._limit and len(self.listed.models) >= self._limit
        self.request = self._next(token) if token and not full else None
