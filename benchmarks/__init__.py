"""The benchmark suite, which runs from a checkout: `spcl-fast bench`.

Every file `bench_<name>.py` lists the cells of one op (`cells(settings)`), every file of `providers/` the ways to
compute it. A cell is one size of input: its contenders must first agree with the float64 reference, and are then
timed in turns by `harness.py`. An optional `scaling(T)` gives the call whose time is drawn against T. Results go to
`results/<name>.json`, all rows to `results/rows.csv`, the figures beside them; `tables.py` writes those of the README.
On a GPU the same forms compete in the cells of `gpu/`, which also checks all else that needs one.
"""
