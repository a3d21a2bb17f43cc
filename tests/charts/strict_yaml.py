"""YAML as an API server reads it: a key stands once in a mapping, and a bare `y` or `n`, a boolean there and text to
PyYAML, stands nowhere."""

import re
from typing import Any

import yaml


class _Strict(yaml.CSafeLoader):
    pass


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    repeated = {key for key in keys if keys.count(key) > 1}
    if repeated:
        raise yaml.YAMLError(f"{node.start_mark}: {sorted(repeated)} stands twice")
    return dict(zip(keys, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True))


_Strict.add_constructor("tag:yaml.org,2002:map", _mapping)
_Strict.add_implicit_resolver("!ambiguous", re.compile("^[yYnN]$"), list("yYnN"))  # no constructor: it raises


def documents(text: str) -> list[dict[str, Any]]:
    """The objects of a stream; empty documents are left out. Raises yaml.YAMLError."""
    return [document for document in yaml.load_all(text, Loader=_Strict) if document is not None]
