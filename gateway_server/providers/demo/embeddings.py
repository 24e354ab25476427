"""Embeddings of the demo provider: texts that share words have vectors that are near."""

import math
from base64 import b64encode
from hashlib import sha256
from struct import pack
from typing import Final

from gateway_server.providers.demo.commands import DemoFailureError, JsonObject, read_request
from gateway_server.providers.demo.text import split_tokens

_DEFAULT_DIMENSIONS: Final = 64
_MAX_DIMENSIONS: Final = 4096


def answer_embeddings(body: bytes) -> JsonObject:
    """The answer to an embeddings request; raises DemoFailureError where it is an HTTP error."""
    request = read_request(body)
    dimensions = request.get("dimensions", _DEFAULT_DIMENSIONS)
    if type(dimensions) is not int or not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise DemoFailureError(400, "invalid_value", f"dimensions is not between 1 and {_MAX_DIMENSIONS}.")
    inputs = [_tokens_of(item) for item in _read_inputs(request)]
    as_base64 = request.get("encoding_format") == "base64"
    data: list[JsonObject] = []
    for index, tokens in enumerate(inputs):
        vector = _embed(tokens, dimensions)
        encoded = b64encode(pack(f"<{dimensions}f", *vector)).decode() if as_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    count = sum(len(tokens) for tokens in inputs)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": request["model"], "usage": usage}


def _read_inputs(request: JsonObject) -> list[object]:
    inputs = request.get("input")
    if isinstance(inputs, str):
        return [inputs]
    if not isinstance(inputs, list) or not inputs:
        raise DemoFailureError(400, "invalid_value", "input is neither text nor a list of texts.")
    # A list of numbers is one input of token ids.
    return [inputs] if all(isinstance(item, int) for item in inputs) else inputs


def _tokens_of(item: object) -> list[str]:
    if isinstance(item, str):
        return split_tokens(item.lower())
    if isinstance(item, list) and all(isinstance(token, int) for token in item):
        return [str(token) for token in item]
    raise DemoFailureError(400, "invalid_value", "input holds something that is neither text nor token ids.")


def _embed(tokens: list[str], dimensions: int) -> list[float]:
    """A unit vector: each token adds one at a place, and with a sign, that its hash tells."""
    vector = [0.0] * dimensions
    for token in tokens:
        digest = sha256(token.strip().encode()).digest()
        vector[int.from_bytes(digest[:4]) % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0, *vector[1:]]
