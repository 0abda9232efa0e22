"""How much a run may ask of a teacher: requests and tokens, counted over all threads."""

import threading


class Spent(Exception):
    """The budget is used up; `limit` is the option that did it."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


class Budget:
    """Counts, and says when to stop. 0 is no limit.

    Tokens are known only after an answer, so a run may go over `max_tokens` by what the requests
    then under way use.
    """

    def __init__(self, max_requests: int = 0, max_tokens: int = 0) -> None:
        self.max_requests = max_requests
        self.max_tokens = max_tokens
        self.requests = 0
        self.tokens = 0
        self._lock = threading.Lock()

    def take_request(self) -> None:
        """Count one request. Raises Spent when none is left, and counts nothing then."""
        with self._lock:
            if self.max_requests and self.requests >= self.max_requests:
                raise Spent("--max-requests")
            if self.max_tokens and self.tokens >= self.max_tokens:
                raise Spent("--max-tokens")
            self.requests += 1

    def add_tokens(self, tokens: int) -> None:
        """Count the tokens of an answer and its prompt."""
        with self._lock:
            self.tokens += tokens
