"""Corpora as researchers have them: published feature pickles, MELD's tables, Arrow, Parquet and `datasets`.

Every reader gives a `DialogueDataset` or a `DatasetError` that names file and place; no file is trusted, and none can
run anything.
"""

from spcl_fast.merc.readers.corpus import read_corpus
from spcl_fast.merc.readers.dev_split import split_dev
from spcl_fast.merc.readers.meld_csv import read_meld_csv
from spcl_fast.merc.readers.pickles import read_pickle
from spcl_fast.merc.readers.plain_pickle import load_plain
from spcl_fast.merc.readers.tables import read_table

__all__ = ["load_plain", "read_corpus", "read_meld_csv", "read_pickle", "read_table", "split_dev"]
