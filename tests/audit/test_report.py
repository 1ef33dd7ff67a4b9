"""What the command prints: text, JSON by its schema, one HTML file, exit status; and the advice."""

import json
import re
from html.parser import HTMLParser

import jsonschema
import pytest

from repro.audit import advice, audit, report
from repro.audit.page import as_html
from repro.claims import load_ledger
from repro.cli import main
from tests.audit import logs


@pytest.fixture
def two(tmp_path):
    """A run that has collapsed, and one that holds."""
    paths = []
    for name, left in (("falls", 0.01), ("holds", 0.3)):
        folder = tmp_path / name
        folder.mkdir()
        path = logs.write_csv(folder, logs.run(left=left).assign(**{"response_length/clip_ratio": 0.3}))
        paths.append(str(path.rename(folder / f"{name}.csv")))
    return paths


def test_text_names_columns_and_answers(two, capsys):
    assert main(["audit", two[0]]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "falls (CSV, 41 entropies, steps 0 to 400)",
        "entropy `entropy`: estimator unknown",
        "> law LAWFUL. R = 0.",
        "> state COLLAPSED. entropy is 0.011",
        "> groups not answered; what is missing is groups without spread",
        "> truncation LARGE. 30 % of the responses are cut",
        "* change Hold back the tokens of highest covariance",
        "ours: Entropy at the end, KL-Cov over GRPO without a clip:",
    ):
        assert part in printed


def test_several_logs_are_compared(two, capsys):
    assert main(["audit", *two]) == 0
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert [line.split()[:2] for line in table] == [["run", "state"], ["falls", "collapsed"], ["holds", "holding"]]


def test_exit_status(two, capsys, tmp_path):
    assert main(["audit", two[0], "--fail-on", "collapse"]) == 1
    assert main(["audit", two[0], "--fail-on", "explosion"]) == 0
    assert main(["audit", two[1], "--fail-on", "collapse", "explosion"]) == 0
    capsys.readouterr()
    # One log that is refused does not hide the others.
    assert main(["audit", str(tmp_path / "none.csv"), two[1]]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "holds (CSV" in captured.out


def test_json_follows_its_schema(two, capsys):
    jsonschema.Draft202012Validator.check_schema(report.schema())
    assert main(["audit", *two, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    jsonschema.validate(content, report.schema())
    falls = content["audits"][0]
    assert falls["answers"]["law"]["intervals"]["a"]["estimate"] == pytest.approx(logs.A, abs=0.02)
    assert falls["state"] == "collapsed" and falls["columns"]["score"]["name"] == "reward"
    falls["answers"].pop("ceiling")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, report.schema())


class Links(HTMLParser):
    """Everything in a page that a browser would fetch, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.fetched = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "srcset")]


def test_html_is_one_file_that_fetches_nothing(two, tmp_path):
    target = tmp_path / "report.html"
    assert main(["audit", *two, "--html", str(target)]) == 0
    page = target.read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.tags.count("svg") == 2 and not {"script", "link", "img", "iframe"} & set(links.tags)
    assert all(value.startswith("#") for value in links.fetched)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "<td>falls</td><td>collapsed</td>" in page


def test_names_cannot_inject_html(tmp_path):
    page = as_html([audit(logs.run().rename(columns={"reward": "<script>reward"}))])
    assert "<script>" not in page and "&lt;script&gt;reward" in page


def test_report_that_cannot_be_written(two, tmp_path, capsys):
    assert main(["audit", two[0], "--html", str(tmp_path / "no" / "report.html")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: cannot write ") and captured.err.count("\n") == 1


def test_advice_rests_on_the_ledger():
    """Every piece of evidence is a sub-claim, every condition a verdict that an audit can give."""
    parts = {f"{claim.id}/{part.id}" for claim in load_ledger().claims for part in claim.subclaims}
    verdicts = {
        "law": {"lawful", "doubtful", "does not hold"},
        "state": {"collapsing", "collapsed", "holding", "exploding"},
        "groups": {"large", "small"},
        "truncation": {"large", "small"},
    }
    for entry in advice.entries():
        assert set(entry["evidence"]) <= parts
        assert entry["source"] and entry["do"].endswith(".")
        assert all(set(words) <= verdicts[question] for question, words in entry["when"].items())


def test_advice_follows_the_verdicts():
    falls, holds = (advice.advise(audit(logs.run(left=left))) for left in (0.01, 0.3))
    assert any("KL-Cov" in one.do for one in falls) and not any("KL-Cov" in one.do for one in holds)
    assert "Entropy at the end, KL-Cov over GRPO without a clip: " in falls[0].evidence[0]
