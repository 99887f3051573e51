"""What the gate says in its own name. Invariant: one clear message, in the form that the client of that path reads."""

import msgspec
from msgspec import Struct

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Answer(Struct, frozen=True, kw_only=True):
    """A status and a body of the gate's own. ``retry_after_s`` 0: nothing is said about that."""

    status: int
    code: str
    message: str
    retry_after_s: int = 0


def body_of(answer: Answer, path: str) -> tuple[str, bytes]:
    """Content type and body: an error as OpenAI's API writes it below ``/v1/``, else one line of text."""
    message = f"mica gate: {answer.message}"
    if not path.startswith("/v1/"):
        return TEXT, f"{message}\n".encode()
    kind = "rate_limit_error" if answer.status == 429 else "server_error" if answer.status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": answer.code}
    return JSON, msgspec.json.encode({"error": error})


def headers_of(answer: Answer) -> dict[str, str]:
    """What the answer's head says: who answers, and when to come again."""
    headers = {"Server": "mica-gate", "X-Mica-Refused": answer.code}
    return headers | ({"Retry-After": str(answer.retry_after_s)} if answer.retry_after_s else {})
