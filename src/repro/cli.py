"""The command line: ``python -m repro COMMAND`` or ``repro COMMAND``.

An error meant for the user is one line that starts with ``error:``, and the exit status is 2; ``REPRO_DEBUG=1`` shows
where it came from. Modules are imported by the command that needs them, because torch alone takes seconds.
"""

import argparse
import errno
import itertools
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from repro.errors import ConfigError, ReproError
from repro.paths import build_dir, root
from repro.runs.config import RunConfig
from repro.runs.profiles import load_profile, profile_names

FULL_OR_FORBIDDEN = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class Parser(argparse.ArgumentParser):
    """Like argparse's, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def reproduce(arguments: argparse.Namespace) -> None:
    """Train what this machine has no record of, build the book, and compare with the repository's records."""
    from repro.claims import answered, compare, measure_profile, read_verdicts
    from repro.runs.record import find

    if arguments.dry_run:
        _print_plan(arguments)
        return
    _make("reproduce", arguments)
    profile = load_profile(arguments.profile)
    recorded = [find(config, made=False).status for config in profile.own.all_configs()]
    if set(recorded) == {"current"}:
        # The others have only runs that the profile shows, which were not made here.
        own = {claim.id for claim in answered(profile) if profile.own.arms.keys() & set(claim.arms)}
        made = [one for one in read_verdicts(profile.name) if one.claim in own]
        found = compare(measure_profile(profile.name, made=False), made)
        _print_comparison(found, "made here", found.apart)
        print(f"`python -m repro compare --profile {profile.name}` lists them all")
    elif set(recorded) != {"missing"}:
        count = f"{recorded.count('current')} of {len(recorded)}"
        print(f"results/ has current records of {count} runs, too few to compare with")


def _print_plan(arguments: argparse.Namespace) -> None:
    from repro.runs.plan import plan

    rows, below = plan(load_profile(arguments.profile), executor=arguments.executor, gpus=_gpus(arguments))
    _print_table(rows)
    print("", *below, sep="\n")


def book(arguments: argparse.Namespace) -> None:
    """Execute the notebooks on the recorded runs and build the book; train nothing."""
    _make("book", arguments)


def _make(target: Any, arguments: argparse.Namespace) -> None:
    from repro.claims import answers, read_verdicts
    from repro.runs import workflow

    profile = load_profile(arguments.profile)
    said = answers(profile)
    where = {} if target == "book" else {"executor": arguments.executor, "gpus": _gpus(arguments)}
    workflow.make(target, profile, cores=_cores(arguments.cores), **where)
    _print_verdicts(profile.name, read_verdicts(profile.name))
    print(said)
    print(f"the book is {build_dir() / profile.name / 'site' / 'index.html'}")


def train(arguments: argparse.Namespace) -> None:
    """Train what this machine has no record of, several runs side by side, for a limited time if asked."""
    from repro.claims import answered
    from repro.runs import workflow
    from repro.runs.record import find

    minutes = arguments.minutes
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"--minutes={minutes:g} is not allowed; give a number above 0")
    profile = load_profile(arguments.profile).own
    answered(profile)
    seconds = None if minutes is None else 60 * minutes
    where = {"executor": arguments.executor, "gpus": _gpus(arguments)}
    workflow.make("train", profile, cores=_cores(arguments.cores), seconds=seconds, **where)
    statuses = [find(config, recorded=False).status for config in profile.all_configs()]
    recorded, total = statuses.count("current"), len(statuses)
    print(f"{recorded} of {total} runs are recorded" + ("" if recorded == total else "; call again to go on"))


def keep(arguments: argparse.Namespace) -> None:
    """Copy a profile's records from the build folder into results/, thinned, to be committed."""
    from repro.runs.keep import keep as keep_records

    kept = keep_records(load_profile(arguments.profile))
    print(f"copied {len(kept)} record{'s' * (len(kept) != 1)}")


def attest(arguments: argparse.Namespace) -> int:
    """Replay the first steps of stale records; those whose numbers today's code repeats are current again."""
    from repro.runs.attest import attest as replay

    if arguments.steps < 1:
        raise ConfigError(f"--steps={arguments.steps} is not allowed; give a number of at least 1")
    if arguments.against and not (arguments.against / "src" / "repro").is_dir():
        raise ConfigError(f"--against={arguments.against} is no checkout: it has no src/repro; try git worktree add")
    cores = _cores(arguments.cores)
    count = os.cpu_count() if cores == "all" else int(cores)
    counts = Counter()
    for one in replay(load_profile(arguments.profile), arguments.steps, cores=count, against=arguments.against):
        counts[not one.difference] += 1
        print(f"{one.arm}: {one.difference or f'{len(one.columns)} columns agree'}", flush=True)
    print(f"{counts[True]} arms agree, {counts[False]} differ")
    return int(counts[False] > 0)


def _cores(text: str) -> str:
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise ConfigError(f"--cores={text} is not allowed; give a number of at least 1, or all")
    return text


def _gpus(arguments: argparse.Namespace) -> int:
    if arguments.gpus < 0:
        raise ConfigError(f"--gpus={arguments.gpus} is not allowed; give 0 or more")
    return arguments.gpus


def run(arguments: argparse.Namespace) -> None:
    """Train and record the runs of some arms and seeds, where this machine has no record of them."""
    from dataclasses import replace

    from repro.runs import memory, ranks, saving
    from repro.runs.options import Options
    from repro.runs.record import Run, find, load_or_train
    from repro.runs.workflow import write_receipt

    profile = load_profile(arguments.profile)
    runs = itertools.product(arguments.arm, arguments.seed)
    options = Options.from_environment()
    if arguments.report_to:
        options = replace(options, report_to=tuple(arguments.report_to))
    if arguments.save_policy:
        options = replace(options, save_policy=arguments.save_policy.resolve())
    for config in [_with_overrides(profile, arm, seed, arguments.set) for arm, seed in runs]:
        before = find(config, recorded=False)
        made = Run(config, before.path).provenance["checksum"] if before.status == "current" else None
        if made is None:
            memory.settle()
        run = load_or_train(config, recorded=False, options=options)
        if not ranks.first():
            continue
        trained = run.provenance["checksum"] != made
        print(f"{run.name}: {'trained' if trained else 'recorded already'} ({run.path})", flush=True)
        if options.save_policy is not None:
            _write_card(saving.folder_of(options.save_policy, config), run)
        if arguments.receipt:
            write_receipt(config, find(config, recorded=False))


def _write_card(folder: Path, run: Any) -> None:
    """The card of a saved policy, with the claims whose arm the run is of."""
    from repro.claims import load_ledger
    from repro.runs.saving import write_card

    titles = [f"{claim.number}. {claim.title}" for claim in load_ledger().claims if run.config.arm in claim.arms]
    write_card(folder, run, titles)
    print(f"{run.name}: the policy is in {folder}")


def bases(arguments: argparse.Namespace) -> None:
    """Train base policies from scratch, into bases/."""
    from repro.policies.base import make_bases

    for path in make_bases(arguments.names or None):
        print(path)


def pin(arguments: argparse.Namespace) -> None:
    """Pin models and data sets, from the Hub or a folder: write down what exactly a run uses. Without names, list."""
    from repro import pins

    for name in arguments.names:
        kind, pinned, made, lock = pins.pin(name, kind=arguments.kind, revision=arguments.revision)
        print(f"pinned {kind} {pinned}{f' at {made.revision}' if made.revision else ''} ({lock})", flush=True)
        if arguments.download:
            print(pins.resolve(kind, pinned))
    if not arguments.names:
        rows = [("pin", "kind", "architecture", "dtype", "revision or folder")]
        for kind in ("model", "dataset"):
            for name, one in pins.read(kind).items():
                rows.append((name, kind, one.architecture or "", one.dtype or "", one.revision or one.folder))
        _print_table(rows)


def overlap(arguments: argparse.Namespace) -> None:
    """Count the problems of a task's evaluation sets that stand in its training set too."""
    from repro.tasks import PublishedTask, get_task
    from repro.tasks.overlap import overlap as measure

    task = get_task(arguments.task)
    if not isinstance(task, PublishedTask):
        raise ConfigError(f"task {arguments.task!r} makes its problems, none of which is in two splits; name another")
    if arguments.words < 1:
        raise ConfigError(f"--words={arguments.words} is not allowed; give a number of at least 1")
    train = task.questions("train")
    rows = [("split", "problems", "same question", f"{arguments.words} words in common", "first places")]
    for split in ("validation", *task.held_out):
        found = measure(train, task.questions(split), words=arguments.words)
        places = ", ".join(map(str, found.similar[:5]))
        rows.append((split, str(found.problems), str(len(found.same)), str(len(found.similar)), places))
    _print_table(rows)


def notebooks(arguments: argparse.Namespace) -> None:
    """Make .ipynb files, for Jupyter and Colab, from the scripts in notebooks/."""
    from repro.book import links
    from repro.book.notebook import make_ipynb

    sources = sorted((root() / "notebooks").glob("*.py"))
    if not sources:
        raise ConfigError(
            f"there are no scripts in {root() / 'notebooks'}: `repro notebooks` needs a checkout of the repository, "
            "the notebooks are not in the installed package"
        )
    for source in sources:
        output = build_dir() / "ipynb" / f"{source.stem}.ipynb"
        print(make_ipynb(source, output, links.requirement(links.remote())))


def execute(arguments: argparse.Namespace) -> None:
    """Execute a notebook script for a profile, into build/<profile>/notebooks/."""
    from repro.book.notebook import execute as execute_notebook

    profile = load_profile(arguments.profile)
    output = build_dir() / profile.name / "notebooks" / f"{arguments.source.stem}.ipynb"
    print(execute_notebook(arguments.source, output, {"profile": profile.name}))


def verdicts(arguments: argparse.Namespace) -> int:
    """Compute the verdicts of a profile from its recorded runs, store and print them."""
    from repro.claims import ClaimError, check_verdicts, measure_profile, write_verdicts

    profile = load_profile(arguments.profile).name
    findings = measure_profile(profile, made=not arguments.check)
    _print_verdicts(profile, findings)
    if not arguments.check:
        write_verdicts(profile, findings)
        return 0
    try:
        check_verdicts(profile, findings)
    except ClaimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Hold a study against the repository's records: is every sub-claim's difference one that chance gives?"""
    from repro.claims import compare as compare_studies
    from repro.claims import compare_with_records, measure_profile, read_verdicts

    profile = load_profile(arguments.profile).name
    if arguments.other is None:
        found, name = compare_with_records(profile), "made here"
    else:
        there = read_verdicts(profile, arguments.other)
        found, name = compare_studies(measure_profile(profile, made=False), there), str(arguments.other)
    _print_comparison(found, name, found.rows)
    return int(bool(found.clear))


def _print_comparison(found: Any, name: str, rows: Sequence[Any]) -> None:
    """Some of the rows of a comparison, and its summary."""
    if rows:
        table = found.table("recorded", name, rows)
        _print_table([tuple(table.columns), *table.itertuples(index=False)])
    print(found.summary())


def render(arguments: argparse.Namespace) -> None:
    """Build a profile's site from its executed notebooks and stored verdicts: the last step of `book`."""
    from repro.book.build import build

    print(build(load_profile(arguments.profile).name))


def pdf(arguments: argparse.Namespace) -> None:
    """Print a profile's built book to one PDF, by a headless Chromium."""
    from repro.book.pdf import pdf as print_book

    print(print_book(load_profile(arguments.profile).name))


def audit(arguments: argparse.Namespace) -> int:
    """Audit training logs: does the law hold, where is its ceiling, does the entropy collapse."""
    from repro.audit import audits, report
    from repro.audit.page import as_html

    found, refused = [], 0
    named = {name: getattr(arguments, name) for name in ("step", "entropy", "score", "until", "bits")}
    for log in arguments.logs:
        try:
            found += audits(log, **named)
        except ReproError as error:
            refused = _report(error, str(error))
    if found and arguments.html:
        _write(arguments.html, as_html(found))
    if found:
        print(report.as_json(found) if arguments.json else report.as_text(found))
    return refused or int(report.fails(found, arguments.fail_on))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; name another file") from error


def status(arguments: argparse.Namespace) -> None:
    """Show which runs of a profile are recorded."""
    from repro.runs.provenance import warn_of_versions
    from repro.runs.record import Run, find

    made = []
    rows = [("run", "status", "minutes", "entropy", "accuracy")]
    for config in load_profile(arguments.profile).all_configs():
        found = find(config)
        measured = ("", "", "")
        if found.status == "current":
            one = Run(config, found.path)
            made.append(one.provenance["versions"])
            measured = (
                f"{one.provenance['seconds'] / 60:.1f}",
                f"{one.metrics['entropy/response_mean'].iloc[-1]:.3f}",
                f"{one.evaluations['accuracy/mean'].iloc[-1]:.3f}",
            )
        rows.append((config.name, found.status, *measured))
    _print_table(rows)
    warn_of_versions(made)


def profiles(arguments: argparse.Namespace) -> None:
    """List the profiles."""
    rows = [("profile", "base", "runs", "description")]
    for name in profile_names():
        profile = load_profile(name)
        rows.append((name, ", ".join(profile.bases), str(len(profile.own.all_configs())), profile.description))
    _print_table(rows)


def estimate(arguments: argparse.Namespace) -> None:
    """Say what memory and time the runs of a profile need, from their configs alone; nothing is loaded."""
    from repro.policies.shapes import shape_of
    from repro.runs.estimate import DEVICES, gpu_seconds, memory, work

    profile = load_profile(arguments.profile)
    wanted = arguments.arm or [arm for arm, one in profile.own.arms.items() if one.seeds]
    rows = [("arm", "runs", "GiB", "sampling", "backward", "update", *(f"min {name}" for name in DEVICES))]
    totals, fits = dict.fromkeys(DEVICES, 0.0), set(DEVICES)
    for arm in wanted:
        configs = profile.configs(arm)
        shape = shape_of(configs[0].base)
        needed = memory(configs[0], shape)
        for name, device in DEVICES.items():
            totals[name] += sum(
                gpu_seconds(work(one, shape_of(one.base)), shape_of(one.base), device) for one in configs
            )
            if needed.peak > device.gib * 2**30:
                fits.discard(name)
        each = [f"{gpu_seconds(work(configs[0], shape), shape, device) / 60:.0f}" for device in DEVICES.values()]
        moments = [f"{one / 2**30:.1f}" for one in needed.moments.values()]
        rows.append((arm, str(len(configs)), f"{needed.peak / 2**30:.1f}", *moments, *each))
    _print_table(rows)
    one = " or ".join(name for name in DEVICES if name in fits)
    print(f"fits in one {one}" if one else "fits in none of these GPUs; several have to share it")
    print("hours in all: " + ", ".join(f"{name} {seconds / 3600:.1f}" for name, seconds in totals.items()))
    print("with completions at their longest; times are assumed from data sheets, no GPU has been timed")


def _with_overrides(profile: Any, arm: str, seed: int, settings: Sequence[str]) -> RunConfig:
    """The config of one run of a profile with ``FIELD=VALUE`` settings, whose values are YAML."""
    (config,) = profile.configs(arm, [seed])
    values = config.to_dict()
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting} is not allowed; write --set FIELD=VALUE")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {setting}: {text!r} is not a YAML value") from None
    return RunConfig.from_dict(values, source="--set" if settings else "")


def results(arguments: argparse.Namespace) -> int:
    """Print the README's section on results, from the repository's records."""
    from repro.claims import measure_profile
    from repro.claims.results import section, with_section

    profile, readme = load_profile(arguments.profile).name, root() / "README.md"
    text = section(profile, measure_profile(profile, made=False))
    print(text)
    old = readme.read_text(encoding="utf-8")
    new = with_section(old, text)
    if arguments.write:
        readme.write_text(new, encoding="utf-8")
    elif arguments.check and new != old:
        print("error: README.md says something else; `python -m repro results --write` corrects it", file=sys.stderr)
        return 1
    return 0


def _print_verdicts(profile: str, findings: Sequence[Any]) -> None:
    from repro.claims import headline, load_ledger, other_studies, table

    studies = other_studies(profile, findings)
    rows, headlines = [("claim", "paper", "ours", "n", "verdict")], [("claim", "headline")]
    for claim in load_ledger().claims:
        if mine := [finding for finding in findings if finding.claim == claim.id]:
            shown = table(claim, mine, studies)
            columns = [shown.columns[place] for place in (0, 1, 2, 3, 5)]
            rows += [(f"{claim.number}. {first}", *map(str, rest)) for first, *rest in shown[columns].to_numpy()]
            headlines.append((f"{claim.number}. {claim.title}", str(headline(claim, mine))))
    _print_table(rows)
    print()
    _print_table(headlines)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each command's function is in ``function``."""
    top = Parser(prog="repro", description="The reproduction study, step by step.", allow_abbrev=False)
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def command(function: Any, *, profile: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(
            function.__name__, help=function.__doc__.rstrip("."), description=function.__doc__, allow_abbrev=False
        )
        added.set_defaults(function=function)
        if profile:
            added.add_argument("--profile", default="cpu", metavar="NAME", help="see `repro profiles` (default: cpu)")
        return added

    def placed(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument(
            "--executor",
            default="local",
            metavar="NAME",
            help="where the jobs run: local, a folder in workflow/profiles, or another folder (default: local)",
        )
        added.add_argument("--gpus", type=int, default=0, metavar="N", help="that a training job asks for (default: 0)")
        return added

    whole = placed(command(reproduce))
    whole.add_argument("--dry-run", action="store_true", help="say what would be trained, where, for how long")
    for made in (whole, command(book)):
        made.add_argument("--cores", default="all", metavar="N", help="processor cores (default: all)")
    several = placed(command(train))
    several.add_argument("--cores", default="all", metavar="N", help="runs side by side (default: all cores)")
    several.add_argument("--minutes", type=float, metavar="M", help="stop then; the next call goes on")
    command(keep)
    checked = command(attest)
    checked.add_argument("--steps", type=int, default=24, metavar="N", help="optimizer steps to replay (default: 24)")
    checked.add_argument("--cores", default="all", metavar="N", help="processor cores (default: all)")
    checked.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="a checkout of the records' code; what it computes here stands for records of another machine",
    )
    one = command(run)
    one.add_argument(
        "--arm", nargs="+", default=["grpo"], help="one or more names in configs/arms.yaml (default: grpo)"
    )
    one.add_argument("--seed", type=int, nargs="+", default=[0], metavar="N", help="one or more (default: 0)")
    one.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the run")
    one.add_argument(
        "--report-to", nargs="+", metavar="TOOL", help="show the log in tensorboard, trackio or wandb as it grows"
    )
    one.add_argument("--save-policy", type=Path, metavar="FOLDER", help="save the trained policy there, with a card")
    one.add_argument("--receipt", action="store_true", help="tell the workflow, in build/receipts, that it is recorded")
    command(bases, profile=False).add_argument("names", nargs="*", metavar="NAME", help="(default: all that ship)")
    pinned = command(pin, profile=False)
    pinned.add_argument("names", nargs="*", metavar="NAME", help="such as Qwen/Qwen2.5-0.5B, or a folder or file")
    pinned.add_argument("--kind", choices=["model", "dataset"], help="(default: found out)")
    pinned.add_argument("--revision", metavar="REV", help="branch, tag or commit on the Hub (default: the newest)")
    pinned.add_argument("--download", action="store_true", help="get the files too, for a machine without a network")
    common = command(overlap, profile=False)
    common.add_argument("task", metavar="TASK", help="such as dapo_math, or local:NAME")
    common.add_argument("--words", type=int, default=13, metavar="N", help="in a row that count (default: 13)")
    command(notebooks, profile=False)
    command(execute).add_argument("source", type=Path, metavar="FILE", help="a script in notebooks/")
    command(verdicts).add_argument(
        "--check",
        action="store_true",
        help="judge the repository's records, and end with status 1 where a verdict differs from the ledger's",
    )
    command(compare).add_argument(
        "other",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="another study's verdicts (default: the runs made here)",
    )
    said = command(results).add_mutually_exclusive_group()
    said.add_argument("--write", action="store_true", help="put it into README.md")
    said.add_argument("--check", action="store_true", help="end with status 1 where README.md differs")
    command(render)
    command(pdf)
    audited = command(audit, profile=False)
    audited.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="a file or folder; several are compared")
    for name in ("step", "entropy", "score"):
        audited.add_argument(f"--{name}", metavar="COLUMN", help=f"the column of the {name} (default: recognised)")
    audited.add_argument("--until", type=float, metavar="STEP", help="last step of training, for the forecast")
    audited.add_argument("--bits", action="store_true", help="the entropy was logged in bits")
    audited.add_argument("--json", action="store_true", help="print JSON instead of text")
    audited.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots, one file")
    audited.add_argument(
        "--fail-on", nargs="+", default=[], choices=["collapse", "explosion"], help="end with status 1"
    )
    command(status)
    estimated = command(estimate)
    estimated.add_argument("--arm", nargs="+", metavar="ARM", help="(default: all of the profile)")
    command(profiles, profile=False)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0, 1 where a check fails, 2 after an error, 130 when interrupted.

    141 where the reader of what is printed went away, as `head` does.
    """
    try:
        arguments = parser().parse_args(argv)
        status = arguments.function(arguments) or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, call again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes once more when it ends, and must find something to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ReproError as error:
        return _report(error, str(error))
    except OSError as error:
        if error.errno not in FULL_OR_FORBIDDEN:
            raise
        return _report(
            error,
            f"cannot write {error.filename or build_dir()}: {error.strerror}; free some space, make it writable, or "
            "set REPRO_BUILD to another folder",
        )


def _report(error: Exception, message: str) -> int:
    if os.environ.get("REPRO_DEBUG") == "1":
        raise error
    print("error:", " ".join(message.split()), file=sys.stderr)
    return 2
