"""How often the neighbours that HARDY-MER retrieves have the label of the utterance they stand in for.

    python -m benchmarks.neighbours FOLDER

Of CMU-MOSI and IEMOCAP in FOLDER (`mosi.npz`, `iemocap_6way.npz`), for every subset of modalities: the share of the
k = 3 neighbours that have the same label, and the share that chance would give. Within the training part, where they
are retrieved; and within the test part, which says what that share is where the features have not been trained on
the labels. The record is `benchmarks/results/neighbours.json`, the table that is printed that of
`docs/hardy_study/README.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from spcl_fast.hardy import NeighbourTable, subsets
from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.files import write_json
from spcl_fast.merc.npz import read_npz

DATA = {"MOSI": ("mosi.npz", "text,audio,visual"), "IEMOCAP": ("iemocap_6way.npz", "text_lsa+text_glove,audio")}
RECORD = Path(__file__).resolve().parent / "results" / "neighbours.json"


def shares(dataset: DialogueDataset, split: str) -> dict[str, float]:
    """Subset -> share of the neighbours with the label of their utterance; "chance" for a draw among all others."""
    train, _ = dataset.rows_of(dataset.dialogues("train"))
    rows, _ = dataset.rows_of(dataset.dialogues(split))
    labels = torch.from_numpy(dataset.labels[rows]).long()
    features = {}
    for name, x in dataset.features.items():  # standardized as the trainer does
        mean, deviation = x[train].mean(0), x[train].std(0)
        features[name] = torch.from_numpy((x[rows] - mean) / (deviation + (deviation == 0)))
    table = NeighbourTable.build(features)
    everyone = torch.arange(len(rows))
    found = {}
    for subset in subsets(tuple(features)):
        available = torch.tensor([name in subset for name in features])
        shown = table.gather(everyone, torch.ones(len(rows)), available)[:, 1:]
        same = labels[shown] == labels[:, None]
        found["+".join(subset)] = round(float(same[shown != everyone[:, None]].float().mean()), 4)
    counts = labels.bincount().double()
    found["chance"] = round(float((counts * (counts - 1)).sum() / (len(rows) * (len(rows) - 1))), 4)
    return found


def main() -> None:
    """Measures, writes the record and prints it as a table."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m benchmarks.neighbours FOLDER")
    record = {}
    for name, (file, modalities) in DATA.items():
        dataset = read_npz(Path(sys.argv[1]) / file, modalities)
        record[name] = {split: shares(dataset, split) for split in ("train", "test")}
        print(f"| {name} | {' | '.join(record[name]['train'])} |")
        for split, found in record[name].items():
            print(f"| {split} | {' | '.join(f'{100 * x:.0f} %' for x in found.values())} |")
    write_json(RECORD, record)


if __name__ == "__main__":
    main()
