"""What a file may hold, as types: msgspec checks it, and an error names the file, the key and what was expected."""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from common.errors import InputError

T = TypeVar("T")

Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\0]*\Z")]  # no file name holds a NUL
Index = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float


def described(kind: Any, description: str) -> Any:
    """The type `kind` of a field, with the words that an error says of it: "key 'labels' is not …"."""
    return Annotated[kind, msgspec.Meta(description=description)]


def converted(content: Any, schema: type[T], source: object, remedy: str, dec_hook: Callable | None = None) -> T:
    """`content`, as json.loads or torch.load gives it, as a `schema`; types are strict, True is no number.

    schema: a dataclass or msgspec.Struct whose fields are `described`; a field with a default may be missing.
    source: the file, for the error; remedy: what to do about it.
    dec_hook: see msgspec.convert; checks types that msgspec does not know.

    Raises InputError that names the first key which is missing or holds something else.
    """
    try:
        return msgspec.convert(content, schema, strict=True, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        message = str(error)
        if key := re.search(r"`\$\.(\w+)", message):
            described_as = description_of(schema, key[1])
            raise InputError(f"{source}: key {key[1]!r} is not {described_as}; {remedy}") from error
        if key := re.search(r"missing required field `(\w+)`", message):
            described_as = description_of(schema, key[1])
            raise InputError(f"{source}: key {key[1]!r} is missing, expected {described_as}; {remedy}") from error
        raise InputError(f"{source}: {message}; {remedy}") from error


def description_of(schema: type, key: str) -> str:
    """What `described` says of a field of the schema."""
    metadata = getattr(get_type_hints(schema, include_extras=True)[key], "__metadata__", ())
    return next(meta.description for meta in metadata if meta.description)
