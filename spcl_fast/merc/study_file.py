"""A study from one YAML file: what it may say, and what is wrong with it by name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.curricula import CURRICULA
from spcl_fast.merc.study import BASELINE, SEARCH_SEED, Data, Study, _places
from spcl_fast.merc.study import StudyError as StudyError

PARTS = ("main", "ablation")
_KEYS = {"data", "backbones", "curricula", "search", "parts"}
_FIELDS = {f.name for f in fields(TrainConfig)} - {"seed", "curriculum", "available"}


def read_study(path: str | os.PathLike[str]) -> Study:
    """A study from a YAML file; what is wrong with it is a `StudyError`.

    Example:
        >>> from spcl_fast.merc.study_file import StudyError, read_study
        >>> try:
        ...     read_study("lost.yaml")
        ... except StudyError as error:
        ...     print(error)
        lost.yaml: cannot be read (No such file or directory)
    """
    try:
        return parse_study(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from error
    except (StudyError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: {error}") from error


def parse_study(text: str) -> Study:
    """A study from YAML; contract: `Study`.

    Raises:
        StudyError: something else than the mappings and lists of a study, an unknown name, a setting that `TrainConfig`
            refuses.

    Example:
        >>> from spcl_fast.merc.study_file import parse_study
        >>> try:
        ...     parse_study("[1, 2]")
        ... except ValueError as error:
        ...     print(error)
        study: must be a mapping with names as keys (got list)
    """
    try:
        given = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise StudyError(f"study: must be YAML ({' '.join(str(error).split())})") from error
    given = _mapping("study", given)
    if given.keys() != _KEYS:
        missing, got = [k for k in ("data", "backbones", "curricula", "search", "parts") if k not in given], list(given)
        if missing:
            raise StudyError(f"study: must have {', '.join(missing)} (got {', '.join(map(str, got)) or 'nothing'})")
        raise StudyError(f"study: must have nothing but {', '.join(sorted(_KEYS))} (got {', '.join(map(str, got))})")
    data = {}
    for name, entry in _mapping("data", given["data"]).items():
        entry = _mapping(f"data.{name}", entry)
        if entry.keys() != {"file", "modalities"} or not all(isinstance(x, str) for x in entry.values()):
            raise StudyError(f"data.{name}: must have the texts file and modalities (got {entry})")
        data[name] = Data(**entry)
    study = Study(
        data,
        {name: _mapping(f"backbones.{name}", x) for name, x in _mapping("backbones", given["backbones"]).items()},
        _curricula(_mapping("curricula", given["curricula"])),
        _mapping("search", given["search"]),
        [_mapping("parts", part) for part in _list("parts", given["parts"])],
    )
    _check(study)
    return study


def _curricula(given: dict[str, Any]) -> dict[str, list[dict[str, Any]] | str]:
    curricula: dict[str, list[dict[str, Any]] | str] = {}
    for name in given.keys() - CURRICULA.keys():
        raise StudyError(f"curricula.{name}: must be one of {', '.join(CURRICULA)}")
    for name, settings in given.items():
        where = f"curricula.{name}"
        if isinstance(settings, str):
            if not isinstance(given.get(settings), list):
                raise StudyError(f"{where}: must name a curriculum of the study with candidates (got {settings!r})")
            if lacks := [x for x in CURRICULA[name].settings if x not in CURRICULA[settings].settings]:
                raise StudyError(f"{where}: must name one that has {', '.join(lacks)} too (got {settings!r})")
            curricula[name] = settings
            continue
        curricula[name] = [_mapping(where, setting) for setting in _list(where, settings)]
        if not settings:
            raise StudyError(f"{where}: must have at least one candidate (got none)")
        allowed = _FIELDS if name == BASELINE else set(CURRICULA[name].settings)
        for setting in curricula[name]:
            if unknown := sorted(map(str, setting.keys() - allowed)):  # type: ignore[union-attr]
                raise StudyError(f"{where}: may set {', '.join(sorted(allowed))} (got {', '.join(unknown)})")
    if not isinstance(curricula.get(BASELINE), list):
        raise StudyError(f"curricula: must have candidates for {BASELINE}, which every other is compared with")
    return curricula


def _check(study: Study) -> None:
    """That every name is known and every configuration can be made."""
    if study.search.keys() != {"backbone", "seeds"}:
        raise StudyError(f"search: must have backbone and seeds (got {', '.join(map(str, study.search))})")
    _known("search.backbone", [study.search["backbone"]], study.backbones)
    several = [name for name, settings in study.curricula.items() if not isinstance(settings, str) and settings[1:]]
    if study.search["seeds"] != 0 or several:  # 0 chooses nothing
        _seeds("search.seeds", study.search["seeds"])
    if not study.parts:
        raise StudyError("parts: must have at least one part (got none)")
    for i, part in enumerate(study.parts):
        where = f"parts[{i}]"
        if part.keys() - {"available"} != {"part", "data", "backbones", "curricula", "seeds"}:
            rule = "must have part, data, backbones, curricula, seeds, and may have available"
            raise StudyError(f"{where}: {rule} (got {', '.join(map(str, part))})")
        _known(f"{where}.part", [part["part"]], PARTS)
        _seeds(f"{where}.seeds", part["seeds"])
        for field, of in (("data", study.data), ("backbones", study.backbones), ("curricula", study.curricula)):
            _known(f"{where}.{field}", _list(f"{where}.{field}", part[field]), of)
        if "available" in part:
            _available(f"{where}.available", _list(f"{where}.available", part["available"]), part["data"], study)
    for name, options in study.backbones.items():
        on = _mapping(f"backbones.{name}.per_data", options.get("per_data", {}))
        _known(f"backbones.{name}.per_data", on, study.data)
        for own in [{}, *(_mapping(f"backbones.{name}.per_data", x) for x in on.values())]:
            _config(f"backbones.{name}", {k: x for k, x in options.items() if k != "per_data"} | own)
    for name, settings in study.curricula.items():
        for setting in [] if isinstance(settings, str) else settings:
            _config(f"curricula.{name}", setting)
    for i, part in enumerate(study.parts):
        for place, backbone, curriculum in product(_places(part), part["backbones"], part["curricula"]):
            asked = [(part["part"], backbone)]
            if study.search["seeds"]:
                asked.append(("search", study.search["backbone"]))
            for of, by in asked:
                try:
                    study._job(of, place, by, curriculum, {}, 0)
                except ValueError as error:
                    raise StudyError(f"parts[{i}]: {by}: {error}") from error


def _available(where: str, wanted: Sequence[Any], data: Iterable[str], study: Study) -> None:
    from spcl_fast.hardy.protocols import parse_available  # which is a layer above this one

    if not wanted:
        raise StudyError(f"{where}: must have at least one entry (got none)")
    for name, available in product(data, wanted):
        try:
            parse_available(available, study.data[name].modalities.split(","))
        except (TypeError, ValueError) as error:
            raise StudyError(f"{where}: {name}: {error}") from error


def _config(where: str, options: dict[str, Any]) -> None:
    if unknown := sorted(map(str, options.keys() - _FIELDS)):
        raise StudyError(f"{where}: may set {', '.join(sorted(_FIELDS))} (got {', '.join(unknown)})")
    try:
        replace(TrainConfig(), **options)
    except (TypeError, ValueError) as error:
        raise StudyError(f"{where}: {error}") from error


def _known(where: str, names: Iterable[Any], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise StudyError(f"{where}: must be among {', '.join(known)} (got {name!r})")


def _seeds(where: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= SEARCH_SEED:
        raise StudyError(f"{where}: must be an integer in [1, {SEARCH_SEED}] (got {value!r})")


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise StudyError(f"{where}: must be a mapping with names as keys (got {type(value).__name__})")
    return dict(value)


def _list(where: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise StudyError(f"{where}: must be a list (got {type(value).__name__})")
    return value
