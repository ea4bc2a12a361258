"""The runs of a results file, put in order: groups that share data and backbone, and in each the curricula."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Run = Mapping[str, Any]

#: What others are compared with, in the order of the sections.
CONTROLS = ("none", "random_utterances", "random_dialogues", "random", "thinning", "random_hardness")
_ORDER = (*CONTROLS, "spcl", "spcl_mean", "loss", "spread", "extended", "extended_incoherence", "extended_transition")
_DATA = {"iemocap_6way": "IEMOCAP (6-way)", "meld": "MELD", "mosi": "CMU-MOSI"}
_BACKBONES = {
    "late_fusion": "Late fusion",
    "mmgcn": "MMGCN",
    "mm_dfn": "MM-DFN",
    "mmdfn": "MM-DFN",
    "dialoguegcn": "DialogueGCN",
    "dialogue_gcn": "DialogueGCN",
    "biddin": "BiDDIN",
}
#: Of a run's configuration, what has to be equal for a comparison; the curriculum's own settings need not be.
_TRAINING = (
    *("standardize", "model", "encoder", "hidden", "dropout", "epochs", "batch_size", "learning_rate"),
    *("weight_decay", "clip", "patience"),
)


class Arm(NamedTuple):
    """The runs of one curriculum in a group, by seed in ascending order; `label` is unique in the group."""

    curriculum: str
    label: str
    runs: dict[int, Run]


class Group(NamedTuple):
    """All runs on the same data, with the same modalities and backbone."""

    data: str
    modalities: tuple[str, ...]
    backbone: str
    class_names: tuple[str, ...]
    arms: tuple[Arm, ...]

    @property
    def data_title(self) -> str:
        """Such as `MELD, text and audio`."""
        return data_title(self.data, self.modalities)

    @property
    def backbone_title(self) -> str:
        """Such as `Late fusion`."""
        return backbone_title(self.backbone)

    @property
    def title(self) -> str:
        """Such as `MELD, text and audio, with Late fusion`."""
        return f"{self.data_title}, with {self.backbone_title}"

    def arm(self, label: str) -> Arm | None:
        """That of this label."""
        return next((arm for arm in self.arms if arm.label == label), None)

    def control(self, curriculum: str) -> Arm | None:
        """The first arm of this curriculum."""
        return next((arm for arm in self.arms if arm.curriculum == curriculum), None)


class Study(NamedTuple):
    """Groups of the main comparison and of the ablations, the rows of the search, and what there is to say of them.

    `lacking` are the runs of both that were to do without some modality, which are in no group.
    """

    main: list[Group]
    ablation: list[Group]
    search: list[Run]
    lacking: list[Run]
    notes: list[str]


def make_study(rows: Sequence[Run], notes: Iterable[str] = ()) -> Study:
    """Orders the rows. A group of the ablations also has the runs that the main comparison made in it."""
    said = list(notes)
    said += _failures([row for row in rows if row.get("error")])
    scored = [row for row in rows if row["part"] != "search" and not row.get("error")]
    broken = sum(score(row, "weighted_f1") is None for row in scored)
    if broken:
        said.append(f"{broken} run(s) have no test weighted F1, so they count in no mean and no comparison of it.")
    lacking = [row for row in scored if lacks_modalities(row)]
    scored = [row for row in scored if not lacks_modalities(row)]
    main = [row for row in scored if row["part"] == "main"]
    ablation = [row for row in scored if row["part"] == "ablation"]
    also = {_place(row) for row in ablation}
    return Study(
        main=_groups(main, said),
        ablation=_groups([*ablation, *(row for row in main if _place(row) in also)], said),
        search=[row for row in rows if row["part"] == "search"],
        lacking=lacking,
        notes=list(dict.fromkeys(said)),
    )


def lacks_modalities(run: Run) -> bool:
    """Whether a run was to do without some modality."""
    config = run.get("config") or {}
    return config.get("available", "all") != "all" or config.get("missing", "fixed") != "fixed"


def score(run: Run, name: str, split: str = "test") -> float | None:
    """A number of the evaluation, None where it is not known."""
    value = (run.get(split) or {}).get(name)
    return None if value is None else float(value)


def scores(arm: Arm, name: str) -> list[float]:
    """Those of the runs that know it."""
    return [x for run in arm.runs.values() if (x := score(run, name)) is not None]


def labels_of(groups: Iterable[Group]) -> dict[str, str]:
    """Label -> curriculum of all arms, controls first, each once."""
    found = {arm.label: arm.curriculum for group in groups for arm in group.arms}
    return dict(sorted(found.items(), key=lambda item: _rank(item[1])))  # stable: as they come, within a rank


def by_data(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """The groups of each data set and choice of modalities, by its title."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.data_title, []).append(group)
    return found


def data_rank(data: str) -> int:
    """The place of a data set among others."""
    return _position(data, _DATA)


def data_title(data: str, modalities: Sequence[str]) -> str:
    """Such as `MELD, text and audio`."""
    return f"{_DATA.get(data, data)}, {listed(modalities)}"


def backbone_title(backbone: str) -> str:
    """Such as `Late fusion`; a name that is not known as it is."""
    return _BACKBONES.get(backbone, backbone)


def short_titles(groups: Iterable[Group]) -> dict[str, str]:
    """`data_title` -> the data set alone, where it was used with one choice of modalities only."""
    found = {group.data_title: group for group in groups}
    used = [group.data for group in found.values()]
    return {title: _DATA.get(g.data, g.data) if used.count(g.data) == 1 else title for title, g in found.items()}


def trained_alike(run: Run, other: Run) -> bool:
    """Whether two runs differ in nothing but seed and curriculum, as far as their configurations say."""
    a, b = run.get("config") or {}, other.get("config") or {}
    # Of HARDY-MER's network they say how many steps a batch is, whatever the curriculum.
    names = (*_TRAINING, "neighbours") if a.get("model") == "hardy" else _TRAINING
    return all(a[name] == b[name] for name in names if name in a and name in b)


def described(setting: Mapping[str, Any] | None) -> str:
    """Such as `growth 1.2, threshold 0.4`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted((setting or {}).items()))


def listed(names: Sequence[str]) -> str:
    """Such as `text, audio and visual`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _failures(rows: Iterable[Run]) -> list[str]:
    """What was tried and failed, a line for each curriculum of a data set, what is available of it, and backbone."""
    found: dict[tuple[str, str, str, str], list[Run]] = {}
    for row in rows:
        available = (row.get("config") or {}).get("available", "all")
        of = "" if available == "all" else f" ({available})"
        found.setdefault((row["data"], of, row["backbone"], row["label"]), []).append(row)
    return [
        f"{data}{of}, {backbone_title(backbone)}, {label}: {len(failed)} run(s) failed and have no score (seeds "
        f"{', '.join(str(row['seed']) for row in failed)}): {failed[0]['error']}"
        for (data, of, backbone, label), failed in found.items()
    ]


def _place(row: Run) -> tuple[str, tuple[str, ...], str]:
    return row["data"], tuple(row["modalities"]), row["backbone"]


def _rank(curriculum: str) -> int:
    return _position(curriculum, _ORDER)


def _position(name: str, known: Iterable[str]) -> int:
    names = list(known)
    return names.index(name) if name in names else len(names)


def _groups(rows: Iterable[Run], notes: list[str]) -> list[Group]:
    places: dict[tuple[str, tuple[str, ...], str], list[Run]] = {}
    for row in rows:
        places.setdefault(_place(row), []).append(row)
    groups = []
    for (data, modalities, backbone), runs in places.items():
        names = next((tuple(run["class_names"]) for run in runs if run.get("class_names")), ())
        groups.append(Group(data, modalities, backbone, names, _arms(runs, f"{data} with {backbone}", notes)))

    def order(group: Group) -> tuple[int, int]:
        return data_rank(group.data), _position(group.backbone, _BACKBONES)

    return sorted(groups, key=order)


def _arms(runs: list[Run], where: str, notes: list[str]) -> tuple[Arm, ...]:
    variants: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        variant = json.dumps([run["curriculum"], run.get("setting")], sort_keys=True)
        variants.setdefault(run["label"], {}).setdefault(variant, []).append(run)
    arms = []
    for label, of_label in variants.items():
        for of_variant in of_label.values():
            first = of_variant[0]
            setting = described(first.get("setting")) or "no setting"
            name = label if len(of_label) == 1 else f"{label} ({first['curriculum']}: {setting})"
            seeds: dict[int, Run] = {}
            for run in of_variant:
                known = seeds.get(run["seed"])
                if known is not None and known["part"] == run["part"]:
                    notes.append(f"{where}, {name}: seed {run['seed']} has several runs; the last one counts.")
                seeds[run["seed"]] = run  # those of the main comparison come last
            arms.append(Arm(first["curriculum"], name, dict(sorted(seeds.items()))))
    return tuple(sorted(arms, key=lambda arm: _rank(arm.curriculum)))
