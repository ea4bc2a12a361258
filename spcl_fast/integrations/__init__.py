"""Adapters to the trainers and writers of others, one module each; a module imports its host, this package none.

- `spcl_fast.integrations.lightning`: a callback for `lightning.Trainer`.
- `spcl_fast.integrations.huggingface`: a callback and a mixin for `transformers.Trainer`.
- `spcl_fast.integrations.curml`: a curriculum with the five hooks of CurML and CurBench; needs torch alone.
- `spcl_fast.integrations.writers`: statistics for TensorBoard, anything shaped like it, and `logging`.

`pip install 'spcl_fast[adapters]'` brings the hosts. `docs/examples/` has a program for each that runs as it stands.
"""
