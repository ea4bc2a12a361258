"""`spcl-fast report`: a results file in, a folder out, one line for every mistake."""

from __future__ import annotations

import json

import pytest

from spcl_fast.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main(["report", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


def line(seed, curriculum, f1):
    return json.dumps(
        {
            "version": 1,
            "key": f"{curriculum}-{seed}",
            "part": "main",
            "data": "meld",
            "modalities": ["text", "audio"],
            "backbone": "mmgcn",
            "curriculum": curriculum,
            "label": curriculum,
            "seed": seed,
            "test": {"weighted_f1": f1},
        }
    )


def test_report_is_written_and_what_was_left_out_is_said(capsys, tmp_path):
    path, out = tmp_path / "results.jsonl", tmp_path / "new" / "report"
    lines = [line(s, c, f1 + 0.01 * s * s) for s in range(3) for c, f1 in (("none", 0.5), ("spcl", 0.51 + 0.001 * s))]
    path.write_text("\n".join([*lines, '{"version']))
    code, printed, err = run(capsys, path, "--out", out)
    assert (code, err) == (0, "")
    assert "Note: results.jsonl, line 7: the last line is cut off in the middle and was ignored" in printed
    assert "6 run(s). Written:" in printed
    assert {f.name for f in out.iterdir()} == {"report.html", "report.md", "gains-main-none.png"}
    assert "SPCL" not in (out / "report.md").read_text().split("## Words")[0]  # the label is the file's


def test_damaged_and_missing_files_are_refused_in_one_line(capsys, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(f"{line(0, 'none', 0.5)}\nnot JSON\n{line(1, 'none', 0.5)}\n")
    code, printed, err = run(capsys, path, "--out", tmp_path / "out")
    assert (code, printed) == (2, "")
    assert "results.jsonl, line 2: must be a JSON object (got not JSON" in err
    code, _, err = run(capsys, tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert code == 2
    assert "none.jsonl" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
