"""Pins: from the Hub and from folders, known offline, checked when they are used, and refused in one line."""

import hashlib
import json
import re
import subprocess
import sys

import huggingface_hub
import pytest

from repro import pins
from repro.cli import main
from repro.errors import ConfigError, PinError
from repro.pins import lock
from repro.runs import RunConfig
from tests.standins import COMMIT, StubHub, checkpoint

MODEL, DATA = "Tiny/Qwen2.5-tiny", "tiny/gsm8k"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """A sharded model with files that are never used, and a data set."""
    root = tmp_path_factory.mktemp("repositories")
    model = checkpoint(root / "Qwen2.5-tiny", "qwen2", sharded=True)
    for name in ("pytorch_model.bin", "modeling_tiny.py", "consolidated.safetensors", "README.md"):
        (model / name).write_text("never used")
    data = root / "gsm8k"
    (data / "main").mkdir(parents=True)
    (data / "main" / "train-00000-of-00001.parquet").write_bytes(b"PAR1" * 5000)
    (data / "README.md").write_text("configs: [main]")
    (data / "gsm8k.py").write_text("never used")
    return model, data


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A project whose lock can be written, a build folder, and a cache of the Hub's files."""
    project = tmp_path / "configs"
    project.mkdir()
    monkeypatch.setattr(lock, "configs_dir", lambda: project)
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def hub(repositories, monkeypatch):
    model, data = repositories
    stub = StubHub({MODEL: model, "tiny/both": model}, {DATA: data, "tiny/both": data})
    with stub.serve() as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield stub


def test_a_model_of_the_hub_is_pinned_without_its_weights_and_then_known_offline(
    hub, repositories, places, monkeypatch
):
    name = f"hub:{MODEL}"
    with pytest.raises(PinError, match=f"^model '{name}' is not pinned; `python -m repro pin {MODEL}` pins it$"):
        _ = RunConfig(base=name).identity
    kind, pinned, made, path = pins.pin(MODEL)
    assert (kind, pinned, path) == ("model", name, places / "configs" / "pins.lock.json")
    assert (made.revision, made.architecture, made.dtype) == (COMMIT, "Qwen2ForCausalLM", "float32")
    shards = [file for file in made.files if file.endswith(".safetensors")]
    assert len(shards) > 1 and "consolidated.safetensors" not in shards
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= set(made.files)
    assert not {"README.md", "pytorch_model.bin", "modeling_tiny.py"} & set(made.files)
    for file, digest in made.files.items():
        assert hashlib.sha256((repositories[0] / file).read_bytes()).hexdigest() == digest
    large = [file for file in shards if (repositories[0] / file).stat().st_size > hub.large]
    assert large and not any(asked.endswith(file) for asked in hub.asked for file in large)

    asked = len(hub.asked)
    config = RunConfig(base=name)
    assert config.base_sha256 == made.digest
    assert config.folder == f"Qwen2.5-tiny-seed0-{config.identity}"
    assert len(hub.asked) == asked

    folder = pins.resolve("model", name)
    assert sorted(path.name for path in folder.iterdir()) == sorted(made.files)
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    assert pins.resolve("model", name) == folder


def test_the_lock_is_plain_sorted_json_that_says_what_it_means(hub, places):
    pins.pin(DATA)
    pins.pin(MODEL)
    text = (places / "configs" / "pins.lock.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert list(json.loads(text)) == ["dataset", "model"]
    data = pins.get("dataset", f"hub:{DATA}")
    assert sorted(data.files) == ["README.md", "main/train-00000-of-00001.parquet"]
    assert json.loads(text)["dataset"][f"hub:{DATA}"] == {"files": data.files, "revision": COMMIT}
    assert (pins.resolve("dataset", f"hub:{DATA}") / "main" / "train-00000-of-00001.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny/none",), "the Hub has no model or data set 'tiny/none' that you may read; correct the name, or log in"),
        (("tiny/both",), "'tiny/both' is a model and a data set on the Hub; pass --kind model or --kind dataset"),
        ((DATA, "--kind", "model"), f"the Hub has no model '{DATA}'"),
        ((MODEL, "--revision", "v9"), f"cannot get '{MODEL}' from the Hub .RevisionNotFoundError"),
        (("./nowhere",), "there is no .*/nowhere; name a folder"),
        ((".", "--revision", "main"), "--revision=main is for a name on the Hub, and . is on this machine"),
    ],
)
def test_what_cannot_be_pinned_is_refused_in_one_line(hub, places, capsys, arguments, message):
    assert main(["pin", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error), error
    assert not (places / "configs" / "pins.lock.json").exists()


def test_a_kind_that_is_named_decides(hub, places):
    assert [pins.pin("tiny/both", kind=kind)[0] for kind in ("model", "dataset")] == ["model", "dataset"]


def test_no_network_is_one_line(places, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    assert main(["pin", MODEL]) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot get '{MODEL}' from the Hub (")


def test_a_folder_is_pinned_by_content_and_checked_when_it_is_used(places, tmp_path):
    folder = checkpoint(tmp_path / "mine", "llama")
    kind, name, made, path = pins.pin(str(folder))
    assert (kind, name, path) == ("model", "local:mine", places / "build" / "pins.lock.json")
    assert (made.folder, made.revision, made.architecture) == (str(folder), None, "LlamaForCausalLM")
    elsewhere = checkpoint(tmp_path / "there" / "mine", "llama")
    assert pins.pin(str(elsewhere))[2].digest == made.digest
    assert pins.resolve("model", "local:mine") == elsewhere
    weights = elsewhere / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(PinError, match=r"model.safetensors is not the file that model 'local:mine' is pinned to"):
        pins.resolve("model", "local:mine")
    assert pins.pin(str(elsewhere))[2].digest != made.digest
    weights.unlink()
    with pytest.raises(PinError, match=r"model.safetensors cannot be read \(No such file or directory\); put it back"):
        pins.resolve("model", "local:mine")


def test_the_dtype_is_the_configs_or_else_that_of_the_stored_tensors(places, tmp_path):
    import torch

    folder = checkpoint(tmp_path / "half", "mistral", dtype=torch.bfloat16)
    assert pins.pin(str(folder))[2].dtype == "bfloat16"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k not in ("dtype", "torch_dtype")})
    )
    assert pins.pin(str(folder))[2].dtype == "bfloat16"


def change(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "only weights as safetensors",
        ),
        (lambda folder: change(folder, auto_map={"AutoModel": "m.M"}), "code of its own .auto_map.*never run"),
        (lambda folder: change(folder, architectures=[]), "names no architecture, or several"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "has no data that is read .*pass --kind model"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(places, tmp_path, harm, message):
    folder = checkpoint(tmp_path / "bad", "qwen2")
    harm(folder)
    with pytest.raises(PinError, match=message):
        pins.pin(str(folder))


def test_a_file_of_problems_is_a_data_set(places, tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "1+1", "answer": "2"}\n')
    assert pins.pin(str(path))[:2] == ("dataset", "local:mine.jsonl")
    assert pins.resolve("dataset", "local:mine.jsonl") == tmp_path
    assert main(["pin"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [["local:mine.jsonl", "dataset"]]
    with pytest.raises(PinError, match="^dataset 'local:other' is not pinned; `python -m repro pin PATH/TO/other`"):
        pins.get("dataset", "local:other")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ('{"models": {}}', "'models' is unknown; known are model")]
)
def test_a_lock_that_is_none_names_the_file(places, text, message):
    path = places / "configs" / "pins.lock.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: .*{message}"):
        pins.read("model")


def test_the_build_folders_pin_of_a_name_holds_until_the_project_has_it(hub, places, monkeypatch):
    monkeypatch.setattr(lock, "checkout", lambda: None)
    own = pins.pin(MODEL)[3]
    assert own == places / "build" / "pins.lock.json" and not (places / "configs" / "pins.lock.json").exists()
    assert pins.get("model", f"hub:{MODEL}").revision == COMMIT
    monkeypatch.setattr(lock, "checkout", lambda: places)
    assert pins.pin(MODEL)[3] == places / "configs" / "pins.lock.json"
    assert "hub:" not in own.read_text() and pins.get("model", f"hub:{MODEL}").revision == COMMIT


def test_pinning_needs_no_torch():
    heavy = "'torch', 'transformers', 'huggingface_hub'"
    code = f"import sys, repro.pins, repro.runs.config\nprint(*{{{heavy}}} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []
