"""The document of a study: its sections in order, each of them only where there are runs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from spcl_fast.report import _charts, _tables
from spcl_fast.report._comparisons import FEWEST, LEVEL, Comparison, compare
from spcl_fast.report._conclusions import conclusions
from spcl_fast.report._document import Block, Chart, Document, Fold, Heading, Table, Text
from spcl_fast.report._missing import make_trials
from spcl_fast.report._missing_conclusions import missing_conclusions
from spcl_fast.report._missing_sections import missing_section, missing_words
from spcl_fast.report._study import Group, Run, Study, by_data, labels_of, listed
from spcl_fast.report._words import CURRICULA, TERMS

TITLE = "Curricula for emotion recognition in conversations"


def make_document(study: Study) -> Document:
    """Conclusions first, then what they rest on, the ablations, the words, and how it was made."""
    notes = list(study.notes)
    looks = _charts.looks_of([*study.main, *study.ablation])
    comparisons = compare(study.main, notes)
    ablations = compare(study.ablation, notes)
    trials = make_trials(study.lacking)
    blocks: list[Block] = [Heading(2, "What the numbers support")]
    if study.main or study.ablation or not trials:
        blocks += [Text((_extent(study),)), *conclusions(study.main, comparisons)]
    if trials:
        blocks += missing_conclusions(trials)
    if study.main:
        blocks += _comparison_sections("", study.main, comparisons, looks, "main")
        blocks += _course_section(study.main, looks)
        blocks += _balance_section(study.main, looks)
        blocks += _length_section(study.main, looks)
    if trials:
        blocks += missing_section(trials, notes)
    if study.ablation:
        blocks += [
            Heading(2, "Ablations"),
            Text(("Corrected on their own, apart from the main comparison.",)),
            *conclusions(study.ablation, ablations),
        ]
        blocks += _comparison_sections("Ablations: ", study.ablation, ablations, looks, "ablation")
        blocks += _class_and_balance(study.ablation)
    if study.search:
        blocks += [
            Heading(2, "Choice of the settings"),
            Text((f"{len(study.search)} run(s) tried settings; they count nowhere else.",)),
            _tables.search_table(study.search),
        ]
    blocks += [*_words(study), *(missing_words(trials) if trials else ())]
    blocks += _origin(study, notes)
    return Document(TITLE, _with_unique_names(blocks))


def _extent(study: Study) -> str:
    """How much there is."""
    groups = study.main or study.ablation
    runs = [run for group in groups for arm in group.arms for run in arm.runs.values()]
    if not runs:
        return f"The file has no scored run yet, only {len(study.search)} of the search."
    kind = "the main comparison" if study.main else "the ablations"
    curricula = list(labels_of(groups))
    what = "curriculum or control" if len(curricula) == 1 else "curricula and controls"
    seeds = [len(arm.runs) for group in groups for arm in group.arms]
    each = _many(max(seeds), "seed") if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)} seeds each"
    return (
        f"{_many(len(runs), 'run')} of {kind}: {_many(len(by_data(groups)), 'data set')} "
        f"({'; '.join(by_data(groups))}), {_many(len({g.backbone for g in groups}), 'backbone')} "
        f"({listed(list(dict.fromkeys(g.backbone_title for g in groups)))}), "
        f"{len(curricula)} {what} ({listed(curricula)}), {each}."
    )


def _comparison_sections(
    prefix: str,
    groups: Sequence[Group],
    comparisons: Mapping[str, Sequence[Comparison]],
    looks: _charts.Looks,
    name: str,
) -> list[Block]:
    level = 3 if prefix else 2
    blocks: list[Block] = []
    gains: list[Block] = []
    for control, of_control in comparisons.items():
        chart = _charts.gains(of_control, control, looks, name)
        if chart.panels:
            gains += [Heading(level + 1, f"Against {of_control[0].against}"), chart]
    if gains:
        blocks += [Heading(level, f"{prefix}Gains"), *gains]
    blocks.append(Heading(level, f"{prefix}Scores and costs"))
    blocks += [_tables.score_table(title, of_data) for title, of_data in by_data(groups).items()]
    if comparisons:
        blocks.append(Heading(level, f"{prefix}Comparisons"))
        for title in by_data(groups):
            tables: list[Block] = []
            for of_control in comparisons.values():
                of_data = [c for c in of_control if c.group.data_title == title]
                tables.append(_tables.comparison_table(title, of_data))
            blocks.append(Fold(f"{prefix}{title}", tables, is_open=isinstance(blocks[-1], Heading) and not prefix))
    if not prefix:
        blocks += _section("F1 of each class", [_tables.class_table(*item) for item in by_data(groups).items()])
    return blocks


def _class_and_balance(groups: Sequence[Group]) -> list[Block]:
    tables = [make(*item) for make in (_tables.class_table, _tables.balance_table) for item in by_data(groups).items()]
    found = [table for table in tables if table is not None]
    return [Heading(3, "Ablations: classes and balance"), Fold("Tables", [*found])] if found else []


def _course_section(groups: Sequence[Group], looks: _charts.Looks) -> list[Block]:
    folds: list[Block] = []
    for title, of_data in by_data(groups).items():
        charts: list[Block] = []
        for group in of_data:
            chart = _charts.course(group, looks)
            charts += [Heading(4, group.backbone_title), chart] if chart else []
        if charts:
            folds.append(Fold(title, charts, is_open=not folds))
    return [Heading(2, "The course of training"), *folds] if folds else []


def _balance_section(groups: Sequence[Group], looks: _charts.Looks) -> list[Block]:
    tables = [_tables.balance_table(*item) for item in by_data(groups).items()]
    if not any(tables):
        return []
    chart = _charts.balance(groups, looks, "main")
    return _section("Balance of the modalities", [chart if chart.panels else None, *tables])


def _length_section(groups: Sequence[Group], looks: _charts.Looks) -> list[Block]:
    folds: list[Block] = []
    for title, of_data in by_data(groups).items():
        chart = _charts.lengths(of_data, looks)
        if chart:
            folds.append(Fold(title, [chart], is_open=not folds))
    return [Heading(2, "Difficulty, take rate and dialogue length"), *folds] if folds else []


def _section(title: str, blocks: Sequence[Table | Chart | None]) -> list[Block]:
    found: list[Block] = [block for block in blocks if block is not None]
    return [Heading(2, title), *found] if found else []


def _words(study: Study) -> list[Block]:
    labels = labels_of([*study.main, *study.ablation])
    known = tuple(f"{label}: {CURRICULA[name]}" for label, name in labels.items() if name in CURRICULA)
    terms = tuple(f"{term}: {meaning}" for term, meaning in TERMS.items())
    blocks: list[Block] = [Heading(2, "Words")]
    if known:
        blocks += [Heading(3, "Curricula and controls"), Text(known, is_list=True)]
    return [*blocks, Heading(3, "Measures and statistics"), Text(terms, is_list=True)]


def _origin(study: Study, notes: Sequence[str]) -> list[Block]:
    runs = [run for group in [*study.main, *study.ablation] for arm in group.arms for run in arm.runs.values()]
    runs += study.lacking
    lines = [
        "Every score is of the test part, at the epoch that was best on dev; pairs of runs share seed, data, "
        "modalities, backbone and the settings of the model.",
        f"A difference is called one where at least {FEWEST} pairs exist and the t test's p value, corrected by Holm "
        f"over all comparisons with the same control, is below {LEVEL}.",
    ]
    matched = {"random_utterances", "random_dialogues", "anti"}
    if any(arm.curriculum in matched for group in [*study.main, *study.ablation] for arm in group.arms):
        lines.append(
            "The random controls and the reverse take of every batch as many utterances as SPCL's rule with the same "
            "settings would take from the model at hand. That is not SPCL's model, so their take rates are near SPCL's "
            "and not equal; for a curriculum with another take rate they are a rough measure."
        )
    seen: tuple[tuple[str, Callable[[Run], object]], ...] = (
        ("Device", lambda run: run.get("device")),
        ("CPU threads", lambda run: run.get("threads")),
        ("Versions", lambda run: ", ".join(f"{k} {v}" for k, v in sorted((run.get("versions") or {}).items()))),
        ("Code", lambda run: run.get("code")),
    )
    for name, value_of in seen:
        values = sorted({str(x) for run in [*runs, *study.search] if (x := value_of(run))})
        if values:
            lines.append(f"{name}: {'; '.join(values)}.")
    return [Heading(2, "How this was made"), Text((*lines, *dict.fromkeys(notes)), is_list=True)]


def _many(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _with_unique_names(blocks: list[Block]) -> list[Block]:
    """Charts whose names coincide, as those of `a b` and `a-b` would, get a number."""
    seen: dict[str, int] = {}

    def renamed(block: Block) -> Block:
        if isinstance(block, Fold):
            return block._replace(blocks=[renamed(b) for b in block.blocks])
        if isinstance(block, Chart):
            seen[block.name] = seen.get(block.name, 0) + 1
            return block if seen[block.name] == 1 else block._replace(name=f"{block.name}-{seen[block.name]}")
        return block

    return [renamed(block) for block in blocks]
