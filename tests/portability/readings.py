"""What a rendered request says, read back from each provider's own words into one list of plain tuples."""

from typing import Any, Final

import orjson

#: ``("text", role, text)``, ``("thought", text, signature)``, ``("call", id, name, arguments)`` or
#: ``("result", id, text)``; an id that the provider does not take is empty.
Said = tuple[str, ...]


def read_request(provider_type: str, body: bytes) -> list[Said]:
    """All that a body says, in its order; raises at whatever is not expected in it."""
    return _READERS.get(provider_type, _read_openai)(orjson.loads(body), body)


def _read_openai(request: dict[str, Any], body: bytes) -> list[Said]:
    said: list[Said] = []
    for message in request["messages"]:
        role = message.pop("role")
        content = message.pop("content", None)
        keys = message.keys() & {"reasoning", "reasoning_content"}
        said.extend(("thought", message.pop(key), "") for key in keys)
        if role == "tool":
            said.append(("result", message.pop("tool_call_id"), content))
        elif content is not None:
            said.append(("text", role, content))
        for call in message.pop("tool_calls", []):
            assert call["type"] == "function"
            said.append(("call", call["id"], call["function"]["name"], call["function"]["arguments"]))
        assert not message
    return said


def _read_anthropic(request: dict[str, Any], body: bytes) -> list[Said]:
    said: list[Said] = [("text", "system", request["system"])]
    for message in request["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            match block["type"]:
                case "text":
                    said.append(("text", message["role"], block["text"]))
                case "thinking":
                    said.append(("thought", block["thinking"], block["signature"]))
                case "tool_use":
                    said.append(
                        ("call", block["id"], block["name"], _find(body, b'"input":', block["input"]))
                    )
                case "tool_result":
                    said.append(("result", block["tool_use_id"], block["content"]))
                case kind:
                    raise AssertionError(f"a block of type {kind}")
    return said


def _read_bedrock(request: dict[str, Any], body: bytes) -> list[Said]:
    said: list[Said] = [("text", "system", block["text"]) for block in request["system"]]
    for message in request["messages"]:
        for block in message["content"]:
            ((kind, value),) = block.items()
            match kind:
                case "text":
                    said.append(("text", message["role"], value))
                case "reasoningContent":
                    thought = value["reasoningText"]
                    said.append(("thought", thought["text"], thought.get("signature", "")))
                case "toolUse":
                    arguments = _find(body, b'"input":', value["input"])
                    said.append(("call", value["toolUseId"], value["name"], arguments))
                case "toolResult":
                    (content,) = value["content"]
                    said.append(("result", value["toolUseId"], content["text"]))
                case _:
                    raise AssertionError(f"a block of kind {kind}")
    return said


def _read_google(request: dict[str, Any], body: bytes) -> list[Said]:
    said: list[Said] = [("text", "system", part["text"]) for part in request["systemInstruction"]["parts"]]
    for content in request["contents"]:
        role = {"user": "user", "model": "assistant"}[content["role"]]
        for part in content["parts"]:
            if part.get("thought"):
                said.append(("thought", part["text"], part.get("thoughtSignature", "")))
            elif "text" in part:
                said.append(("text", role, part["text"]))
            elif (call := part.get("functionCall")) is not None:
                said.append(("call", call.get("id", ""), call["name"], _find(body, b'"args":', call["args"])))
            else:
                result = part["functionResponse"]
                said.append(("result", result.get("id", ""), result["response"]["output"]))
    return said


def _find(body: bytes, key: bytes, value: object) -> str:
    """The text of a value, as it stands in the body: order of keys and digits are part of what is said."""
    for start in range(len(body)):
        if not body.startswith(key, start):
            continue
        begin = start + len(key)
        end = body.find(b"}", begin) + 1
        if orjson.loads(body[begin:end]) == value:
            return body[begin:end].decode()
    raise AssertionError(f"{value} is not in the body")


_READERS: Final = {"anthropic": _read_anthropic, "bedrock": _read_bedrock, "google": _read_google}
