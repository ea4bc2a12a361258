"""Everything that needs a GPU, in one command: `make gpu-check`, which is `python -m benchmarks.gpu` in a checkout.

It takes whatever environment `python` is: torch 2.11 or newer for CUDA, and numpy. It loads the compiled libraries or
builds them (`build.py`), and runs three parts, each in child processes with a limit, so that neither a crash nor a
hang takes the rest along:

- tests (`part_tests.py`): `pytest --device cuda`, and checks of its own that need no pytest (`own_checks.py`);
- bench (`part_bench.py`): the cells of `cells_*.py`, and hardware counters where they can be read;
- sanitize (`part_sanitize.py`): the four tools of compute-sanitizer on every op.

A check has passed, has failed, or was not run, with the reason; nothing that did not run is called passed. The results
are `results/gpu_check.json` and `results/gpu_check.csv`, written only where there is a CUDA device.
"""
