"""Stands in for Slurm's commands: a job is a process of this machine, and what was asked for it is written down.

Links with the names of the commands lead here. REPRO_FAKE_SLURM is a folder: `asked` has a line of JSON a submission,
and JOB.state the state of each job.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("REPRO_FAKE_SLURM", "."))


def sbatch(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    for name in ("--job-name", "--output", "--wrap", "--chdir", "-D", "-t", "--mem", "--gpus", "--comment"):
        parser.add_argument(name)
    known, _ = parser.parse_known_args(arguments)
    with (FOLDER / "asked").open("a") as asked:
        asked.write(json.dumps(vars(known)) + "\n")
    job = str(os.getpid())
    (FOLDER / f"{job}.state").write_text("RUNNING")
    environment = os.environ | {"SLURM_JOB_ID": job} | ({"SLURM_GPUS": known.gpus} if known.gpus else {})
    output = open(known.output.replace("%j", job), "wb")  # noqa: SIM115, the job writes to it
    subprocess.Popen(
        [sys.executable, __file__, "job", job, known.wrap],
        cwd=known.D or known.chdir,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    print(job)


def job(arguments: list[str]) -> None:
    number, command = arguments
    done = subprocess.run(["/bin/sh", "-c", command], check=False)
    (FOLDER / f"{number}.state").write_text("FAILED" if done.returncode else "COMPLETED")


def sacct(arguments: list[str]) -> None:
    for path in FOLDER.glob("*.state"):
        print(f"{path.stem}|{path.read_text() or 'RUNNING'}")


def srun(arguments: list[str]) -> None:
    """Options of srun's own come first, each one word; then the command."""
    first = next(index for index, word in enumerate(arguments) if not word.startswith("-"))
    os.execvp(arguments[first], arguments[first:])


def sinfo(arguments: list[str]) -> None:
    print("PARTITION\nlong*")


if __name__ == "__main__":
    called = Path(sys.argv[0]).name
    command, words = (sys.argv[1], sys.argv[2:]) if called == Path(__file__).name else (called, sys.argv[1:])
    {"sbatch": sbatch, "job": job, "sacct": sacct, "srun": srun, "sinfo": sinfo}.get(command, lambda _: None)(words)
