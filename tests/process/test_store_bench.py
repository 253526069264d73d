"""The store's benchmark runs from end to end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_prints_its_table(tmp_path: Path) -> None:
    kept = tmp_path / "kept.db"
    command = [sys.executable, "-m", "load.bench.store", "--peers", "200", "--samples", "100"]
    command += ["--keep", str(kept)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    for line in ("nearest(16)", "put + take", "add_record, new", "open", "memory"):
        assert line in first
        assert line in second
    assert "filling" in first
    assert "filling" not in second
