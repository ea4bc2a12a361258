"""A study: which runs a matrix of data sets, backbones, curricula and seeds asks for.

Settings are chosen on the development set alone: every curriculum, and the baseline, has a list of candidates, each is
trained with seeds of its own, and the runs that are reported take the best. The test set is scored by these alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.curricula import CURRICULA

BASELINE = "none"
EVERYTHING = "all"  # modalities
SEARCH_SEED = 1000  # the first seed of the search: none of them is reported
_DEFAULTS = asdict(TrainConfig())
Place = tuple[str, str]  # a data set, and what is available of it


class StudyError(ValueError):
    """A study file breaks a rule; the message says which and where.

    Example:
        >>> from spcl_fast.merc.study import StudyError
        >>> from spcl_fast.merc.study_file import parse_study
        >>> try:
        ...     parse_study("backbones: {}")
        ... except StudyError as error:
        ...     print(error)
        study: must have data, curricula, search, parts (got backbones)
    """


class Data(NamedTuple):
    """A data set of a study: the file, and which of its features are the modalities.

    Example:
        >>> from spcl_fast.merc.study import Data
        >>> Data("iemocap_6way.npz", "text_lsa+text_glove,audio").file
        'iemocap_6way.npz'
    """

    file: str
    modalities: str


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        part: "search", whose test set is never scored; "main" or "ablation".
        data, backbone, curriculum: names of the study.
        setting: what the curriculum decides of the configuration.
        config: the whole configuration, the seed included.

    Example:
        >>> from dataclasses import replace
        >>> from spcl_fast.merc.config import TrainConfig
        >>> from spcl_fast.merc.study import Job
        >>> job = Job("main", "MELD", "mmgcn", "spcl", {"threshold": 0.4}, TrainConfig(threshold=0.4, seed=3))
        >>> len(job.key), job.key == replace(job, part="ablation").key  # the same run
        (16, True)
    """

    part: str
    data: str
    backbone: str
    curriculum: str
    setting: dict[str, Any]
    config: TrainConfig

    @cached_property
    def key(self) -> str:
        """What tells a run from all others; the part it belongs to does not, but for the search.

        Of the configuration it is what differs from the defaults, so that a new field makes no finished run another.
        """
        config = {name: x for name, x in asdict(self.config).items() if x != _DEFAULTS[name]}
        what = [self.part == "search", self.data, self.backbone, self.curriculum, config]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


class Study(NamedTuple):
    """What a study asks for; `ready` says which of its runs can be made now.

    Attributes:
        data: name -> data set.
        backbones: name -> fields of `TrainConfig`, and under "per_data" those of a data set. To others than that of the
            search only what decides a curriculum is carried over, and where they do not say it themselves.
        curricula: name -> candidate settings, or the name of one with the same fields, whose choice it shares.
        search: "backbone", which the settings are chosen for and carried over from, and "seeds": 0 where every
            curriculum has one candidate, so that there is nothing to choose.
        parts: "part", "data", "backbones", "curricula", "seeds" of what is reported; "available", a list of what
            `TrainConfig` calls so, where that is not all modalities alone. Settings are chosen for each of these.

    Example:
        >>> from spcl_fast.merc.study_file import parse_study
        >>> study = parse_study('''
        ... data: {MELD: {file: meld.npz, modalities: "text_lsa,audio"}}
        ... backbones: {late_fusion: {model: late_fusion, hidden: 32}}
        ... curricula: {none: [{}], spcl: [{threshold: 0.4}, {threshold: 0.8}], random_utterances: spcl}
        ... search: {backbone: late_fusion, seeds: 2}
        ... parts: [{part: main, data: [MELD], backbones: [late_fusion], curricula: [none, spcl], seeds: 3}]
        ... ''')
        >>> [(job.part, job.curriculum, job.config.seed) for job in study.ready([])]  # the baseline comes first
        [('search', 'none', 1000), ('search', 'none', 1001)]
    """

    data: dict[str, Data]
    backbones: dict[str, dict[str, Any]]
    curricula: dict[str, list[dict[str, Any]] | str]
    search: dict[str, Any]
    parts: list[dict[str, Any]]

    def ready(self, rows: Iterable[Mapping[str, Any]]) -> list[Job]:
        """The runs that are missing and can be made with what is known: first what choices wait for.

        Args:
            rows: the runs that there are, of `results.read_results`.

        Returns:
            Runs in the order of the parts, in place of each that has to wait for a choice the runs of the search; empty
            when the study is complete. A candidate with a run that failed is not chosen; where none is left, the runs
            that it was to decide are not made.

        Raises:
            StudyError: a run of the search that did not fail, and has no score on dev.

        Example:
            >>> from spcl_fast.merc.study_file import parse_study
            >>> study = parse_study('''
            ... data: {MELD: {file: meld.npz, modalities: "text_lsa,audio"}}
            ... backbones: {late_fusion: {}}
            ... curricula: {none: [{dropout: 0.3}, {dropout: 0.5}]}
            ... search: {backbone: late_fusion, seeds: 1}
            ... parts: [{part: main, data: [MELD], backbones: [late_fusion], curricula: [none], seeds: 1}]
            ... ''')
            >>> first, second = study.ready([])
            >>> rows = [{"key": job.key, "dev": {"weighted_f1": f1}} for job, f1 in ((first, 0.5), (second, 0.6))]
            >>> [(job.part, job.config.dropout) for job in study.ready(rows)]
            [('main', 0.5)]
        """
        choices = _Choices(self, {row["key"]: row for row in rows})
        wanted: dict[str, Job] = {}
        for part in self.parts:
            for seed in range(part["seeds"]):  # seed by seed, so that an unfinished study can be read
                of_part = product(_places(part), part["backbones"], part["curricula"])
                for place, backbone, curriculum in of_part:
                    setting = choices.setting(place, curriculum)
                    if setting is None:
                        jobs = choices.missing(place, curriculum)
                    else:
                        jobs = [self._job(part["part"], place, backbone, curriculum, setting, seed)]
                    for job in jobs:
                        wanted.setdefault(job.key, job)
        return [job for key, job in wanted.items() if key not in choices.known]

    def _job(self, part: str, place: Place, backbone: str, curriculum: str, setting: dict[str, Any], seed: int) -> Job:
        data, available = place
        options = {k: x for k, x in self.backbones[backbone].items() if k != "per_data"}
        options |= self.backbones[backbone].get("per_data", {}).get(data, {})
        # The choice is for the backbone of the search; another takes over what is the curriculum's, and keeps its own.
        if backbone != self.search["backbone"]:
            own, recipe = options, CURRICULA[curriculum]
            setting = {k: x if recipe.carried else own.get(k, x) for k, x in setting.items() if k in recipe.settings}
        options |= {**setting, "curriculum": curriculum, "available": available, "seed": seed}
        # 1 and 1.0 are one setting, so they must make one key.
        options = {k: float(x) if isinstance(_DEFAULTS[k], float) else x for k, x in options.items()}
        return _made(part, data, backbone, curriculum, tuple(setting.items()), tuple(options.items()))


@lru_cache(maxsize=1 << 16)  # a study is planned anew after every run
def _made(
    part: str, data: str, backbone: str, curriculum: str, setting: tuple[Any, ...], options: tuple[Any, ...]
) -> Job:
    return Job(part, data, backbone, curriculum, dict(setting), TrainConfig(**dict(options)))


def _places(part: Mapping[str, Any]) -> Iterable[Place]:
    """Each data set of a part with each choice of what is available."""
    return product(part["data"], part.get("available", [EVERYTHING]))


class _Choices:
    """The settings that the search has come to so far, for each data set and what is available of it."""

    def __init__(self, study: Study, known: Mapping[str, Mapping[str, Any]]) -> None:
        self.study, self.known = study, known
        self._settings: dict[tuple[Place, str], dict[str, Any] | None] = {}

    def setting(self, place: Place, curriculum: str) -> dict[str, Any] | None:
        """What was chosen; None while runs are missing, or where all candidates failed."""
        where = place, self._owner(curriculum)
        if where not in self._settings:
            self._settings[where] = self._best(*where)
        return self._settings[where]

    def missing(self, place: Place, curriculum: str) -> list[Job]:
        """The runs that a choice waits for: those of the baseline, and then its own."""
        of = self._owner(curriculum)
        if self.setting(place, BASELINE) is None:
            of = BASELINE
        return [job for _, jobs in self._candidates(place, of) for job in jobs]

    def _best(self, place: Place, curriculum: str) -> dict[str, Any] | None:
        if curriculum != BASELINE and self.setting(place, BASELINE) is None:
            return None
        candidates = self._candidates(place, curriculum)
        if any(job.key not in self.known for _, jobs in candidates for job in jobs):
            return None
        whole = [c for c in candidates if not any(self.known[job.key].get("error") for job in c[1])]
        if len(whole) > 1:
            whole.sort(key=self._dev_score, reverse=True)  # stable: of equals the first
        return whole[0][0] if whole else None

    def _dev_score(self, candidate: tuple[dict[str, Any], list[Job]]) -> float:
        jobs = candidate[1]
        scores: list[Any] = [(self.known[job.key].get("dev") or {}).get("weighted_f1") for job in jobs]
        if None in scores:
            raise StudyError(f"search: every run must have a weighted F1 on dev (got none for {jobs[0].setting})")
        return fmean(scores)

    def _owner(self, curriculum: str) -> str:
        """The curriculum whose candidates this one is chosen from."""
        settings = self.study.curricula[curriculum]
        return settings if isinstance(settings, str) else curriculum

    def _candidates(self, place: Place, curriculum: str) -> list[tuple[dict[str, Any], list[Job]]]:
        """Each setting that may be chosen, with the runs that decide."""
        base = {} if curriculum == BASELINE else self.setting(place, BASELINE) or {}
        settings, search = self.study.curricula[curriculum], self.study.search
        assert not isinstance(settings, str)
        seeds = range(SEARCH_SEED, SEARCH_SEED + search["seeds"])
        backbone = search["backbone"]
        return [
            (base | own, [self.study._job("search", place, backbone, curriculum, base | own, seed) for seed in seeds])
            for own in settings
        ]
