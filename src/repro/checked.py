"""Values from files and people: checked by pydantic, refused in one line that names file, field, value and remedy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from repro.errors import ConfigError

Kind = TypeVar("Kind")


class Checked(BaseModel):
    """A frozen model of strict types (1 is not true, and 1.0 no integer) that has no fields but its own."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        for name in values if isinstance(values, Mapping) else ():
            if name not in cls.model_fields:
                raise ValueError(f"{name!r} is unknown; known are {', '.join(cls.model_fields)}")
        return values


def parse(text: str) -> Any:
    """The plain values of a YAML text, by libyaml where PyYAML has it, which takes a tenth of the time.

    Raises:
        yaml.YAMLError: for a text that is not YAML.
    """
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read(kind: type[Kind], values: Any, source: object) -> Kind:
    """Plain values as a model, or as any type made of models; ``source`` says in errors where they come from.

    Raises:
        ConfigError: naming source, field, value and what it must be.
    """
    try:
        return TypeAdapter(kind).validate_python(values, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{source}: {one_line(error, values)}") from None


def one_line(error: ValidationError, values: Any = None) -> str:
    """What pydantic found wrong first: where, the value, and what it must be.

    Items of the lists in ``values`` are named by their ``id`` where they have one, else by their place.
    """
    first = error.errors(include_url=False)[0]
    where, value = ".".join(_places(first["loc"], values)), first["input"]
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error":
        return f"{where}: {first['ctx']['error']}" if where else str(first["ctx"]["error"])
    found = f"{where}={value!r}" if where else repr(value)
    must = first["msg"].split(" should ")[-1].split(" or instance of ")[0]
    return f"{found} ({type(value).__name__}) is not allowed; it must {must}"


def _places(parts: Sequence[str | int], values: Any) -> Iterator[str]:
    for part in parts:
        inside = isinstance(values, list) or (isinstance(values, Mapping) and part in values)
        values = values[part] if inside else None
        named = isinstance(part, int) and isinstance(values, Mapping) and "id" in values
        if part != "[key]":
            yield str(values["id"] if named else part)
