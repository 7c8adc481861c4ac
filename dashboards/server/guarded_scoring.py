"""MLflow's model server behind a guard that refuses requests which it would answer wrongly or not at all.

``python -m paretta.dashboards.server.guarded_scoring MODEL HOST PORT`` serves the MLflow model in a folder.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from io import BytesIO
from typing import Any, Final, TypeAlias

from paretta.dashboards.server.json_server import LARGEST_BYTES

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
_LARGEST: Final = 3.4028235677973366e38  # the models' inputs are of 32 bits
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


def guarded(app: App) -> App:
    """Return the ASGI application `app` behind `fault_of_body`; a refused request gets 400 and one line."""

    async def call(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= LARGEST_BYTES:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
        fault = fault_of_body(body, headers.get(b"content-type", b"").decode("latin-1"))
        if fault is not None:
            await _refuse(send, fault)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, again, send)

    return call


def fault_of_body(body: bytes, content_type: str) -> str | None:
    """Return in one line why a request cannot be answered, or None if its numbers can be read and are finite.

    >>> fault_of_body(b'{"inputs": [[1.0, NaN]]}', "application/json")
    'expected finite numbers, found NaN'
    >>> fault_of_body(b'{"inputs": [[1.0, 2.0]]}', "application/json") is None
    True
    """
    if len(body) > LARGEST_BYTES:
        return f"send at most {LARGEST_BYTES} bytes"
    try:
        if "json" in content_type:
            json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        elif "csv" in content_type or "parquet" in content_type:
            _require_finite_table(body, content_type)
    except RecursionError:
        return "the request is nested too deeply"
    except ValueError as error:
        return (str(error).splitlines() or ["the request cannot be read"])[0]
    return None


def _require_finite_table(body: bytes, content_type: str) -> None:
    """Raise `ValueError` for a table with an empty cell, or with a number that is not finite."""
    import pandas  # noqa: PLC0415 - few requests are tables

    table = (pandas.read_csv if "csv" in content_type else pandas.read_parquet)(BytesIO(body))
    for name, column in table.items():
        numbers = pandas.to_numeric(column, errors="coerce").abs()
        if not bool((numbers <= _LARGEST).all()):
            raise ValueError(f"expected finite numbers, found others or an empty cell in column {str(name)[:40]!r}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"expected finite numbers, found {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"expected finite numbers, found {text[:40]}")
    return number


async def _refuse(send: Send, fault: str) -> None:
    content = json.dumps({"error_code": "BAD_REQUEST", "message": fault}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def serve_guarded(model: str, host: str, port: str) -> None:
    """Serve until the process is ended."""
    import uvicorn  # noqa: PLC0415 - only the server's own process loads these
    from mlflow.pyfunc import load_model, scoring_server  # noqa: PLC0415

    app = scoring_server.init(load_model(model))
    uvicorn.run(guarded(app), host=host, port=int(port), log_level="warning")


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    serve_guarded(*sys.argv[1:])
