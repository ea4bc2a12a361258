"""Which code made a result."""

from __future__ import annotations

import shutil
import subprocess

import pytest

import spcl_fast
from spcl_fast.merc.provenance import _version_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *arguments):
    command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_version_names_the_commit_and_says_when_it_is_not_all(checkout):
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "results.jsonl").write_text("{}")  # not tracked
    assert _version_of(checkout) == f"{spcl_fast.__version__}+{commit}"
    (checkout / "code.py").write_text("x = 2\n")
    assert _version_of(checkout) == f"{spcl_fast.__version__}+{commit}.changed"


def test_version_without_a_checkout_of_its_own(checkout, monkeypatch):
    (checkout / "packages").mkdir()  # as of an environment inside the checkout of something else
    assert _version_of(checkout / "packages") == spcl_fast.__version__
    monkeypatch.setenv("PATH", "")
    assert _version_of(checkout) == spcl_fast.__version__  # no git


def test_version_of_a_checkout_without_a_commit(tmp_path):
    git(tmp_path, "init", "-q")
    assert _version_of(tmp_path) == spcl_fast.__version__
