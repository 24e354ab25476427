"""What a process of the pool runs: the model, asked over a pipe until the pipe's other end is closed."""

import signal
from multiprocessing.connection import Connection

from gateway_server.guardrails.ner.model import EntityModel, ModelError, find_all


def serve(connection: Connection, name: str) -> None:
    """Says why the model cannot be used, or nothing; then answers lists of texts with lists of entities.

    A list that fails is answered with the name of its error, whose message might quote a text.
    """
    # Who ends the gateway closes the pipe; a signal to all its processes must not end calls under way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        model = EntityModel(name)
    except ModelError as error:
        connection.send(str(error))
        return
    connection.send("")
    while True:
        try:
            texts = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send(find_all(model, texts))
        except Exception as error:  # noqa: BLE001 -- told to who asked, and the next text may do better
            connection.send(type(error).__name__)
