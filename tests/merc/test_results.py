"""The results file: what is written is read again, and what is damaged is found."""

from __future__ import annotations

import json
import math
import os
import threading

import pytest

from spcl_fast.merc.results import append_result, read_results


def row(**changes):
    scores = {"weighted_f1": 0.5, "class_f1": [0.5, None], "modality_accuracy": [0.5, 0.25]}
    return {
        "version": 1,
        "key": "0123456789abcdef",
        "part": "main",
        "data": "meld",
        "modalities": ["text", "audio"],
        "backbone": "mmgcn",
        "curriculum": "spcl",
        "label": "SPCL",
        "seed": 3,
        "class_names": ["joy", "anger"],
        "test": scores,
        "timeline": {"threshold": [0.4, None], "modality_ratio": [[1.5, 1.0], [1.25, 1.0]]},
        "by_length": {"length": [3, 9], "difficulty": [0.2, 0.4], "take_rate": [1.0, 0.5]},
        **changes,
    }


def written(tmp_path, *rows, end="\n"):
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(json.dumps(r) if isinstance(r, dict) else r for r in rows) + end)
    return path


def test_rows_come_back_in_order_and_null_stands_for_what_json_has_no_number_for(tmp_path):
    path = tmp_path / "results.jsonl"
    append_result(path, row(key="a", take_rate=math.nan))
    append_result(path, row(key="b", take_rate=0.5))
    found = read_results(path)
    assert found == ([row(key="a", take_rate=None), row(key="b", take_rate=0.5)], [])


def test_later_row_of_a_key_stands_at_its_own_place(tmp_path):
    path = written(tmp_path, row(key="a", seed=1), row(key="b"), row(key="a", seed=2), "", row(key="c"))
    found = read_results(path)
    assert [(r["key"], r["seed"]) for r in found.rows] == [("b", 3), ("a", 2), ("c", 3)]
    assert found.notes == [
        "results.jsonl: 1 row(s) are of runs that a later row repeats; the later row stands",
    ]


def test_cut_off_last_line_is_left_out_with_a_note(tmp_path):
    path = written(tmp_path, row(), '{"version": 1, "key', end="")
    found = read_results(path)
    assert len(found.rows) == 1
    assert found.notes == ["results.jsonl, line 2: the last line is cut off in the middle and was ignored"]
    path.write_bytes(path.read_bytes()[:-1] + "é".encode()[:1])  # in the middle of a letter
    assert len(read_results(path).notes) == 1


@pytest.mark.parametrize(("tail", "kept"), [('{"version": 1, "k', []), (json.dumps(row(key="whole")), ["whole"])])
def test_append_after_a_crash_keeps_what_is_whole(tmp_path, tail, kept):
    path = written(tmp_path, row(key="a"), tail, end="")
    append_result(path, row(key="b"))
    found = read_results(path)
    assert [r["key"] for r in found.rows] == ["a", *kept, "b"]
    assert found.notes == []


def test_cut_off_line_longer_than_a_block_is_found_whole(tmp_path):
    path = written(tmp_path, row(key="a"), '{"version": "' + 200_000 * "x", end="")
    append_result(path, row(key="b"))
    assert [r["key"] for r in read_results(path).rows] == ["a", "b"]
    path.write_text('{"only": "' + 200_000 * "x")
    append_result(path, row(key="b"))
    assert [r["key"] for r in read_results(path).rows] == ["b"]


def test_many_writers_lose_no_row(tmp_path):
    path = tmp_path / "results.jsonl"

    def write(writer):
        for n in range(20):
            append_result(path, row(key=f"{writer}-{n}", padding=5_000 * "x"))

    threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_results(path).rows) == 80


def test_write_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    path = written(tmp_path, row(key="a"))
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))
    with pytest.raises(OSError, match=r"results\.jsonl: only \d+ of \d+ bytes could be written"):
        append_result(path, row(key="b"))
    assert path.read_bytes() == before


def test_row_that_no_reader_would_take_is_not_written(tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match=r"append_result: seed must be an integer \(got '3'\)"):
        append_result(path, row(seed="3"))
    with pytest.raises(TypeError):
        append_result(path, row(setting={"threshold": object()}))
    assert not path.exists()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", r"must be a JSON object \(got \{: "),
        ("[1]", r"must be a JSON object \(got \[1\]\)"),
        ('{"version": NaN}', "NaN is no number of JSON"),
        (
            json.dumps(row(test={"weighted_f1": 5.5})).replace("5.5", "1e999"),
            r"test.weighted_f1 must be a number or null",
        ),
        (row(version=2), r"version must be 1 \(got 2\)"),
        (row(key=""), r"key must be a text \(got ''\)"),
        (row(data=None), r"data must be a text \(got None\)"),
        (row(part="other"), r"part must be one of main, ablation, search \(got 'other'\)"),
        (row(modalities="text"), r"modalities must be a list of names \(got 'text'\)"),
        (row(class_names=[1, 2]), r"class_names must be a list of names"),
        (row(seed=True), r"seed must be an integer \(got True\)"),
        (row(test=None), r"test must be an object \(got None\)"),
        (row(take_rate="0.5"), r"take_rate must be a number or null \(got '0.5'\)"),
        (row(test={"weighted_f1": True}), r"test\.weighted_f1 must be a number or null"),
        (row(test={"class_f1": [0.5]}), r"test\.class_f1 must be of length 2"),
        (row(dev={"modality_loss": [1.0]}), r"dev\.modality_loss must be of length 2"),
        (row(timeline=[1]), r"timeline must be an object or null"),
        (row(timeline={"threshold": ["x"]}), r"timeline\.threshold must be a list of numbers or null"),
        (row(timeline={"modality_ratio": [[1.0]]}), r"timeline\.modality_ratio must be of length 2"),
        (row(timeline={"modality_ratio": 1.0}), r"timeline\.modality_ratio must be a list of lists"),
        (row(by_length={"length": [3], "take_rate": []}), r"by_length\.take_rate must be of length 1"),
        (row(setting=3), r"setting must be an object or null"),
        (row(error=3), r"error must be a text or null \(got 3\)"),
        (row(error="", test=None), r"error must be a text or null \(got ''\)"),
        (row(data_checksum=7), r"data_checksum must be a text or null"),
    ],
)
def test_damaged_line_is_refused_with_its_number(tmp_path, bad, message):
    with pytest.raises(ValueError, match=rf"results\.jsonl, line 2: .*{message}"):
        read_results(written(tmp_path, row(), bad, row(key="z")))


@pytest.mark.parametrize("text", ["", "\n\n", '{"cut'])
def test_file_without_a_run_is_refused(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"results\.jsonl: must hold at least one run \(got none\)"):
        read_results(path)


def test_run_that_failed_has_no_score(tmp_path):
    failed = row(test=None, error="the model diverged")
    assert read_results(written(tmp_path, failed)).rows == [failed]


def test_search_has_no_test_and_what_is_optional_may_be_absent(tmp_path):
    bare = {k: v for k, v in row(part="search", test=None).items() if k not in ("timeline", "by_length", "class_names")}
    assert read_results(written(tmp_path, bare)).rows == [bare]
