"""YAML files as people write them: a key that stands twice is an error, not a silent choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import RecipeError


class _Loader(yaml.SafeLoader):
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(path: Path, what: str) -> Any:
    """What a YAML file holds. Raises RecipeError where it is missing, unreadable or broken."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"there is no {what} {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the {what} {path} cannot be read: {error}") from error
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{place}: {getattr(error, 'problem', None) or error}") from error
