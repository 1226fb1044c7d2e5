"""Training: the options of a run, the loop, its checkpoints and its report.

`loop.py` is the one to read first. Around it: `config` (options), `setup` (what the options build), `evaluate`,
`metrics`, `checkpoint`, `report` and `figures` (the run directory), `progress` and `interrupt` (the terminal).
"""
