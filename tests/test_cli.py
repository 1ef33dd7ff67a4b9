"""The command line: what it prints, its exit status, and one clear line for every bad input."""

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

import repro.cli
from repro.cli import main
from repro.errors import ConfigError, RecordError
from repro.runs import keep, load, provenance
from repro.runs.profiles import load_profile, profile_names
from repro.runs.record import find


@pytest.fixture
def trained(monkeypatch):
    """Replace training by something instant; the list gets the config of every run trained."""
    configs = []

    def train(config, *, on_step, **_):
        configs.append(config)
        steps = range(1, config.max_steps + 1)
        return SimpleNamespace(
            metrics=pd.DataFrame({"step": steps, "entropy/response_mean": 0.5}),
            evaluations=pd.DataFrame({"step": [0], "accuracy/mean": 0.25}),
            tokens=pd.DataFrame({"step": [1]}),
            probe=pd.DataFrame({"step": []}),
            timing={"update": 0.1},
            threads=1,
        )

    module = ModuleType("repro.runs.training")
    module.train = train
    monkeypatch.setitem(sys.modules, "repro.runs.training", module)
    return configs


def error_line(capsys) -> str:
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "--profile", "huge"], "'huge' is unknown; the profiles are colab, countdown, cpu, cpu-more, "),
        (["reproduce", "--cores", "0"], "--cores=0 is not allowed; give a number of at least 1, or all"),
        (["reproduce", "--cores", "many"], "--cores=many is not allowed"),
        (["run", "--set", "max_steps=-5"], "max_steps=-5 (int) is not allowed; it must be greater than or equal to 1"),
        (["run", "--set", "max_steps='5'"], "max_steps='5' (str) is not allowed"),
        (["run", "--set", "stepz=5"], "'stepz' is unknown; known are base, "),
        (["run", "--set", "max_steps"], "--set max_steps is not allowed; write --set FIELD=VALUE"),
        (["run", "--set", "max_steps=["], "'[' is not a YAML value"),
        (["run", "--set", "base=none"], "base policy 'none' is missing"),
        (["run", "--seed", "-1"], "seed=-1 (int) is not allowed; it must be greater than or equal to 0"),
        (["run", "--seed", "one"], "argument --seed: invalid int value: 'one'; see `repro run --help`"),
        (["run", "--arm", "kl"], "arm 'kl' is not in profile 'cpu'; the nearest are "),
        (["attest", "--steps", "0"], "--steps=0 is not allowed"),
        (["run", "--prof", "cpu"], "unrecognized arguments: --prof cpu"),
        (["train", "--cores", "0"], "--cores=0 is not allowed; give a number of at least 1, or all"),
        (["train", "--minutes", "0"], "--minutes=0 is not allowed; give a number above 0"),
        (["learn"], "invalid choice: 'learn' (choose from"),
        ([], "the following arguments are required: COMMAND; see `repro --help`"),
        (["status", "--profile", ""], "profile '' is unknown"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(build, trained, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in error_line(capsys)
    assert trained == [] and not build.exists()


def test_debug_shows_where_an_error_comes_from(monkeypatch):
    monkeypatch.setenv("REPRO_DEBUG", "1")
    with pytest.raises(ConfigError):
        main(["status", "--profile", "huge"])


def test_run_trains_records_and_gives_a_receipt(build, trained, capsys):
    arguments = ["run", "--profile", "smoke", "--seed", "7", "--set", "max_steps=2", "--set", "trainer={beta: 0.1}"]
    assert main([*arguments, "--receipt"]) == 0
    (config,) = trained
    assert (config.seed, config.max_steps, config.arm, dict(config.trainer)) == (7, 2, "grpo", {"beta": 0.1})
    assert f"{config.name}: trained ({build / 'runs' / config.folder})" in capsys.readouterr().out
    receipt = build / "receipts" / f"{config.name}.json"
    first = receipt.read_text()
    assert str(build / "runs" / config.folder) in first
    assert main([*arguments, "--receipt"]) == 0
    assert len(trained) == 1 and receipt.read_text() == first
    assert f"{config.name}: recorded already" in capsys.readouterr().out


def test_run_takes_several_seeds(build, trained):
    assert main(["run", "--profile", "smoke", "--arm", "kl_cov", "--seed", "3", "1"]) == 0
    assert [(config.arm, config.seed) for config in trained] == [("kl_cov", 3), ("kl_cov", 1)]
    assert not (build / "receipts").exists()


def test_keep_copies_current_records_into_results(build, trained, monkeypatch, capsys, tmp_path):
    profile = load_profile("smoke")
    one = replace(profile, arms={arm: profile.arms[arm] for arm in ("grpo", "rloo")})
    monkeypatch.setattr(repro.cli, "load_profile", lambda name: one)
    assert main(["run", "--profile", "smoke", "--seed", "0", "1"]) == 0
    first, second, *others = one.all_configs()
    (build / "runs" / second.folder / "tokens.parquet").write_bytes(b"damaged")
    old = tmp_path / "results" / first.folder
    old.mkdir(parents=True)
    (old / "config.json").write_text("another")
    assert main(["keep", "--profile", "smoke"]) == 0
    assert capsys.readouterr().out.endswith("copied 1 record\n")
    assert [path.name for path in (tmp_path / "results").iterdir()] == [first.folder]
    kept, full = load(first, made=False), load(first)
    assert kept.recorded and not full.recorded
    assert kept.provenance["thinned"] == {"from": full.provenance["checksum"], "how": keep.HOW}
    same = {"commit", "code", "seconds", "started", "versions", "device", "threads"}
    assert {name: kept.provenance[name] for name in same} == {name: full.provenance[name] for name in same}
    pd.testing.assert_frame_equal(kept.metrics, full.metrics)
    assert find(others[0]).status == "missing"
    # A record that is already there is not copied onto itself.
    shutil.rmtree(build)
    assert find(first).path == old
    assert main(["keep", "--profile", "smoke"]) == 0
    assert capsys.readouterr().out == "copied 0 records\n"


def test_other_versions_than_a_records_are_said_once(build, trained, capsys, monkeypatch):
    profile = load_profile("smoke")
    monkeypatch.setattr(repro.cli, "load_profile", lambda name: replace(profile, arms={"grpo": profile.arms["grpo"]}))
    assert main(["run", "--profile", "smoke", "--seed", "0", "1"]) == 0
    assert main(["status", "--profile", "smoke"]) == 0
    assert "warning" not in capsys.readouterr().err
    now = {**provenance.versions(), "trl": "9.9", "repro": "2"}
    monkeypatch.setattr(provenance, "versions", lambda: now)
    assert main(["status", "--profile", "smoke"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: records were computed with other versions: trl 1.") and "(here 9.9)" in line


def test_status_shows_every_run(build, trained, capsys):
    configs = load_profile("smoke").all_configs()
    for name in {config.base for config in configs}:
        weights = build.parent / "bases" / name / "model.safetensors"
        weights.parent.mkdir(exist_ok=True)
        weights.write_bytes(name.encode())
    assert main(["run", "--profile", "smoke"]) == 0
    capsys.readouterr()
    assert main(["status", "--profile", "smoke"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["run", "status", "minutes", "entropy", "accuracy"]
    assert rows[1] == [configs[0].name, "current", "0.0", "0.500", "0.250"]
    assert rows[2:] == [[config.name, "missing"] for config in configs[1:]]


def test_profiles_are_listed(capsys):
    assert main(["profiles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["profile", *profile_names()]


@pytest.mark.parametrize(("names", "expected"), [([], None), (["s", "m"], ["s", "m"])])
def test_bases_are_made_by_name(monkeypatch, capsys, names, expected):
    module = ModuleType("repro.policies.base")
    asked = []
    module.make_bases = lambda names: asked.append(names) or ["bases/s"]
    monkeypatch.setitem(sys.modules, "repro.policies.base", module)
    assert main(["bases", *names]) == 0
    assert asked == [expected] and capsys.readouterr().out == "bases/s\n"


def fail(error):
    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (RecordError("two\nlines"), 2, "error: two lines\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/full/file"),
            2,
            "error: cannot write /full/file: No space left on device; free some space, make it writable, or set "
            "REPRO_BUILD to another folder\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; what is done is kept, call again to go on\n"),
    ],
)
def test_errors_of_a_command(monkeypatch, capsys, error, status, message):
    monkeypatch.setattr(repro.cli, "profiles", fail(error))
    repro.cli.profiles.__name__, repro.cli.profiles.__doc__ = "profiles", "Fail."
    assert main(["profiles"]) == status
    assert capsys.readouterr().err == message


def test_an_error_in_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr(repro.cli, "profiles", fail(FileNotFoundError(errno.ENOENT, "No such file")))
    repro.cli.profiles.__name__, repro.cli.profiles.__doc__ = "profiles", "Fail."
    with pytest.raises(FileNotFoundError):
        main(["profiles"])


def test_help_has_a_line_for_every_command(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    for command in (
        "reproduce",
        "train",
        "keep",
        "run",
        "bases",
        "notebooks",
        "execute",
        "verdicts",
        "compare",
        "results",
        "book",
        "status",
        "profiles",
    ):
        assert f"\n    {command}" in text


def test_import_is_light():
    code = (
        "import sys, repro.cli, repro.runs, repro.runs.profiles, repro.runs.workflow\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'matplotlib', 'papermill'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_reader_that_went_away_ends_a_command_quietly():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        ended = subprocess.run([sys.executable, "-m", "repro", "profiles"], stdout=pipe, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (141, b"")
