"""Makes a value that fits a JSON Schema, always the same one; for the demo provider's tool calls.

Knows the keywords that tools use. A ``pattern`` or a ``not`` is beyond it: the value may then not fit.
"""

from typing import Any, Final

#: Schemas looked at for one value: those that contain themselves would otherwise never end.
_BUDGET: Final = 500
_MAX_DEPTH: Final = 12
_MAX_ITEMS: Final = 64
_MAX_LENGTH: Final = 10_000
_MAX_NUMBER: Final = 2**53
_FILLER: Final = "demo "
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

Schema = dict[str, Any]


def make_value(schema: object) -> object:
    """The value; null for what is not a schema, and for what a schema that contains itself goes on with."""
    return _Maker(schema if isinstance(schema, dict) else {}).make(schema, 0)


class _Maker:
    """Makes the values of one schema, its root."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._budget = _BUDGET

    def make(self, schema: object, depth: int) -> object:
        if schema is True:
            return {}
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or not self._spend():
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                rest = {name: value for name, value in schema.items() if name != key}
                return self.make(_join(rest, self._resolve(_first(schema[key]))), depth + 1)
        return self._make_typed(schema, depth)

    def _spend(self) -> bool:
        self._budget -= 1
        return self._budget >= 0

    def _resolve(self, schema: Schema) -> Schema:
        """Follows references within the root and takes ``allOf`` together."""
        reference = schema.get("$ref")
        if isinstance(reference, str) and self._spend():
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            return self._resolve(_join(self._look_up(reference), rest))
        parts = schema.get("allOf")
        if isinstance(parts, list):
            schema = {name: value for name, value in schema.items() if name != "allOf"}
            for part in parts:
                if isinstance(part, dict) and self._spend():
                    schema = _join(schema, self._resolve(part))
        return schema

    def _look_up(self, reference: str) -> Schema:
        found: object = self._root
        if not reference.startswith("#"):
            return {}
        for step in reference.removeprefix("#").removeprefix("/").split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if key:
                found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _make_typed(self, schema: Schema, depth: int) -> object:
        match _type_of(schema):
            case "object":
                return self._make_object(schema, depth)
            case "array":
                return self._make_array(schema, depth)
            case "integer":
                return int(_make_number(schema, whole=True))
            case "number":
                return _make_number(schema, whole=False)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _make_text(schema)

    def _make_object(self, schema: Schema, depth: int) -> Schema:
        """What is required; everything where nothing is, so that an answer has something to show."""
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = required if isinstance(required, list) and required else list(properties)
        return {
            name: self.make(properties.get(name, True), depth + 1) for name in names if isinstance(name, str)
        }

    def _make_array(self, schema: Schema, depth: int) -> list[object]:
        prefix = schema.get("prefixItems")
        made = [self.make(item, depth + 1) for item in prefix] if isinstance(prefix, list) else []
        wanted = min(_whole(schema.get("minItems"), 1), _MAX_ITEMS)
        while len(made) < wanted and schema.get("items") is not False:
            made.append(self.make(schema.get("items", True), depth + 1))
        return made


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
    # Nothing that JSON writers refuse.
    return value if abs(value) <= _MAX_NUMBER else 1


def _make_text(schema: Schema) -> str:
    text = _TEXT_BY_FORMAT.get(str(schema.get("format")), "demo")
    least = _whole(schema.get("minLength"), 0)
    if len(text) < least:
        text = (_FILLER * (least // len(_FILLER) + 1))[:least]
    return text[: _whole(schema.get("maxLength"), len(text))]


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and 0 <= value <= _MAX_LENGTH else default
