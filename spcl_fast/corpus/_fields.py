"""Looking at what a manifest says without believing it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.arrow")


class Fields:
    """The fields of one JSON object, each of its kind; ValueError with where it stands and what was got."""

    def __init__(self, where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: must be an object (got {_shown(value)})")
        self.where, self.value, self.taken = where, value, set[str]()

    def any(self, name: str) -> Any:
        """Of any kind, but there."""
        if name not in self.value:
            raise ValueError(f"{self.where}: has no field {name}")
        self.taken.add(name)
        return self.value[name]

    def text(self, name: str) -> str:
        """Unicode text of up to 1000 characters, at least one."""
        return _text(f"{self.where}.{name}", self.any(name))

    def integer(self, name: str, lowest: int, highest: int) -> int:
        """An integer in [lowest, highest]; true and 1.0 are none."""
        value = self.any(name)
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(f"{self.where}.{name}: must be an integer in [{lowest}, {highest}] (got {_shown(value)})")
        return value

    def choice(self, name: str, known: Sequence[str]) -> str:
        """One of some words."""
        value = self.any(name)
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{self.where}.{name}: must be one of {', '.join(known)} (got {_shown(value)})")
        return value

    def list(self, name: str) -> list[Any]:
        """A list of anything."""
        value = self.any(name)
        if not isinstance(value, list):
            raise ValueError(f"{self.where}.{name}: must be a list (got {_shown(value)})")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(_text(f"{self.where}.{name}[{i}]", text) for i, text in enumerate(self.list(name)))

    def mapping(self, name: str) -> dict[str, Any]:
        """An object."""
        return Fields(f"{self.where}.{name}", self.any(name)).value

    def nothing_else(self) -> None:
        """Refuses fields that nobody took: they may mean something to another version."""
        for name in self.value:
            if name not in self.taken:
                raise ValueError(f"{self.where}: has a field that is not known (got {_shown(name)})")


def name_of_file(where: str, name: str) -> str:
    """A name that stays in its folder and is none of the store's other files."""
    if not _NAME.fullmatch(name) or name.endswith(".dialogues.arrow"):
        rule = "must be letters, digits, '.', '_' and '-', end in .arrow and not in .dialogues.arrow"
        raise ValueError(f"{where}: {rule} (got {_shown(name)})")
    return name


def unique(where: str, names: Sequence[str]) -> None:
    """Refuses a name that is there twice."""
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ValueError(f"{where}: names must be distinct (got {_shown(name)} a second time)")
        seen.add(name)


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 1000 or re.search("[\x00\ud800-\udfff]", value):
        raise ValueError(f"{where}: must be text of 1 to 1000 characters (got {_shown(value)})")
    return value


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
