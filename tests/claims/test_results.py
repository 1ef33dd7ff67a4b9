"""The README's section on results is written from findings, and no number of it by hand."""

import dataclasses
import re

import pytest

from repro import claims, paths
from repro.claims import ClaimError, Verdict
from repro.claims.results import END, START, section, with_section
from repro.cli import main
from repro.runs.profiles import load_profile


@pytest.fixture
def findings():
    """A whole study: another machine's, by today's criteria; what it lacks is made up with the verdicts on record."""
    study = claims.judged_again("cpu", claims.recorded_studies("cpu")["amd-epyc"])
    there = {(one.claim, one.subclaim) for one in study}
    return study + [
        dataclasses.replace(
            study[0], claim=claim.id, kind=claim.kind, subclaim=part.id, verdict=verdict, unit=part.unit
        )
        for claim in claims.load_ledger().claims
        for part in claim.subclaims
        for verdict in Verdict
        if (claim.id, part.id) not in there and part.recorded["cpu"] == verdict.word(claim.kind)
    ]


def changed(findings, name, **fields):
    return [dataclasses.replace(one, **fields) if one.subclaim == name else one for one in findings]


def test_the_template_has_no_number_of_its_own():
    template = (paths.configs_dir() / "results.md").read_text(encoding="utf-8")
    assert len(re.findall(r"\{[^}]+\}", template)) > 20
    assert re.findall(r"\d", re.sub(r"\{[^}]+\}", "", template)) == []


def test_every_number_is_a_findings(findings):
    findings = changed(findings, "target_order", estimate=-0.191, low=-0.251, high=-0.131)
    findings = changed(findings, "reinforce_pp_a", estimate=-0.02, low=-0.0498, high=0.01)
    for name in ("rloo_a", "rloo_b", "reinforce_pp_b", "prime_a", "prime_b"):
        findings = changed(findings, name, estimate=0.01, low=0.0, high=0.02)
    text = section("cpu", findings)
    assert "76 % (75 to 78 %) of the entropy is gone after a twelfth of training; the paper has 73 %." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    made = [claim for claim in claims.load_ledger().claims if claim.kind is claims.Kind.CLAIM]
    assert len(rows) == 2 + len(made)
    assert rows[2].endswith(
        "| Entropy consumed in the first 1/12 of training | 73 % | 76 % (75 to 78 %) | reproduced | 4 reproduced |"
    )
    assert "Does kept entropy pay? underpowered (primary); others: 2 as predicted, 1 not as predicted" in " ".join(
        text.split()
    )
    # The difference is -19.1 points (-25.1 to -13.1), which is a loss.
    assert "costs 19.1 points (13.1 to 25.1 points)" in " ".join(text.split())
    # The interval that reaches furthest is REINFORCE++'s a: -0.0498.
    assert "share a and b to within 5 %" in " ".join(text.split())
    # What the profile shows belongs to it, and the runs that two arms share are one run.
    runs = re.match(r"From profile `cpu`, (\d+) runs, 2 to 12 seeds an arm, 95 % intervals", text)[1]
    assert len(load_profile("cpu").own.all_configs()) < int(runs) < len(load_profile("cpu").all_configs())
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120
    moved = section("cpu", changed(findings, "entropy_twelfth", estimate=0.5, verdict=Verdict.UNDERPOWERED))
    assert "50 % (75 to 78 %) of the entropy" in moved
    assert "| 50 % (75 to 78 %) | underpowered | 4 reproduced |" in moved


def test_words_that_the_findings_do_not_say_are_refused(findings):
    moved = changed(findings, "hard_a", verdict=Verdict.UNDERPOWERED)
    with pytest.raises(ClaimError, match=r"law.hard_a is not reproduced, and it is underpowered; rewrite"):
        section("cpu", moved)
    with pytest.raises(ClaimError, match=r"no sub-claim 'clip_cov_accuracy' \(known: kl_cov_entropy, "):
        section("cpu", [one for one in findings if one.subclaim != "clip_cov_accuracy"])


def test_the_readme_has_a_place_for_it():
    readme = (paths.root() / "README.md").read_text(encoding="utf-8")
    assert readme.index("## What came out") < readme.index(START) < readme.index(END) < readme.index("## Read, run")
    assert with_section(f"a\n{START}\nold\n{END}\nb\n", "new") == f"a\n{START}\nnew\n{END}\nb\n"
    with pytest.raises(ClaimError, match="no section of results"):
        with_section("a\n", "new")


def test_the_command_writes_and_checks(findings, monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(claims, "measure_profile", lambda profile, **where: asked.append(where) or findings)
    monkeypatch.setattr("repro.cli.root", lambda: tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(f"# Name\n{START}\nold\n{END}\nrest\n")
    assert main(["results", "--check"]) == 1
    assert "`python -m repro results --write` corrects it" in capsys.readouterr().err
    assert main(["results"]) == 0 and "old" in readme.read_text()
    assert main(["results", "--write"]) == 0
    assert "76 % (75 to 78 %)" in readme.read_text() and readme.read_text().endswith(f"{END}\nrest\n")
    assert main(["results", "--check"]) == 0
    # Only the repository's records count.
    assert asked == [{"made": False}] * 4
