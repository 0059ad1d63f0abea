"""Configurations in YAML: a file of the user's, or one that ships."""

from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from distila.xapp.config import read_yaml
from distila.xapp.errors import InputError, first_error

Model = TypeVar("Model", bound=BaseModel)


def load_config(model: type[Model], name: str, package: str, folder: str = "configs") -> Model:
    """Read a configuration.

    Args:
        model: what it must be.
        name: a YAML file, or the name of one that ships.
        package: with which it ships,
        folder: and in which folder of it.

    Raises:
        InputError: one line naming file, setting and value.
    """
    shipped = Path(str(files(package))) / folder
    path = Path(name)
    if not path.exists() and (shipped / f"{name}.yaml").is_file():
        path = shipped / f"{name}.yaml"
    try:
        return model.model_validate(read_yaml(path) or {})
    except ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None
