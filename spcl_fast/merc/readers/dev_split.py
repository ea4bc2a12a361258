"""A dev split for a corpus that comes with train and test alone."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import numpy as np

from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.published import PUBLISHED_COUNTS, published_notes

#: What `split` may be; the first is the default.
SPLIT_RULES = ("own", "spcl")
#: Seed of the published code, which shuffles IEMOCAP's training dialogues before it takes dev from them.
SPCL_SEED = 12
_DEV_SHARE = 0.1
# In the published pickles MELD's dialogues are numbered through: train 0 to 1038 without 60, dev 1039 to 1152.
_MELD_TRAIN_AND_DEV = frozenset(str(i) for i in range(1153) if i != 60)
_MELD_FIRST_DEV = 1039


def split_dev(dataset: DialogueDataset, rule: str = "own") -> DialogueDataset:
    """Take a dev split out of the training dialogues.

    Args:
        dataset: the corpus; "train" is in the order of its source.
        rule: "own" leaves a dataset with dev dialogues as it is. Of one that has none, it takes the published dev split
            where the dialogues tell (MELD numbered from 0 to 1152), else int(0.1 n) of the n training dialogues, at
            least one where there are two: those whose names have the smallest SHA-256 digests, which are the same
            whatever the order, and with every version of Python.
            "spcl" is the rule of SPCL's code (arXiv 2605.21565), and joins "train" and "dev" first: the first
            int(0.1 n) training dialogues, for IEMOCAP after a shuffle seeded with 12, for MELD as they are stored.

    Returns:
        The dataset with its splits renamed, nothing else moved, and a note that says so; what it was where there is
        no training dialogue.

    Raises:
        ValueError: an unknown rule, or "spcl" for a corpus that its code does not split.

    Example:
        >>> from spcl_fast.merc.readers.dev_split import split_dev
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 18, "dev": 2, "test": 2})
        >>> split_dev(corpus, "spcl").dialogues("dev").tolist()  # int(0.1 * 20), the first as they are stored
        [0, 1]
    """
    if rule not in SPLIT_RULES:
        raise ValueError(f"split must be one of {', '.join(SPLIT_RULES)} (got {rule!r})")
    train, dev = (dataset.dialogues(s).tolist() if s in dataset.split_names else [] for s in ("train", "dev"))
    if not train or (rule == "own" and dev):
        return dataset
    train = sorted(train + dev)
    dev, how = (_spcl if rule == "spcl" else _own)(dataset, train)
    names = dataset.split_names if "dev" in dataset.split_names else _with_dev(dataset.split_names)
    split = np.array([names.index(dataset.split_names[s]) for s in dataset.split], np.int64)
    split[train] = names.index("train")
    split[dev] = names.index("dev")
    found = replace(dataset, split=split, split_names=names, notes=())
    said = [note for note in dataset.notes if note not in published_notes(dataset)]
    return replace(found, notes=(*said, f"dev is {len(dev)} of the training dialogues: {how}", *published_notes(found)))


def _with_dev(names: tuple[str, ...]) -> tuple[str, ...]:
    at = names.index("train") + 1
    return (*names[:at], "dev", *names[at:])


def _spcl(dataset: DialogueDataset, train: list[int]) -> tuple[list[int], str]:
    size = int(len(train) * _DEV_SHARE)
    if dataset.class_names == PUBLISHED_COUNTS["IEMOCAP"].class_names:
        shuffled = list(train)
        random.Random(SPCL_SEED).shuffle(shuffled)
        return shuffled[:size], f"the first after a shuffle seeded with {SPCL_SEED}, as in SPCL's code"
    if dataset.class_names == PUBLISHED_COUNTS["MELD"].class_names:
        return train[:size], "the first as they are stored, as in SPCL's code"
    raise ValueError("split 'spcl' is a rule for IEMOCAP and MELD (got a corpus with other class names)")


def _own(dataset: DialogueDataset, train: list[int]) -> tuple[list[int], str]:
    ids = dataset.dialogue_ids
    if {ids[d] for d in train} == _MELD_TRAIN_AND_DEV and len(train) == len(_MELD_TRAIN_AND_DEV):
        return [d for d in train if int(ids[d]) >= _MELD_FIRST_DEV], "the published ones, 1039 to 1152"
    ranked = sorted(train, key=lambda d: hashlib.sha256(ids[d].encode()).digest())
    return ranked[
        : max(int(len(train) * _DEV_SHARE), 1 if len(train) > 1 else 0)
    ], "those whose names have the smallest SHA-256 digests"
