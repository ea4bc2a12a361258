"""Rows of a study, with scores that are known."""

from __future__ import annotations

from typing import Any

import pytest

LABELS = {"none": "none", "spcl": "SPCL", "random_utterances": "random utterances"}


class Rows:
    """Makes rows; what is not given is as in a finished run."""

    def one(self, curriculum: str, seed: int, f1: float | None, **changes: Any) -> dict[str, Any]:
        group = {"data": "meld", "modalities": ["text", "audio"], "backbone": "mmgcn", "part": "main", **changes}
        place = "-".join(map(str, (*group.values(), curriculum, seed)))
        scores = {
            "weighted_f1": f1,
            "macro_f1": 0.25,
            "accuracy": 0.75,
            "class_f1": [0.5, 0.125],
            "loss": 1.5,
            "modality_accuracy": [0.75, 0.5],
            "modality_loss": [1.0, 1.75],
            "agreement": 0.875,
            "multimodal_gain": 0.03125,
        }
        return {
            "version": 1,
            "key": place,
            "curriculum": curriculum,
            "label": LABELS.get(curriculum, curriculum),
            "setting": {} if curriculum == "none" else {"threshold": 0.4, "growth": 1.2},
            "seed": seed,
            "class_names": ["joy", "anger"],
            "config": {"hidden": 64, "curriculum": curriculum},
            "best_epoch": 1,
            "epochs": 2,
            "dev": scores,
            "test": scores,
            "take_rate": 0.625,
            "seconds_per_epoch": 0.25,
            "curriculum_share": 0.0625,
            "timeline": {
                "threshold": [None, None] if curriculum == "none" else [0.4, 0.5],
                "take_rate": [0.5, 0.75],
                "loss": [1.5, 1.25],
                "modality_ratio": [[2.0, 1.0], [1.5, 1.0]],
                "dev_weighted_f1": [0.25, 0.5],
                "dev_modality_accuracy": [[0.5, 0.25], [0.75, 0.5]],
            },
            "by_length": {"length": [3.0, 9.0], "difficulty": [0.25, 0.5], "take_rate": [1.0, 0.5]},
            "versions": {"torch": "2.13.0"},
            "device": "cpu",
            "threads": 1,
            **group,
        }

    def arm(self, curriculum: str, scores: list[float], **changes: Any) -> list[dict[str, Any]]:
        return [self.one(curriculum, seed, f1, **changes) for seed, f1 in enumerate(scores)]

    def study(self, gain: float, **changes: Any) -> list[dict[str, Any]]:
        """None, a random control as good, and SPCL, better by `gain` give or take a little; six seeds."""
        base = [0.50, 0.52, 0.51, 0.53, 0.49, 0.50]
        noise = [0.001, -0.001, 0.002, -0.002, 0.0, 0.001]
        return [
            *self.arm("none", base, **changes),
            *self.arm("random_utterances", [b - x for b, x in zip(base, noise, strict=True)], **changes),
            *self.arm("spcl", [b + gain + x for b, x in zip(base, noise, strict=True)], **changes),
        ]


@pytest.fixture
def rows() -> Rows:
    return Rows()
