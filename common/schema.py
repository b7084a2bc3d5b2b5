"""What a file may hold, as types: msgspec checks it, and an error names the file, the key and what was expected."""

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


def converted(content: dict, schema: type[T], source: object, remedy: str, dec_hook: Callable | None = None) -> T:
    """`content`, a dict of json.loads or torch.load, as a `schema`; types are strict, True is no number.

    schema: a dataclass or msgspec.Struct whose fields are `described`; a field with a default may be missing.
    source: the file, for the error; remedy: what to do about it.
    dec_hook: see msgspec.convert; checks types that msgspec does not know.

    Raises InputError that names the first key which is missing or holds something else.
    """
    try:
        return msgspec.convert(content, schema, strict=True, dec_hook=dec_hook)
    except Exception as error:  # ValidationError; and whatever a stranger's objects raise when they are looked at
        for key, kind in get_type_hints(schema, include_extras=True).items():
            if key in content and not _fits(content[key], kind, dec_hook):
                fault = f"is not {description_of(schema, key)}"
            elif key not in content and f"`{key}`" in str(error):
                fault = f"is missing, expected {description_of(schema, key)}"
            else:
                continue
            raise InputError(f"{source}: key {key!r} {fault}; {remedy}") from error
        raise InputError(f"{source}: {error}; {remedy}") from error


def _fits(value: Any, kind: Any, dec_hook: Callable | None) -> bool:
    try:
        msgspec.convert(value, kind, strict=True, dec_hook=dec_hook)
        return True
    except Exception:
        return False


def description_of(schema: type, key: str) -> str:
    """What `described` says of a field of the schema."""
    metadata = getattr(get_type_hints(schema, include_extras=True)[key], "__metadata__", ())
    return next(meta.description for meta in metadata if meta.description)
