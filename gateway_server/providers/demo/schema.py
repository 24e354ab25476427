"""Makes a value that fits a JSON Schema, always the same one; for the demo provider's tool calls.

Knows the keywords that tools use. A ``pattern`` or a ``not`` is beyond it: the value may then not fit.
"""

from typing import Any, Final

_MAX_DEPTH: Final = 12
_MAX_PARTS: Final = 16
_TEXT_BY_FORMAT: Final = {
    "date": "2030-01-31",
    "date-time": "2030-01-31T12:00:00Z",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_FILLER: Final = "demo "

Schema = dict[str, Any]


def make_value(schema: object) -> object:
    """The value; null for what is not a schema."""
    return _make(schema, schema if isinstance(schema, dict) else {}, 0)


def _make(schema: object, root: Schema, depth: int) -> object:
    if schema is True:
        return {}
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    schema = _resolve(schema, root, depth)
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list) and options:
            rest = {name: value for name, value in schema.items() if name != key}
            return _make(_join(rest, _resolve(_first(options), root, depth + 1)), root, depth + 1)
    return _make_typed(_type_of(schema), schema, root, depth)


def _resolve(schema: Schema, root: Schema, depth: int) -> Schema:
    """Follows references within the schema and takes ``allOf`` together."""
    for _ in range(_MAX_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: object = root
        for step in reference[1:].strip("/").split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, dict) and key else target
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = _join(target if isinstance(target, dict) else {}, rest)
    parts = schema.get("allOf")
    if isinstance(parts, list) and depth <= _MAX_DEPTH:
        schema = {name: value for name, value in schema.items() if name != "allOf"}
        for part in parts[:_MAX_PARTS]:
            schema = _join(schema, _resolve(part, root, depth + 1) if isinstance(part, dict) else {})
    return schema


def _join(first: Schema, second: Schema) -> Schema:
    joined = {**first, **second}
    if isinstance(first.get("properties"), dict) and isinstance(second.get("properties"), dict):
        joined["properties"] = {**first["properties"], **second["properties"]}
    if isinstance(first.get("required"), list) and isinstance(second.get("required"), list):
        joined["required"] = [*first["required"], *second["required"]]
    return joined


def _first(options: list[Any]) -> Schema:
    """The first option that is more than null."""
    schemas = [option for option in options if isinstance(option, dict)]
    return next((option for option in schemas if option.get("type") != "null"), {"type": "null"})


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _make_typed(kind: str, schema: Schema, root: Schema, depth: int) -> object:
    match kind:
        case "object":
            return _make_object(schema, root, depth)
        case "array":
            return _make_array(schema, root, depth)
        case "integer" | "number":
            return _make_number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _make_text(schema)


def _make_object(schema: Schema, root: Schema, depth: int) -> Schema:
    """What is required; everything where nothing is, so that an answer has something to show."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    names = required if isinstance(required, list) and required else list(properties)
    if depth > _MAX_DEPTH // 2 and not required:
        names = []
    return {
        name: _make(properties.get(name, True), root, depth + 1) for name in names if isinstance(name, str)
    }


def _make_array(schema: Schema, root: Schema, depth: int) -> list[object]:
    prefix = schema.get("prefixItems")
    made = [_make(item, root, depth + 1) for item in prefix] if isinstance(prefix, list) else []
    least = _whole(schema.get("minItems"), 1)
    while len(made) < min(least, 64) and schema.get("items") is not False:
        made.append(_make(schema.get("items", True), root, depth + 1))
    return made


def _make_number(schema: Schema, *, whole: bool) -> int | float:
    value: float = 1
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(schema.get("exclusiveMinimum"), int | float):
        low = schema["exclusiveMinimum"] + 1
    if isinstance(schema.get("exclusiveMaximum"), int | float):
        high = schema["exclusiveMaximum"] - (1 if whole else 0.5)
    if isinstance(low, int | float):
        value = max(value, low)
    if isinstance(high, int | float):
        value = min(value, high)
    step = schema.get("multipleOf")
    if isinstance(step, int | float) and step > 0:
        value = -(-value // step) * step
    return int(value) if whole else value


def _make_text(schema: Schema) -> str:
    text = _TEXT_BY_FORMAT.get(str(schema.get("format")), "demo")
    least = _whole(schema.get("minLength"), 0)
    if len(text) < least:
        text = (_FILLER * (least // len(_FILLER) + 1))[:least]
    return text[: _whole(schema.get("maxLength"), len(text))]


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and 0 <= value <= 10_000 else default
