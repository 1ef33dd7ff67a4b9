"""A notebook whose kernel is killed during training goes on when it is executed again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from repro.book import notebook

# Forty optimizer steps of a few milliseconds, and a checkpoint after each.
SCRIPT = """\
# %% tags=["parameters"]
noted: str = ""

# %%
import os
from pathlib import Path
from repro.runs import RunConfig, load_or_train

Path(noted).write_text(str(os.getpid()))
config = RunConfig(base="xs", max_steps=40, prompts_per_rollout=2, num_generations=2, eval_steps=40, eval_prompts=2,
    eval_samples=2, eval_samples_last=2)
load_or_train(config).provenance["seed"]
"""
EXECUTE = """
import sys
from pathlib import Path
from repro.book import notebook
source, output, noted = sys.argv[1:]
notebook.execute(Path(source), Path(output), {"noted": noted})
"""


@pytest.mark.slow
def test_a_killed_kernels_run_goes_on_from_its_checkpoint_on_another_drive(tmp_path, monkeypatch):
    drive, noted, source = tmp_path / "mounted drive", tmp_path / "kernel", tmp_path / "note.py"
    source.write_text(SCRIPT)
    monkeypatch.setenv("REPRO_BUILD", str(drive))
    monkeypatch.setenv("REPRO_CHECKPOINT_MINUTES", "0")
    command = [sys.executable, "-c", EXECUTE, source, tmp_path / "first.ipynb", noted]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not list(drive.glob("runs/.partial/*/checkpoint-*/study.json")):
        time.sleep(0.02)
    os.kill(int(noted.read_text()), signal.SIGKILL)
    assert first.communicate()[1].splitlines()[-1].startswith("nbclient.exceptions.DeadKernelError")
    assert not (tmp_path / "first.ipynb").exists()
    assert not list(drive.glob("runs/*/provenance.json"))

    notebook.execute(source, tmp_path / "second.ipynb", {"noted": str(noted)})
    [record] = drive.glob("runs/*/provenance.json")
    begun = [session["from_step"] for session in json.loads(record.read_text())["sessions"]]
    assert begun[0] == 0 and 0 < begun[1] < 40 and len(begun) == 2
