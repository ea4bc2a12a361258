"""Names for what a user may choose by name or add to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Factories by name; `kind` is the word of the messages."""

    def __init__(self, kind: str, factories: Mapping[str, Callable[..., T]]) -> None:
        self._kind = kind
        self._factories = dict(factories)

    def names(self) -> tuple[str, ...]:
        """The names that can be made, in the order they were registered."""
        return tuple(self._factories)

    def register(self, name: str, factory: Callable[..., T]) -> None:
        """Adds a name.

        Raises:
            TypeError: a name that is no text, or a factory that cannot be called.
            ValueError: a name that is taken; nothing is replaced unawares.
        """
        if not isinstance(name, str):
            raise TypeError(f"{self._kind}: a name must be text (got {type(name).__name__})")
        if not callable(factory):
            raise TypeError(f"{self._kind}: the factory of {name!r} must be callable (got {type(factory).__name__})")
        if name in self._factories:
            raise ValueError(f"{self._kind}: a name must be new (got {name!r}, which is taken)")
        self._factories[name] = factory

    def get(self, name: str) -> Callable[..., T] | None:
        """The factory of that name, or None."""
        return self._factories.get(name)

    def make(self, name: str, /, **parameters: Any) -> T:
        """What the factory of that name makes of the parameters.

        Raises:
            TypeError: a parameter that the factory needs is missing.
            ValueError: no factory has this name.
        """
        if name not in self._factories:
            known = ", ".join(map(repr, self._factories))
            raise ValueError(f"{self._kind} must be one of {known} (got {name!r})")
        factory = self._factories[name]
        missing = [needed for needed in _needed(factory) if needed not in parameters]
        if missing:
            got = ", ".join(parameters) or "the name alone"
            raise TypeError(f"{self._kind}: {name!r} needs {', '.join(missing)} (got {got})")
        return factory(**parameters)


def _needed(factory: Callable[..., Any]) -> list[str]:
    """The parameters without a default; none where nobody can tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some built-in types
        return []
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in by_name and p.default is inspect.Parameter.empty]
