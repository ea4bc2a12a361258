"""Rescoring on a local Ray cluster: the bytes of `rescore`, also when a worker is lost."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path

import pytest

from spcl_fast.corpus import StoreCorrupt, rescore

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray about itself

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("rescoring", ROOT / "tests" / "corpus" / "rescoring.py")
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
content, write_corpus = helpers.content, helpers.write_corpus

# A model whose process is killed when it first meets enough utterances.
MODEL = """
import os, signal, torch
class Halves(torch.nn.Module):
    def forward(self, features, batch):
        if batch.num_utterances > 60 and not os.path.exists({flag!r}):
            open({flag!r}, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return {{name: values / 2 for name, values in features.items()}}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two CPUs of this machine; modules for the workers lie in a folder that this gives."""
    folder = tmp_path_factory.mktemp("modules")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield folder
    ray.shutdown()


@pytest.fixture
def run(cluster):
    from spcl_fast.corpus.ray import rescore_with_ray

    return rescore_with_ray


def test_a_cluster_leaves_the_bytes_of_one_process(tmp_path, run, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    told: list[int] = []
    done = run(corpus, "ray", concurrency=2, on_progress=told.append)
    assert (done.shards, done.reused, done.utterances) == (len(corpus), 0, corpus.num_utterances)
    assert done.scores is not None
    assert sum(told) == corpus.num_utterances
    assert content(tmp_path / "ray") == content(tmp_path / "one")
    for path in (tmp_path / "ray").glob("shard-00000[12].record.json"):
        path.unlink()
    again = run(corpus, "ray", workers=2)
    assert (again.shards, again.reused) == (2, len(corpus) - 2)
    assert content(tmp_path / "ray") == content(tmp_path / "one")


def test_a_lost_worker_is_replaced(tmp_path, run, cluster, monkeypatch):
    flag = tmp_path / "was_killed"
    (cluster / "mortal.py").write_text(MODEL.format(flag=str(flag)))
    monkeypatch.syspath_prepend(cluster)
    corpus = write_corpus(tmp_path / "corpus", faults=False, embedding_size=4)
    done = run(corpus, tmp_path / "ray", model="mortal:Halves")
    assert flag.exists()
    assert done.scores is not None
    rescore(corpus, tmp_path / "one", model="mortal:Halves")
    assert content(tmp_path / "ray") == content(tmp_path / "one")


def test_errors_of_workers_are_those_of_rescore(tmp_path, run):
    corpus = write_corpus(tmp_path / "corpus")
    path = tmp_path / "corpus" / corpus.shards[2].name
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    for columns in (["difficulty"], ["surprisal"]):  # met while scoring, and while counting
        with pytest.raises(StoreCorrupt, match=r"shard-000002\.arrow: shard 2: must have \d+ bytes"):
            run(corpus, tmp_path / columns[0], columns=columns)
    path.write_bytes(good)
    done = run(corpus, tmp_path / "difficulty", columns=["difficulty"])
    assert done.scores is not None
    with pytest.raises(ValueError, match="was begun with window 5, not 7"):
        run(corpus, tmp_path / "difficulty", columns=["difficulty"], window=7)


@pytest.mark.parametrize("concurrency", [0, (2, 1), True, 1.5, (0, 2)])
def test_wrong_concurrency_is_refused(tmp_path, run, concurrency):
    corpus = write_corpus(tmp_path / "corpus", dialogues=3)
    with pytest.raises(ValueError, match="concurrency must be an integer of at least 1, or two"):
        run(corpus, tmp_path / "ray", concurrency=concurrency)
    with pytest.raises(TypeError, match="options must be of columns"):
        run(corpus, tmp_path / "ray", shards=[0])


def test_example_runs(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder().find(run, "rescore_with_ray", globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
