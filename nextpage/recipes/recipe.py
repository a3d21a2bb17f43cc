"""Reading a recipe: sections of settings, each the frozen dataclass of one part."""

import copy
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings by section. `part` turns a section into the configuration of the part that it names."""

    name: str
    sections: dict[str, dict[str, Any]]

    def part(self, section: str, kind: type[Config]) -> Config:
        """The section as dataclass `kind`; what it leaves out keeps the part's default."""
        return _build(kind, self.sections.get(section, {}), f"{self.name}: {section}")

    def with_settings(self, settings: Iterable[str]) -> "Recipe":
        """The recipe with `section.key=value` overrides; values are read as YAML."""
        sections = copy.deepcopy(self.sections)
        for setting in settings:
            path, equals, value = setting.partition("=")
            section, *keys = path.strip().split(".")
            if not (equals and all(keys) and keys):
                raise ValueError(f"setting {setting!r} is not of the form section.key=value")
            if section not in sections:
                raise ValueError(f"setting {setting!r} names no section of recipe {self.name!r}: {', '.join(sections)}")
            inner = sections[section]
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = yaml.safe_load(value)
        return Recipe(name=self.name, sections=sections)

    def to_yaml(self) -> str:
        return yaml.safe_dump({"name": self.name, **self.sections}, sort_keys=False)

    def write(self, path: Path) -> None:
        path.write_text(self.to_yaml())


def read_recipe(source: str | Path) -> Recipe:
    """A recipe by the name of one that ships with Nextpage (`genrec`), or from a YAML file."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise FileNotFoundError(f"recipe file {path} does not exist")
        return parse_recipe(path.read_text())
    shipped = resources.files("nextpage.recipes")
    names = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir() if entry.name.endswith(".yaml"))
    if str(source) not in names:
        raise ValueError(f"recipe {str(source)!r} is unknown: use {', '.join(names)} or the path of a YAML file")
    return parse_recipe((shipped / f"{source}.yaml").read_text())


def parse_recipe(text: str) -> Recipe:
    """A recipe from YAML text."""
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict) or "name" not in raw:
        raise ValueError(
            f"the recipe is no mapping with a name, it begins {text[:60]!r}: see nextpage/recipes/genrec.yaml"
        )
    name = str(raw.pop("name"))
    sections = {section: {} if settings is None else settings for section, settings in raw.items()}
    for section, settings in sections.items():
        if not isinstance(settings, dict):
            raise ValueError(f"section {section!r} of recipe {name!r} is {settings!r}: it must be a mapping")
    return Recipe(name=name, sections=sections)


def _build(kind: type[Config], settings: dict[str, Any], place: str) -> Config:
    """A dataclass of `settings`, and the dataclasses within it."""
    types = get_type_hints(kind)
    arguments = {}
    for key, value in settings.items():
        if key not in types:
            known = ", ".join(types)
            raise ValueError(f"recipe {place} sets {key} = {value!r}, which {kind.__name__} has not: use {known}")
        arguments[key] = _fitted(types[key], value, f"{place}.{key}")
    return kind(**arguments)


def _fitted(kind: Any, value: Any, place: str) -> Any:
    """The value as its setting's type; raises ValueError where it is of another. YAML reads 2e-3 as text, 1 as int."""
    if is_dataclass(kind) and isinstance(value, dict):
        return _build(cast(type[Any], kind), value, place)
    if get_origin(kind) is tuple and isinstance(value, list):
        value = tuple(value)
    kinds = [get_origin(one) or one for one in (get_args(kind) if isinstance(kind, UnionType) else (kind,))]
    if float in kinds and isinstance(value, int | str) and not isinstance(value, (bool, *kinds)):
        with suppress(ValueError):
            value = float(value)
    if not isinstance(value, tuple(kinds)) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"recipe {place} is {value!r}: it must be {' or '.join(one.__name__ for one in kinds)}")
    return value
