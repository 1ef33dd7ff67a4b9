"""The computed parts of the book as MyST: verdict tables, criteria, settings of the runs, and what made them."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from repro import claims
from repro.book import display
from repro.claims import Claim, Comparisons, Finding, Kind, Studies, SubClaim, Verdict
from repro.claims.registry import MEASURES
from repro.runs import Run
from repro.runs.profiles import Profile
from repro.tasks.arithmetic.strategies import MIXTURES

# Settings that tell runs apart without being a choice of method.
OWN_TO_RUN = ("arm", "seed")
BADGES = {
    Verdict.REPRODUCED: "bdg-success",
    Verdict.NOT_REPRODUCED: "bdg-danger",
    Verdict.UNDERPOWERED: "bdg-muted",
}
RESULTS = ("Paper", "Ours (95 % interval)", "n")


def shortfall(profile: Profile, findings: Sequence[Finding]) -> str:
    """One sentence if the profile has too few seeds for most of the verdicts that it has runs for, else nothing."""
    minimum = {
        (claim.id, part.id): part.minimum_seeds or claim.minimum_seeds
        for claim in claims.load_ledger().claims
        for part in claim.subclaims
    }
    run = [finding for finding in findings if finding.n]
    short = [finding for finding in run if finding.n < minimum[finding.claim, finding.subclaim]]
    if 2 * len(short) <= len(run):
        return ""
    seeds = _range([finding.n for finding in short])
    needed = _range([minimum[finding.claim, finding.subclaim] for finding in short])
    which = "every verdict" if len(short) == len(findings) else f"{len(short)} of {len(findings)} verdicts"
    return (
        f"Profile {profile.name} has {seeds} {'seed' if seeds == '1' else 'seeds'} where a verdict needs {needed}: "
        f"{which} in this copy {'is' if len(short) == len(findings) else 'are'} underpowered."
    )


def _range(numbers: Sequence[int]) -> str:
    """Numbers as '2', or '1 to 2' where they differ."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def banner(profile: Profile, findings: Sequence[Finding], runs: Sequence[Run]) -> str:
    """A warning if the profile is too small for verdicts, else what the book was made from; and who made the runs."""
    origin = f"{display.origin(runs)} {{doc}}`/status` says which." if runs else "It has no runs."
    if len(claims.answered(profile)) < len(claims.load_ledger().claims):
        origin = f"{claims.answers(profile)} {origin}"
    if short := shortfall(profile, findings):
        return (
            f":::{{warning}}\n{short} It shows that the whole way works, not what the runs of the study say. "
            f"`make reproduce` makes those. {origin}\n:::\n"
        )
    missing = sum(finding.n == 0 and finding.estimate is None for finding in findings)
    rest = f" It has no runs for {missing} of {len(findings)} verdicts." if missing else ""
    return f"This copy shows the profile `{profile.name}`. {profile.description}{rest} {origin}\n"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def list_table(header: Sequence[str], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """A MyST table; cells are one line of MyST each."""
    lines = ["```{list-table}", ":header-rows: 1"]
    if css:
        lines.append(f":class: {css}")
    for row in (header, *rows):
        lines += ["", f"* - {row[0]}", *(f"  - {cell}" for cell in row[1:])]
    return "\n".join([*lines, "```", ""])


def badge(verdict: Verdict, kind: Kind) -> str:
    return f"{{{BADGES[verdict]}}}`{verdict.word(kind)}`"


def _seeds(finding: Finding) -> str:
    """Number of seeds, in a cell."""
    return str(finding.n) if finding.n else "none"


def _runs_link(finding: Finding) -> str:
    """Number of seeds, in a cell, leading to the page that lists the runs."""
    return f"{{doc}}`{finding.n} </status>`" if finding.n else _seeds(finding)


def _figure_link(part: SubClaim, figures: Collection[str]) -> str:
    """A link to the sub-claim's figure, to stand behind its title."""
    return f" ({{numref}}`{part.figure}`)" if part.figure in figures else ""


def _verdict(claim: Claim, finding: Finding, studies: Studies) -> str:
    """A sub-claim's verdict and what to know of it, in a cell."""
    said = claims.remarks(claim, finding, studies)
    return f"{badge(finding.verdict, claim.kind)} {'; '.join(said)}".rstrip()


def verdict_table(
    profile: Profile, findings: Sequence[Finding], kind: Kind, figures: Collection[str], studies: Studies
) -> str:
    """All claims, or all open questions, with their primary's verdict; under each its sub-claims, folded up.

    Titles lead to the claim's page, and to the figure where `figures` has it; numbers of seeds to the runs.
    """
    overview, details = [], []
    for claim in claims.load_ledger().claims:
        mine = {finding.subclaim: finding for finding in findings if finding.claim == claim.id}
        if claim.kind is not kind or not mine:
            continue
        said = claims.headline(claim, list(mine.values()))
        title = f"Claim {claim.number}. {claim.title}" if kind is Kind.CLAIM else claim.title
        overview.append((f"{{doc}}`{title} </{claim.page}>`", badge(said.primary.verdict, kind), said.tally))
        rows = [
            (
                f"{{doc}}`{part.title} </{claim.page}>`{_figure_link(part, figures)}",
                mine[part.id].printed_as,
                mine[part.id].ours,
                _runs_link(mine[part.id]),
                profile.name,
                _verdict(claim, mine[part.id], studies),
            )
            for part in claim.subclaims
            if part.id in mine
        ]
        header = ("Claim" if kind is Kind.CLAIM else "Prediction", *RESULTS, "Profile", "Verdict")
        table = list_table(header, rows, "verdicts with-profile")
        details.append(f"::::{{dropdown}} {title}\n{table}\n{_notes(list(mine.values()))}::::\n")
    if not overview:
        return "This copy has none.\n"
    others = "Other sub-claims" if kind is Kind.CLAIM else "Other predictions"
    header = ("Claim" if kind is Kind.CLAIM else "Question", "Primary", others)
    return "\n".join([list_table(header, overview, "overview"), "Each in full:\n", *details])


def _notes(findings: Sequence[Finding]) -> str:
    """Why findings are underpowered, once each."""
    notes = dict.fromkeys(finding.note for finding in findings if finding.note)
    return f"Underpowered: {'; '.join(notes)}.\n" if notes else ""


def claim_summary(claim: Claim, findings: Sequence[Finding], figures: Collection[str], studies: Studies) -> str:
    """The claim in our words, its source, its headline and the table of its sub-claims."""
    parts = {part.id: part for part in claim.subclaims}
    rows = [
        (
            f"{one.title}{_figure_link(parts[one.subclaim], figures)}",
            one.printed_as,
            one.ours,
            _seeds(one),
            one.criterion,
            _verdict(claim, one, studies),
        )
        for one in findings
    ]
    source = f"Source: {claim.source} of {{cite:t}}`cui2025entropy`. Verdict:"
    header = ("Sub-claim", *RESULTS, "Reproduced if", "Verdict")
    css = "verdicts with-range"
    if claim.kind is Kind.QUESTION:
        source = f"In {{cite:t}}`cui2025entropy`: {claim.source}. Our predictions:"
        header = ("Prediction", *RESULTS, "Predicted", "Verdict")
        css = "verdicts with-prediction"
    verdict = "none in this copy"
    if findings:
        said = claims.headline(claim, findings)
        verdict = f"{badge(said.primary.verdict, claim.kind)} on the primary one, *{said.primary.title}*."
        verdict += f" The others that count: {said.tally}." if said.others else ""
    said = [f"> {claim.statement}\n", f"{source} {verdict}\n"]
    return "\n".join([*said, list_table(header, rows, css), _notes(findings)] if rows else said)


def criteria(claim: Claim) -> str:
    """Measures, criteria and reasons as the ledger has them."""
    lines = [
        f"Dated {claim.written.isoformat()}. At least {_count(claim.minimum_seeds, 'seed')}.",
        f"{claim.reasoning}\n",
        f"Primary: *{claim.part(claim.primary).title}*.\n",
    ]
    expected = "Reproduced if" if claim.kind is Kind.CLAIM else "Predicted:"
    for part in claim.subclaims:
        function = MEASURES[part.measure].function
        arguments = ", ".join(f"{name} {_spelled(name, value)}" for name, value in part.arguments.items())
        arms = ", ".join(f"`{arm}`" for arm in part.arms)
        lines += [
            f"{part.title}",
            f": {expected} {part.criterion.text(part.unit)}. Measured by `{function.__module__}.{part.measure}`"
            f"{f' with {arguments}' if arguments else ''}"
            f"{f', on {arms}' if arms else ', without runs'}. {part.reason}{_conditions(claim, part)}\n",
        ]
    return "\n".join(lines)


def _conditions(claim: Claim, part: SubClaim) -> str:
    """What else the ledger says of a sub-claim: what it needs, whether it counts, and what was changed when and why."""
    said = [f"Needs {_count(part.minimum_seeds, 'seed')}."] if part.minimum_seeds else []
    said += [f"Needs {part.minimum_bases} base policies an arm."] if part.minimum_bases else []
    if part.plotted is not None:
        said.append(f"The paper's own figure gives {claims.spell(part.plotted, part.unit)}.")
    said += [] if part.counts else [f"Not counted: {claims.left_out(claim, part)}."]
    said += [f"Changed on {change.date.isoformat()}: {change.reason}" for change in part.changed]
    return "".join(f" {one}" for one in said)


def _spelled(name: str, value: float | str) -> str:
    """An argument as the ledger writes it: parts of training as fractions, 1/24 rather than 0.041666."""
    if isinstance(value, str):
        return value
    return str(Fraction(value).limit_denominator(1000)) if name in ("fraction", "window") else f"{value:g}"


def status(profile: Profile, runs: Sequence[Run]) -> str:
    """Profile, what made the runs, and a row per arm."""
    made = [("Profile", f"`{profile.name}`: {profile.description}")]
    # The table below has the runs.
    made += [(what, value) for what, value in display.provenance(runs).itertuples(index=False) if what != "Runs"]
    total = sum(run.provenance["seconds"] for run in runs)
    started = min((run.provenance["started"] for run in runs), default="").partition("+")[0].replace("T", " ")
    return "\n".join(
        [
            list_table(("What", "Value"), made, "facts"),
            f"{_count(len(runs), 'run')}, {total / 60:.1f} minutes of training in all, the first started at {started} "
            "(UTC). What an arm changes is said against the settings of its group, and a group's against those of the "
            f"arm `{runs[0].config.arm}` in {{doc}}`/methods`.\n",
            list_table(("Arm", "Changes", "Seeds", "Seconds", "From"), _arm_rows(profile, runs), "arms"),
        ]
    )


def _arm_rows(profile: Profile, runs: Sequence[Run]) -> Iterator[tuple[str, ...]]:
    """A row per group with what its arms share, and one per arm with the rest, its seeds, seconds and origin."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.config.arm, []).append(run)
    groups: dict[str, list[str]] = {}
    for arm in arms:
        groups.setdefault(profile.arms[arm].group, []).append(arm)
    plain = flat(runs[0])
    for group, members in groups.items():
        values = {arm: flat(arms[arm][0]) for arm in members}
        shared = {
            name: value
            for name, value in values[members[0]].items()
            if all(one.get(name) == value for one in values.values())
        }
        yield f"*{group}*", changes(plain, shared), "", "", ""
        for arm in members:
            own = {name: value for name, value in values[arm].items() if name not in shared}
            seconds = sum(run.provenance["seconds"] for run in arms[arm])
            seeds = ", ".join(str(run.config.seed) for run in arms[arm])
            yield f"`{arm}`", changes(plain, own), seeds, f"{seconds:.0f}", _from(arms[arm])


def _from(runs: Sequence[Run]) -> str:
    """'recorded', 'made here', or which seeds are which."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault("recorded" if run.recorded else "made here", []).append(str(run.config.seed))
    return "; ".join(word if len(seeds) == 1 else f"{', '.join(members)} {word}" for word, members in seeds.items())


def machines(profile: Profile, findings: Sequence[Finding]) -> str:
    """This copy's numbers beside those of the other machines on record, and which differences chance does not give."""
    parts = []
    for machine, path in claims.recorded_studies(profile.name).items():
        found = claims.compare(findings, claims.judged_again(profile.name, path))
        moved = sum(one.first.verdict != one.second.verdict for one in found.rows)
        words = f"The words of {_count(moved, 'verdict')} differ, which is no test."
        table = found.table("This copy", machine)
        parts += [
            f"**{machine}.** {found.summary()} {_kin(found)}{words}\n",
            f"::::{{dropdown}} Number by number: this copy and {machine}",
            list_table(tuple(table.columns), table.itertuples(index=False), "verdicts"),
            "::::\n",
        ]
    for machine, path in claims.recorded_words(profile.name).items():
        written, _ = claims.read_words(profile.name, path)
        words = claims.other_studies(profile.name, findings)[machine]
        moved = [one for one in findings if words.get((one.claim, one.subclaim), one.word) != one.word]
        parts.append(
            f"**{machine}.** Of this study, of {written.isoformat()}, only the words are kept. "
            f"{len(moved)} of {len(words)} by the same criteria differ from this copy's.\n"
        )
        parts += [f"- {one.title}: {words[one.claim, one.subclaim]} there, {one.word} here" for one in moved]
        parts.append("")
    return "\n".join(parts) or f"No other machine's study of the profile `{profile.name}` is on record.\n"


def _kin(found: Comparisons) -> str:
    """What to think of a study that is mostly the same as this one to the last digit."""
    trained = [one for one in found.rows if one.first.n]
    if 2 * sum(one.note == "the same" for one in trained) <= len(trained):
        return ""
    return "Most of its runs gave the same bits, on a machine of the same kind, and repeat nothing. "


def changes(plain: Mapping[str, str], values: Mapping[str, str]) -> str:
    """Settings that differ from `plain`, as '`max_steps` 320, `epsilon` none'."""
    changed = (f"`{name}` {value}" for name, value in values.items() if plain.get(name) != value)
    return ", ".join(changed)


def flat(run: Run) -> dict[str, str]:
    """A run's settings as text, those of the trainer by their own names, without arm and seed."""
    values = run.config.to_dict()
    values |= values.pop("trainer")
    own = {name: value for name, value in values.items() if name not in OWN_TO_RUN}
    return {name: "none" if value in (None, {}) else str(value) for name, value in own.items()}


def settings(runs: Sequence[Run]) -> str:
    """Every setting of the first arm, which the others change."""
    plain = runs[0].config.arm
    seeds = ", ".join(str(run.config.seed) for run in runs if run.config.arm == plain)
    rows = [("`arm`", plain), ("`seed`", seeds), *((f"`{name}`", value) for name, value in flat(runs[0]).items())]
    others = len({run.config.arm for run in runs}) - 1
    tail = f"{{doc}}`/status` says what the other {_count(others, 'arm')} change of these.\n" if others else ""
    return "\n".join([list_table(("Setting", "Value"), rows), tail])


def timing(runs: Sequence[Run]) -> str:
    """Where the time of training went, a row per base policy, schedule and device: shares of the runs' seconds."""
    kinds: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        kind = (run.config.base, run.config.updates_per_rollout, run.provenance["device"])
        kinds.setdefault(kind, []).append(run)
    rows = []
    for (base, updates, device), members in sorted(kinds.items()):
        spent = Counter()
        for run in members:
            spent.update(run.provenance["timing"])
        tokens = spent.pop("generated_tokens")
        training = sum(spent.values()) - spent["evaluation"] - spent["probe"]
        shares = [f"{100 * spent[phase] / training:.0f} %" for phase in ("generation", "scoring", "update", "other")]
        speed = [f"{tokens / spent['generation']:,.0f}", f"{tokens / training:,.0f}"]
        rows.append((f"`{base}`", device, str(updates), str(len(members)), *speed, *shares))
    header = ("Base", "Device", "Updates per rollout", "Runs", "Tokens per second of generation")
    header += ("Tokens per second of training", "Generation", "Scoring", "Update", "Other")
    return list_table(header, rows, "timing")


def strategies() -> str:
    """The mixtures that base policies are trained on."""
    totals = {0: "only the answer", 1: "after each operation"}
    rows = [
        (
            f"`{name}`",
            f"`{one.mark}`",
            totals.get(one.stride, f"after every {one.stride} operations")
            + (f", of the first {one.limit}" if one.limit else ""),
            f"{100 * one.prior:.0f} %",
            f"{100 * one.slip:.0f} %",
        )
        for name, mixture in MIXTURES.items()
        for one in mixture.strategies
    ]
    header = ("Mixture", "First letter", "Totals written", "Share of the mixture", "Slips per total")
    return list_table(header, rows, "strategies")
