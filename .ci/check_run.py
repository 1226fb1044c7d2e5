"""Is the run directory of a bare `minires train` complete, and the model good enough?"""

import json
import sys
from pathlib import Path

run = Path(sys.argv[1])
for name in ("config.json", "metrics.jsonl", "summary.json", "last/model.safetensors", "best/model.safetensors"):
    assert (run / name).is_file(), f"{name} is missing from {run}"
summary = json.loads((run / "summary.json").read_text())
assert summary["test_acc"] >= 0.975, summary
print(f"digits test accuracy {summary['test_acc']:.4f} in {summary['seconds']:.0f} s")
