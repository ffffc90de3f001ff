"""The pages of a listing of versions, for both clients."""

from grpc import StatusCode

from mlpserve.v1.classifier_pb2 import ListModelsRequest, ListModelsResponse
from mlpserve_client.errors import InvalidInputError, InvalidResponseError

PAGE_SIZE = 1000  # versions; servers give no more at a time


class Pages:
    """Pages as they come, put together; it is over when `request` is None.

    Args:
        limit: most versions; 0 for all.
        target: the server's address, for messages.

    Attributes:
        listed: the versions so far, newest first; how many there are in all; and the token that would go on.
        request: what to ask for next.

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
        """Take the answer to `request`.

        Raises:
            InvalidResponseError: it does not go on where the page before ended, and so might never come to an end.
        """
        assert self.request is not None
        token = page.next_page_token
        numbers = [summary.model.version for summary in [*self.listed.models[-1:], *page.models]]
        if (token and token == self.request.page_token) or numbers != sorted(set(numbers), reverse=True):
            raise InvalidResponseError(
                f"{self._target}: a page of ListModels does not go on where the one before ended; this is no listing",
                StatusCode.INTERNAL,
                self._target,
            )
        self.listed.models.extend(page.models[: self._limit - len(self.listed.models)] if self._limit else page.models)
        self.listed.next_page_token = token
        # A server from before there were pages lists everything at once, and gives no number.
        self.listed.total_size = page.total_size or len(page.models)
        full = self._limit and len(self.listed.models) >= self._limit
        self.request = self._next(token) if token and not full else None
