"""What rescoring leaves: a folder of scores, one file of columns for each shard of the corpus."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._column_file import column_schema
from spcl_fast.corpus._columns import to_numpy
from spcl_fast.corpus._fields import Fields, unique
from spcl_fast.corpus.manifest import SCORES_FORMAT, Manifest, ShardInfo, StoreCorrupt, read_manifest
from spcl_fast.corpus.store import _UNREADABLE, _read

#: columns of the file of dialogues -> dtype
DIALOGUE_COLUMNS: dict[str, np.dtype[Any]] = {
    "length": np.dtype("<i8"),
    "scored": np.dtype("<i8"),
    "spread": np.dtype("<f4"),
    "transition": np.dtype("<f4"),
    "mean_difficulty": np.dtype("<f4"),
    "max_difficulty": np.dtype("<f4"),
    "mean_loss": np.dtype("<f4"),
}
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}


class Scores:
    """The scores of a corpus in a folder, opened by its manifest; a column is looked at in place, shard by shard.

    Args:
        folder: which `rescore` wrote.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself; its shards are those of the corpus, row by row.
        columns: names of what there is of every utterance.
        dtype: of these columns, float32 or float16.
        summary: of the whole corpus: counts, faults, means, transitions and histograms (docs/corpus.md).
        options: what the scores were computed with.

    Raises:
        StoreCorrupt: the manifest is missing or wrong.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, Scores, open_corpus, rescore
        >>> modalities = [Modality("text", num_classes=2), Modality("audio", num_classes=2)]
        >>> logits = {"text": np.array([[2, 0], [0, 1]], np.float32), "audio": np.zeros((2, 2), np.float32)}
        >>> with CorpusWriter("corpus", modalities) as writer:
        ...     writer.add([7], [0, 1], [0, 1], logits, offsets=[0, 2])
        >>> _ = rescore(open_corpus("corpus"), "scores")
        >>> scores = Scores("scores")
        >>> scores
        Scores('scores': 2 utterances, 1 shard; 10 columns)
        >>> scores.column("difficulty", 0).astype(float).round(3).tolist(), scores.summary["scored"]
        ([0.196, 0.363], 2)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(folder, SCORES_FORMAT)
        try:
            extra = Fields("extra", self.manifest.extra)
            self.columns = extra.texts("columns")
            unique("extra.columns", list(self.columns))
            self.dtype = DTYPES[extra.choice("dtype", list(DTYPES))]
            self.summary: Mapping[str, Any] = extra.mapping("summary")
            self.options: Mapping[str, Any] = extra.mapping("options")
        except ValueError as error:
            raise StoreCorrupt(f"{self.folder / 'manifest.json'}: {error}") from None

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        """What there is to open; `first_utterance` is a shard's first row in the corpus."""
        return self.manifest.shards

    @property
    def num_utterances(self) -> int:
        """T of the whole corpus."""
        return self.manifest.utterances

    def __len__(self) -> int:
        return len(self.shards)

    def __repr__(self) -> str:
        count = f"{len(self)} shard{'s' if len(self) != 1 else ''}"
        of = f"{self.num_utterances} utterances, {count}; {len(self.columns)} columns"
        return f"Scores({os.fspath(self.folder)!r}: {of})"

    def column(self, name: str, shard: int, verify: bool = False) -> NDArray[np.floating[Any]]:
        """One score of every utterance of a shard, `[T]`.

        Args:
            name: of `columns`.
            shard: which one, in [0, len(scores)).
            verify: whether the checksum of the file is compared, which reads all of it once.

        Returns:
            A view of the mapped file, which cannot be written to; NaN where an utterance is not scored.

        Raises:
            IndexError: there is no such shard.
            StoreCorrupt: the file is missing, damaged, or not what the manifest says.
            ValueError: there is no such column; the message names those there are.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore
            >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)]) as writer:
            ...     writer.add([7], [0, 1], [0, -100], {"text": np.zeros((2, 2), np.float32)}, offsets=[0, 2])
            >>> scores = rescore(open_corpus("corpus"), "scores", difficulty="loss").scores
            >>> scores.column("loss.text", 0).astype(float).round(3).tolist()
            [0.693, nan]
        """
        if name not in self.columns:
            raise ValueError(f"column: must be one of {', '.join(self.columns)} (got {name!r})")
        return self._open(shard, False, verify)[name]

    def dialogue_column(self, name: str, shard: int, verify: bool = False) -> NDArray[Any]:
        """One number of every dialogue of a shard, `[D]`.

        Args:
            name: "length" or "scored" utterances, "spread", "transition", "mean_difficulty", "max_difficulty",
                "mean_loss"; the means and the largest are of what is a number, NaN where nothing is.
            shard: which one, in [0, len(scores)).
            verify: whether the checksum of the file is compared.

        Returns:
            A view of the mapped file, which cannot be written to: int64 for the first two, else float32.

        Raises:
            IndexError, StoreCorrupt, ValueError: as for `column`.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore
            >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)]) as writer:
            ...     writer.add([7], [0, 1], [0, -100], {"text": np.zeros((2, 2), np.float32)}, offsets=[0, 2])
            >>> scores = rescore(open_corpus("corpus"), "scores", difficulty="loss").scores
            >>> scores.dialogue_column("length", 0).tolist(), scores.dialogue_column("scored", 0).tolist()
            ([2], [1])
        """
        if name not in DIALOGUE_COLUMNS:
            raise ValueError(f"dialogue_column: must be one of {', '.join(DIALOGUE_COLUMNS)} (got {name!r})")
        return self._open(shard, True, verify)[name]

    def offsets(self, shard: int) -> NDArray[np.int64]:
        """Where the dialogues of a shard lie, `int64 [D + 1]`: dialogue d owns the rows `offsets[d]:offsets[d + 1]`.

        Raises:
            IndexError, StoreCorrupt: as for `column`.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore
            >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)]) as writer:
            ...     writer.add([7, 8], [0, 0], [0, 1], {"text": np.zeros((2, 2), np.float32)}, offsets=[0, 1, 2])
            >>> rescore(open_corpus("corpus"), "scores", difficulty="loss").scores.offsets(0).tolist()
            [0, 1, 2]
        """
        lengths = self.dialogue_column("length", shard)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    def _open(self, shard: int, of_dialogues: bool, verify: bool) -> dict[str, NDArray[Any]]:
        if not 0 <= shard < len(self):
            raise IndexError(f"shard: must be in [0, {len(self)}) (got {shard})")
        info = self.shards[shard]
        if of_dialogues:
            name, dtypes, rows = info.dialogues_name, DIALOGUE_COLUMNS, info.dialogues
            size, said = info.dialogue_bytes, info.dialogue_checksum
        else:
            name, dtypes, rows = info.name, dict.fromkeys(self.columns, self.dtype), info.utterances
            size, said = info.bytes, info.checksum
        try:
            batch = _read(self.folder / name, column_schema(dtypes), rows, size, said if verify else None)
            return {column: to_numpy(batch.column(column), dtype) for column, dtype in dtypes.items()}
        except _UNREADABLE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreCorrupt(f"{self.folder / name}: shard {shard}: {reason}") from None
