"""Check a decoded object, of json.loads or torch.load, against a class whose fields have types and descriptions.

    class Person(msgspec.Struct):
        name: described(str, "a name")
        age: described(Count | None, "an age in years or null") = None

    converted({"name": 3}, Person, "person.json", "correct it")
    # InputError: person.json: key 'name' is not a name; correct it

The library msgspec compares values with types. Types are strict: True and 1.0 are no integers, "1" is no number.
JSON is decoded by `json`, not by msgspec: file names that are not UTF-8 become lone surrogates, which msgspec refuses.
Never use `msgspec.Meta(pattern=…)`: msgspec 0.22 frees the compiled pattern too early, and the process may crash.
"""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from common.errors import InputError

T = TypeVar("T")

Index = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float


def described(kind: Any, description: str) -> Any:
    """The type `kind` of a field, with the words for it in an error: "key 'labels' is not …"."""
    return Annotated[kind, msgspec.Meta(description=description)]


def converted(content: Any, schema: type[T], source: object, remedy: str, dec_hook: Callable | None = None) -> T:
    """Make a `schema` of the keys of `content` that are its fields; other keys are ignored.

    Args:
        content: a decoded object. Lists and dictionaries in it are copied.
        schema: a dataclass or msgspec.Struct whose fields are `described`; a field with a default may be missing.
        source: the file, for the error.
        remedy: what to do about it, the end of the error.
        dec_hook: see msgspec.convert; checks values of types that msgspec does not know.

    Raises:
        InputError: a key is missing, or its value has another type or is out of range. Names the first such key.
    """
    fields = _fields(schema)
    if not isinstance(content, dict):
        raise InputError(f"{source}: expected an object with the keys {', '.join(fields)}; {remedy}")
    values = {}
    for name, (kind, required) in fields.items():
        if name in content:
            try:
                values[name] = msgspec.convert(content[name], kind, strict=True, dec_hook=dec_hook)
            except Exception as error:  # ValidationError; UnicodeError of a lone surrogate where a number belongs; …
                raise wrong_value(name, schema, source, remedy) from error
        elif required:
            raise InputError(f"{source}: key {name!r} is missing, expected {_description(schema, name)}; {remedy}")
    return schema(**values)


def wrong_value(name: str, schema: type, source: object, remedy: str) -> InputError:
    """The error for a key whose value is not what the field's description says."""
    return InputError(f"{source}: key {name!r} is not {_description(schema, name)}; {remedy}")


@cache
def _fields(schema: type) -> dict[str, tuple[Any, bool]]:
    """By its name, the type of each field and whether it is required."""
    kinds = get_type_hints(schema, include_extras=True)
    return {field.name: (kinds[field.name], field.required) for field in msgspec.inspect.type_info(schema).fields}


def _description(schema: type, name: str) -> str:
    metadata = _fields(schema)[name][0].__metadata__
    return next(meta.description for meta in reversed(metadata) if meta.description)
