"""A folder of scores is continued by what it was begun with, and by nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from spcl_fast.corpus import CorpusWriter, StoreCorrupt, rescore
from spcl_fast.corpus._records import read_json, write_json

spec = importlib.util.spec_from_file_location("rescoring", Path(__file__).with_name("rescoring.py"))
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
content, write_corpus = helpers.content, helpers.write_corpus


@pytest.mark.parametrize("fault", ["lost", "damaged"])
def test_scores_of_unknown_options_are_not_gone_on_with(tmp_path, fault):
    corpus, folder = write_corpus(tmp_path / "corpus"), tmp_path / "scores"
    rescore(corpus, folder, aggregate="mean", shards=[0])
    begun = folder / "rescore.json"
    begun.unlink() if fault == "lost" else begun.write_text("{")
    held = content(folder)
    with pytest.raises(StoreCorrupt, match=r"rescore\.json: missing or damaged, though the folder holds shard-000000"):
        rescore(corpus, folder, aggregate="sum")
    assert content(folder) == held


def test_files_of_others_are_not_overwritten(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "shard-000000.arrow").write_bytes(b"mine")
    with CorpusWriter(tmp_path / "writing", corpus.modalities):
        for folder in ("files", "writing"):
            held = content(tmp_path / folder)
            with pytest.raises(StoreCorrupt, match="choose another folder"):
                rescore(corpus, tmp_path / folder)
            assert content(tmp_path / folder) == held


def test_shards_scored_before_a_misread_label_was_noticed_are_done_again(tmp_path):
    corpus, folder = write_corpus(tmp_path / "corpus"), tmp_path / "scores"
    rescore(corpus, tmp_path / "whole")
    rescore(corpus, folder, shards=[0])
    (folder / "shard-000000.record.json").unlink()
    path = folder / "shard-000002.transitions.json"
    record = read_json(path)
    record["transitions"][0][1] += 7
    write_json(path, record)
    with pytest.raises(StoreCorrupt, match=r"shard-000002\.arrow had other labels"):
        rescore(corpus, folder)
    with pytest.raises(StoreCorrupt, match=r"shard-000000\.arrow was scored by other transitions"):
        rescore(corpus, folder)
    rescore(corpus, folder)
    assert content(folder) == content(tmp_path / "whole")


@pytest.mark.parametrize("count", [2**53, 2**62, np.uint64(2**63 + 5)])
def test_counts_that_would_wrap_around_are_refused(tmp_path, count):
    corpus = write_corpus(tmp_path / "corpus", dialogues=3)
    with pytest.raises(ValueError, match="counts must sum to at most"):
        rescore(corpus, tmp_path / "scores", transitions=np.full((5, 5), count))
