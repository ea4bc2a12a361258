"""Corpora past memory: stored in shards, read in place. Needs pyarrow (`spcl_fast[corpus]`)."""

from spcl_fast.corpus._selection_file import write_selection
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.columns import dialogue_columns, dialogue_difficulty, score_columns
from spcl_fast.corpus.convert import store_dataset, store_table, to_record_batches, write_parquet
from spcl_fast.corpus.distributed import RankFailed, rescore_rank
from spcl_fast.corpus.index import SelectionIndex
from spcl_fast.corpus.manifest import (
    CORPUS_FORMAT,
    SCORES_FORMAT,
    Manifest,
    Modality,
    ShardInfo,
    StoreCorrupt,
    read_manifest,
    write_manifest,
)
from spcl_fast.corpus.place import Place, place_of
from spcl_fast.corpus.rescore import Rescored, plan, rescore
from spcl_fast.corpus.scores import Scores
from spcl_fast.corpus.selection import GlobalThreshold, global_threshold, global_thresholds, select
from spcl_fast.corpus.store import Corpus, Shard, open_corpus
from spcl_fast.corpus.writer import CorpusWriter

__all__ = [
    "CORPUS_FORMAT",
    "SCORES_FORMAT",
    "Corpus",
    "CorpusWriter",
    "GlobalThreshold",
    "Manifest",
    "Modality",
    "Place",
    "RankFailed",
    "Rescored",
    "Scores",
    "SelectionIndex",
    "Shard",
    "ShardInfo",
    "StoreCorrupt",
    "checksum",
    "dialogue_columns",
    "dialogue_difficulty",
    "global_threshold",
    "global_thresholds",
    "open_corpus",
    "place_of",
    "plan",
    "read_manifest",
    "rescore",
    "rescore_rank",
    "score_columns",
    "select",
    "store_dataset",
    "store_table",
    "to_record_batches",
    "write_manifest",
    "write_parquet",
    "write_selection",
]
