"""Stands in for Slurm's commands and kubectl: a job is a process of this machine, and what it asked for is kept.

clusters.py COMMAND ARGUMENTS. REPRO_FAKE_CLUSTER is a folder: `asked` has a line of JSON a submission, JOB.state the
state of each job.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

FOLDER = Path(os.environ.get("REPRO_FAKE_CLUSTER", "."))


def sbatch(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    for name in ("--job-name", "--output", "--wrap", "--chdir", "-D", "-t", "--mem", "--gpus", "--comment"):
        parser.add_argument(name)
    known, _ = parser.parse_known_args(arguments)
    number = str(os.getpid())
    environment = {"SLURM_JOB_ID": number} | ({"SLURM_GPUS": known.gpus} if known.gpus else {})
    submit(number, vars(known), known.wrap, environment, cwd=known.D or known.chdir)
    print(number)


def submit(number: str, asked: dict, command: str, environment: dict[str, str], **settings: str) -> None:
    with (FOLDER / "asked").open("a") as file:
        file.write(json.dumps(asked) + "\n")
    (FOLDER / f"{number}.state").write_text("RUNNING")
    output = (FOLDER / f"{number}.log").open("wb")
    subprocess.Popen(
        [sys.executable, __file__, "job", number, command],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        **settings,
    )


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


def kubectl(arguments: list[str]) -> None:
    if arguments[0] == "get":
        state = (FOLDER / f"{arguments[1].partition('/')[2]}.state").read_text()
        print({"COMPLETED": "1/", "FAILED": "/1"}.get(state, "/"))
        return
    asked = yaml.safe_load(sys.stdin)
    number = f"{asked['metadata']['generateName']}{os.getpid()}"
    (container,) = asked["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    submit(number, asked, shlex.join(container["command"]), environment)
    print(f"job.batch/{number}")


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    known = {"sbatch": sbatch, "job": job, "sacct": sacct, "srun": srun, "sinfo": sinfo, "kubectl": kubectl}
    known.get(command, lambda _: None)(words)
