"""Published sizes of the corpora, compared with what a file holds.

IEMOCAP: Busso et al., 2008, in the six-class split of Poria et al., 2017. MELD: Poria et al., 2019.
CMU-MOSI: Zadeh et al., 2016, negative against positive. A difference is worth a sentence, never an error: a
subset, or other data with the same class names, is as good a corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spcl_fast.merc.dataset import UNLABELLED, DialogueDataset


@dataclass(frozen=True)
class PublishedPart:
    """Published size of one part of a corpus: of one split, or of several counted together.

    Attributes:
        splits: names of the splits that make the part.
        dialogues: published number of dialogues.
        utterances: published number of labelled utterances.
        remark: why the release may differ, appended to a note about the dialogues; empty if nothing is known.

    Example:
        >>> from spcl_fast.merc.published import PUBLISHED_COUNTS
        >>> train = PUBLISHED_COUNTS["MELD"].parts[0]
        >>> train.splits, train.dialogues, train.utterances
        (('train',), 1039, 9989)
    """

    splits: tuple[str, ...]
    dialogues: int
    utterances: int
    remark: str = ""


@dataclass(frozen=True)
class PublishedCounts:
    """Published sizes of one corpus, recognised by its class names.

    Attributes:
        class_names: the classes, in the order of the labels.
        parts: sizes, part by part.
        test_class_counts: utterances of every class in the test split, None where none are published.
        monologue: the corpus has one speaker per dialogue, and is recognised only then.

    Example:
        >>> from spcl_fast.merc.published import PUBLISHED_COUNTS
        >>> published = PUBLISHED_COUNTS["IEMOCAP"]
        >>> dict(zip(published.class_names, published.test_class_counts))
        {'hap': 144, 'sad': 245, 'neu': 384, 'ang': 170, 'exc': 299, 'fru': 381}
    """

    class_names: tuple[str, ...]
    parts: tuple[PublishedPart, ...]
    test_class_counts: tuple[int, ...] | None = None
    monologue: bool = False


#: Corpus -> its published sizes.
PUBLISHED_COUNTS: dict[str, PublishedCounts] = {
    "IEMOCAP": PublishedCounts(
        class_names=("hap", "sad", "neu", "ang", "exc", "fru"),
        parts=(PublishedPart(("train", "dev"), 120, 5810), PublishedPart(("test",), 31, 1623)),
        test_class_counts=(144, 245, 384, 170, 299, 381),
    ),
    "MELD": PublishedCounts(
        class_names=("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
        parts=(
            PublishedPart(("train",), 1039, 9989, "the released table has no dialogue 60"),
            PublishedPart(("dev",), 114, 1109),
            PublishedPart(("test",), 280, 2610),
        ),
        test_class_counts=(1256, 281, 50, 208, 402, 68, 345),
    ),
    "CMU-MOSI": PublishedCounts(
        class_names=("negative", "positive"),
        parts=(PublishedPart(("train", "dev"), 62, 1447), PublishedPart(("test",), 31, 752)),
        monologue=True,
    ),
}


def published_notes(dataset: DialogueDataset) -> tuple[str, ...]:
    """Say how a corpus differs from the published one with the same class names.

    Utterances without a label are not counted: publications leave them out.

    Args:
        dataset: the corpus to compare.

    Returns:
        One sentence per difference; empty where all counts agree or the corpus is not recognised.

    Example:
        >>> from spcl_fast.merc.published import published_notes
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 3, "dev": 2, "test": 2})
        >>> published_notes(corpus)[0]
        'MELD: 3 train dialogues, published 1039'
    """
    for corpus, published in PUBLISHED_COUNTS.items():
        if dataset.class_names == published.class_names and (not published.monologue or _is_monologue(dataset)):
            return tuple(f"{corpus}: {difference}" for difference in _differences(dataset, published))
    return ()


def _differences(dataset: DialogueDataset, published: PublishedCounts) -> list[str]:
    counts = dataset.counts()
    found = []
    for part in published.parts:
        got = [counts[name] for name in part.splits if name in counts]
        splits = "+".join(part.splits)
        dialogues, utterances = sum(n for n, _ in got), sum(n for _, n in got)
        if dialogues != part.dialogues:
            remark = f" ({part.remark})" if part.remark and dialogues == part.dialogues - 1 else ""
            found.append(f"{dialogues} {splits} dialogues, published {part.dialogues}{remark}")
        if utterances != part.utterances:
            found.append(f"{utterances} labelled {splits} utterances, published {part.utterances}")
    if published.test_class_counts is not None and "test" in counts:
        labels = dataset.labels[np.repeat(dataset.split == dataset.split_names.index("test"), dataset.lengths)]
        of_class = np.bincount(labels[labels != UNLABELLED], minlength=dataset.num_classes)
        for name, got_count, wanted in zip(dataset.class_names, of_class, published.test_class_counts, strict=True):
            if got_count != wanted:
                found.append(f"{got_count} test utterances of class {name}, published {wanted}")
    return found


def _is_monologue(dataset: DialogueDataset) -> bool:
    of_utterance = np.repeat(np.arange(dataset.num_dialogues), dataset.lengths)
    same_dialogue = of_utterance[1:] == of_utterance[:-1]
    return not np.any(same_dialogue & (dataset.speakers[1:] != dataset.speakers[:-1]))
