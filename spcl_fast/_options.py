"""The options of the ops that have names; of the schemes also numbers, parameters and domains. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

AGGREGATES = ("sum", "mean")
NORMALIZERS = ("all", "selected")
#: what a reconstruction is compared with: the true features, or the zeros of the published code
TARGET_SOURCES = ("true", "code")
#: what the difficulty of an utterance measures, each at the place of its number in the compiled library
MEASURES = ("spcl", "loss", "spread", "none")
#: the measures that need two modalities
MEASURES_OF_SPREAD = ("spcl", "spread")
#: the schemes, by their numbers in the compiled library
NUMBERS = {
    **{"hard": 0, "linear": 1, "logistic": 2, "log": 3, "mixture": 4, "polynomial": 5},
    **{"superloss": 7, "given": 8, "spld": 6},
}
#: "polynomial" by the formula "curml", a scheme of its own to the library
POLYNOMIAL_OF_CURML = 9
PARAMETERS = {
    "mixture": ("lower",),
    "polynomial": ("degree",),
    "spld": ("gamma", "groups"),
    "superloss": ("regularization",),
}
#: what `formula` of "polynomial" may be; the first is the default
FORMULAS = ("paper", "curml")
_OPTIONAL = {"polynomial": ("formula",)}
#: what the number of a scheme must be, beside finite
_DOMAINS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lower": ("above 0", lambda number: number > 0),
    "degree": ("above 1", lambda number: number > 1),
    "gamma": ("at least 0", lambda number: number >= 0),
    "regularization": ("above 0", lambda number: number > 0),
}
#: what `groups` of "spld" may be where a batch has labels and dialogues to group by; the first is the default
GROUPINGS = ("class", "dialogue")


def choice(op: str, name: str, got: str, known: Sequence[str]) -> None:
    """ValueError unless `got` is one of `known`."""
    if got not in known:
        raise ValueError(f"{op}: {name} must be one of {', '.join(map(repr, known))} (got {got!r})")


class Weighting(NamedTuple):
    """A scheme and its one number, 0 for a scheme that has none, as the compiled library takes them."""

    scheme: int
    parameter: float = 0.0


class StepWeighting(NamedTuple):
    """The same for a batch: what groups its utterances is a class, or a dialogue."""

    scheme: int
    parameter: float = 0.0
    groups_are_dialogues: bool = False


#: the schemes that a name says all of
PLAIN = {name: StepWeighting(number) for name, number in NUMBERS.items() if name not in PARAMETERS}


def weighting(op: str, scheme: str, parameters: Mapping[str, Any]) -> Weighting:
    """A scheme with all its parameters, in their domains; what `groups` holds is the caller's to look at.

    Raises:
        TypeError: a parameter that the scheme does not have, one that is missing, or one that is no number.
        ValueError: an unknown scheme, or a parameter out of its domain.
    """
    choice(op, "scheme", scheme, tuple(NUMBERS))
    names, optional = PARAMETERS.get(scheme, ()), _OPTIONAL.get(scheme, ())
    if not set(names) <= parameters.keys() <= {*names, *optional}:
        has = f"the parameter(s) {', '.join(names)}" if names else "no parameters"
        may = f" and may have {', '.join(optional)}" if optional else ""
        raise TypeError(f"{op}: scheme {scheme!r} has {has}{may} (got {', '.join(sorted(parameters)) or 'none'})")
    if not names:
        return Weighting(NUMBERS[scheme])
    number = parameters[names[0]]
    if isinstance(number, bool) or not isinstance(number, Real):
        raise TypeError(f"{op}: {names[0]} of {scheme!r} must be a number (got {type(number).__name__})")
    number = float(number)
    rule, holds = _DOMAINS[names[0]]
    if not (holds(number) and number < math.inf):
        raise ValueError(f"{op}: {names[0]} of {scheme!r} must be finite and {rule} (got {number})")
    formula = parameters.get("formula", FORMULAS[0])
    choice(op, f"formula of {scheme!r}", formula, FORMULAS)
    return Weighting(NUMBERS[scheme] if formula == FORMULAS[0] else POLYNOMIAL_OF_CURML, number)


def step_weighting(op: str, scheme: str, parameters: Mapping[str, Any] | None) -> StepWeighting:
    """The same for a batch, where `groups` of "spld" is one of `GROUPINGS` and may be left out."""
    if not parameters and scheme in PLAIN:
        return PLAIN[scheme]
    parameters = dict(parameters or {})
    grouping = parameters.setdefault("groups", GROUPINGS[0]) if scheme == "spld" else GROUPINGS[0]
    number, parameter = weighting(op, scheme, parameters)
    choice(op, "groups of 'spld'", grouping, GROUPINGS)
    return StepWeighting(number, parameter, grouping == "dialogue")


def require_threshold(op: str, scheme: str, parameter: float, threshold: float) -> None:
    """ValueError for a threshold outside the domain of a scheme."""
    if scheme == "log" and not 0 < threshold < 1:
        raise ValueError(f"{op}: threshold of 'log' must lie in (0, 1) (got {threshold})")
    if scheme == "mixture" and not threshold > parameter:
        raise ValueError(f"{op}: threshold of 'mixture' must be above lower, {parameter} (got {threshold})")
