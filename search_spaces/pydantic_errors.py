"""Translation of pydantic's validation errors into problems with place, rule, value and fix."""

from collections.abc import Callable

from pydantic import BaseModel, ValidationError

from paretta.search_spaces.errors import Problem, did_you_mean


def problems_of(error: ValidationError, model: type[BaseModel], where: Callable[[str], str]) -> list[Problem]:
    """Translate every error; a field's description, which completes "give ...", becomes the advice to fix it.

    Args:
        error: what pydantic raised.
        model: the class that was validated.
        where: turns a path such as ``workers.cpus`` into its place in the file.
    """
    return [
        _problem(tuple(finding["loc"]), finding["msg"], finding["input"], model, where) for finding in error.errors()
    ]


def _problem(
    location: tuple[int | str, ...],
    message: str,
    value: object,
    model: type[BaseModel],
    where: Callable[[str], str],
) -> Problem:
    place = where(_path(location))
    owner = _owner(model, location)
    if message == "Extra inputs are not permitted":
        known = set(owner.model_fields) - {"kind"} if owner else set()
        return Problem(place, did_you_mean(str(location[-1]), known, "setting"), value)
    named = next((part for part in reversed(location) if isinstance(part, str)), "")
    field = (owner or model).model_fields.get(named) or model.model_fields.get(str(location[0]) if location else "")
    mend = f"give {field.description}" if field is not None and field.description else ""
    if message == "Field required":
        return Problem(place, "this setting is required", mend=mend)
    rule = message.removeprefix("Value error, ").replace("Input should be", "must be").replace("Field", "setting")
    return Problem(place, rule, value, mend)


def _path(location: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _owner(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the nested model that has the last name of `location` as a field, or None if it cannot be found."""
    owner: type[BaseModel] | None = model
    for part in location[:-1]:
        if owner is None or not isinstance(part, str) or part not in owner.model_fields:
            return None
        kind = owner.model_fields[part].annotation
        owner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return owner
