"""`charrnn compare`: a grid of training runs, made one after the other or side by side, and told in tables."""

import json
import os
import shlex
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..errors import Interrupted, UsageError
from . import WHOLE, app, at_once, cache, pipeable, processors
from .learn import options
from .planning import planned, told
from .results import has_statistics, number, print_table, write_csv


def _option(*names, **more):
    """An option of the comparison itself, beside those of train."""
    return typer.Option(*names, rich_help_panel="Comparison", **more)


SPEEDS = ("train", "evaluate", "generate")
TEXT = typer.Argument(help="The text, as for train. With --resume: the comparison's folder.", show_default=False)
MATCH = _option(help="Made equal: params (to 1 %), hidden (widths), or time (widths, and seconds).")
VARY = _option(help="Another axis, as dropout=0,.2,.4; may be repeated.")
ABLATE = _option(help="A setting changed alone, as ema=0, against all the others; may be repeated.")
PLAN = _option("--plan", help="What train would plan for the first cell, for all.")
JOBS = _option(help="Runs made at once, as a rule 1, the processors shared out; 0: one per processor.", **WHOLE)


@app.command(rich_help_panel="Experiments")
@options("cell", "cell_opt", "seed", "time", "sample_length")
@pipeable
def compare(
    corpus: Annotated[list[str] | None, TEXT] = None,
    *,
    cells: Annotated[str, _option(help="As a,b or a:setting=value; all for every other one.")] = "rnn,gru,lstm",
    match: Annotated[str, MATCH] = "params",
    params: Annotated[str | None, _option(help="Parameters to match, as 500k; else the first cell's.")] = None,
    seeds: Annotated[int, _option(help="Runs of each, with seeds 1, 2, ..", **WHOLE)] = 3,
    lrs: Annotated[str | None, _option(help="Rates to choose from, a,b,c, for each cell and size.")] = None,
    sizes: Annotated[str | None, _option(help="Train on the last 62k,1M,.. before validation.")] = None,
    time_each: Annotated[str | None, _option(help="Train each run for so long: 60s, 5m.")] = None,
    vary: Annotated[list[str] | None, VARY] = None,
    ablate: Annotated[list[str] | None, ABLATE] = None,
    plan: Annotated[bool, PLAN] = False,
    jobs: Annotated[int | None, JOBS] = None,
    out: Annotated[Path | None, _option(help="Its folder; checkpoints/compare-CORPUS-N as a rule.")] = None,
    resume: Annotated[bool, _option("--resume", help="Go on with the comparison named.")] = False,
    as_json: Annotated[bool, _option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Warnings and errors only on stderr.")] = False,
    typed: dict,
):
    """Train several cells, or any other grid, on one text and compare them.

    [bold]charrnn compare corpus.txt --cells lstm,gru,rnn --time-each 60s --seeds 3[/]

    Options of train hold for every run. Finished runs are never made again: Ctrl-C saves and says how to go on.
    """
    given = any((params, lrs, sizes, time_each, vary, ablate, plan, out, typed))
    if not resume:
        from ..compare.grid import axes  # by way of rich, which takes its time

        alone = axes(ablate or [], "--ablate")
        asked = _asked(
            cells, match, params, seeds, lrs, sizes, time_each, vary or [], {} if plan else alone, jobs, typed
        )
    elif given or not corpus or len(corpus) > 1:
        raise UsageError("--resume: goes on with a comparison as it is; name its folder and nothing else but --jobs")
    if not corpus:
        raise UsageError("CORPUS: name a text, for instance: charrnn compare pydocs --cells rnn,lstm --time-each 1m")
    has_statistics("compare")
    from ..progress import GridReporter

    report = GridReporter(quiet)
    choices = []
    if resume:
        folder, made = _resumed(Path(corpus[0]), jobs)
    else:
        texts, asked = _opened(asked, corpus)
        if plan:
            asked, choices = _chosen(asked, alone, texts)
        folder, made = _planned(asked, corpus, texts, out, report)
    report.table(_screen(folder, made) + told(choices))
    for note in dict.fromkeys(_misses(made)):
        report.note(note)
    _tell(folder, made, _run(folder, made, report), report, as_json)


def _tell(folder, plan, rows, report, as_json):
    """What came of it: table.csv (and data.csv), notes, and on stdout tables or one JSON object."""
    from ..compare.data import worth
    from ..compare.outcome import summary

    lines, data = summary(plan, rows), worth(plan, rows)
    _write_csv(folder / "table.csv", lines)
    if data:
        write_csv(folder / "data.csv", [_flat(line, "slope_interval") for line in data])
    for note in _remarks(plan, rows, lines):
        report.note(note)
    if as_json:
        return print(json.dumps(_answer(folder, plan, lines, data), ensure_ascii=False))
    _print_tables(plan, lines, data)


def _asked(cells, match, params, seeds, lrs, sizes, time_each, vary, ablate, jobs, typed):
    """What was typed, as far as it can be known to be right before anything heavy is imported."""
    from ..cells import listed
    from ..compare import grid
    from ..config import quantity

    settings = typed | {"sample_length": 0} | grid.each_time(time_each)
    grid.only_one_length(settings)
    jobs = 1 if jobs is None else at_once(jobs)
    if jobs > 1:
        settings.setdefault("threads", max(1, processors() // jobs))
    return grid.Asked(
        listed(cells), match, quantity(params, "--params") if params else None, seeds, grid.rates(lrs),
        grid.sizes(sizes), grid.axes(vary), ablate, settings, jobs,
    )  # fmt: skip


def _opened(asked, corpus):
    """The texts, and what was asked with the place of each."""
    from ..compare.plan import Texts
    from ..corpus import known

    data = Path("data")
    find = lambda given, name: [str(p.resolve()) for p in known.find(given, data, cache(), name=name)]  # noqa: E731
    if val := asked.settings.get("val"):
        asked = replace(asked, settings=asked.settings | {"val": find(val, "--val")})
    return Texts([Path(path) for path in find(corpus, "CORPUS")], cache()), asked


def _chosen(asked, ablate, texts):
    """What was asked with the settings that train would choose for the first cell, and these choices; what is an axis,
    or chosen by --lrs, is left to that."""
    first = asked.config(asked.points()[0])
    typed = asked.settings | {"cell": first.cell, "cell_opt": first.cell_opt}
    _, choices = planned(typed, texts.open(first.record()))
    left = {*asked.vary, *(["lr"] if asked.lrs else [])}
    choices = [choice for choice in choices if choice.name not in left]
    settings = asked.settings | {choice.name: choice.value for choice in choices}
    return replace(asked, settings=settings, ablate=ablate), choices


def _planned(asked, corpus, texts, out, report):
    """The folder of a new comparison and its plan; those of one that was asked for in the same words before."""
    from .. import run
    from ..compare import plan as planning
    from ..yardstick import kept

    title = "stdin" if corpus[0] == "-" else Path(corpus[0]).resolve().stem
    plan = planning.make(asked, title, texts, lambda whole: kept(whole, cache()))
    for note in texts.notes:
        report.note(note)
    if out and (out / "plan.json").exists():
        return out, _same(planning.Plan.load(out), plan, out)
    run.refuse(out, False)
    if out:
        with run.written(out):
            out.mkdir(parents=True, exist_ok=True)
    folder = out or run.free(Path("checkpoints"), f"compare-{title[:40]}")
    plan = planning.cut(plan, texts, folder)
    plan.save(folder)
    return folder, plan


def _same(there, plan, out):
    """The plan that is there, if it is what is asked for now."""
    was, now = (each.asked | {"text": each.corpus} for each in (there, plan))
    for name in was:
        if was[name] != now[name]:
            raise UsageError(
                f"--out {out}: holds another comparison ({name}: {was[name]}, not {now[name]}); "
                f"go on with that one (--resume {out}), or take another name"
            )
    return there


def _resumed(folder, jobs):
    """A comparison that is there, and its plan, with another number of runs at once where one is typed."""
    from ..compare.plan import Plan, unchanged

    plan = Plan.load(folder)
    if jobs is not None:
        plan = _side_by_side(plan, at_once(jobs))
    unchanged(plan, folder, cache())
    return folder, plan


def _side_by_side(plan, jobs):
    """The plan with so many runs at once from now on: its runs keep their threads, on which their numbers depend."""
    threads = max(entry.config["threads"] or processors() for entry in plan.entries)
    if jobs != plan.asked["jobs"] and any(entry.config["time"] for entry in plan.entries):
        raise UsageError(f"--jobs {jobs}: what is trained by time gets more of it alone; go on without")
    most = max(plan.asked["jobs"], processors() // threads)
    if jobs > most:
        there = _many(processors(), "processor")
        raise UsageError(f"--jobs {jobs}: these runs have {_many(threads, 'thread')} each, on {there}; at most {most}")
    return replace(plan, asked=plan.asked | {"jobs": jobs})


def _run(folder, plan, report):
    """Makes the runs; an interruption says how to go on."""
    from ..compare.work import Work
    from .session import Stop

    stop = Stop()
    with closing(Work(folder, plan, report.say, stop.signal, _gpus(plan))) as work, stop, report.live():
        try:
            return work.run()
        except Interrupted as error:
            again = shlex.join(["charrnn", "compare", "--resume", str(folder)])
            raise Interrupted(f"{error}; go on with: {again}", error.signal) from None


def _gpus(plan):
    """The GPUs that runs made at once are dealt out to, where no other device was typed."""
    if plan.asked["jobs"] == 1 or not {entry.config["device"] for entry in plan.entries} <= {"auto", "cuda"}:
        return []
    import torch

    from ..compare.work import gpus

    return gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())


def _screen(folder, plan):
    """The screen before the runs."""
    from ..compare.work import read_rows, total
    from ..config import seconds
    from ..progress import duration, in_bits

    asked, runs, there = plan.asked, total(plan), len(read_rows(folder))
    parts = ", ".join(f"{name} {length:,}" for name, length in plan.characters.items())
    length, left = asked["settings"].get("time"), runs - there
    rows = [
        ("comparison", f"{folder}" + f", {there} of its runs are there" * bool(there)),
        ("corpus", f"{plan.title}; {parts}"),
        ("runs", f"{runs}: {_many(len(plan.entries), 'line')} of the table, each with {_many(asked['seeds'], 'seed')}"
                 + f" and {_many(len(asked['lrs']), 'rate')} on a seed of their own" * bool(asked["lrs"])),
        ("equal", _equal(plan)),
    ]  # fmt: skip
    if asked["jobs"] > 1:
        threads = _many(max(entry.config["threads"] for entry in plan.entries), "thread")
        dealt = len(_gpus(plan))
        rows.append(("at once", f"{asked['jobs']} runs, {threads} each" + f", on {dealt} GPUs" * (dealt > 1)))
    if length:
        whole = -(-left // asked["jobs"]) * seconds(length)
        rows.append(("expected", f"over {duration(whole)}, {duration(seconds(length))} for each run"))
    return [*rows, ("yardsticks", in_bits(plan.yardsticks))]


def _many(number, thing):
    return f"{number} {thing}{'s' * (number > 1)}"


def _equal(plan):
    """What is made equal, in words."""
    if plan.asked["match"] != "params":
        time = f", and {plan.asked['settings']['time']} each" if plan.asked["match"] == "time" else ""
        return f"widths{time}; parameters are not"
    target = " or ".join(f"{each:,}" for each in dict.fromkeys(plan.target.values()))
    return f"parameters, {target} within 1 %"


def _misses(plan):
    """What is to be said of those that cannot be matched."""
    from ..progress import short

    for entry in plan.entries:
        if entry.missed():
            yield (
                f"{entry.cell}: {entry.parameters:,} parameters at {entry.config['hidden']} units are "
                f"{abs(entry.off):.1%} {'more' if entry.off > 0 else 'fewer'} than were to be matched; "
                f"no width that it can have comes nearer to {short(plan.target[str(entry.size)])}"
            )


def _remarks(plan, rows, lines):
    """What a reader of the tables must know."""
    asked = plan.asked
    if not asked["lrs"] and "lr" not in asked["vary"] | asked["ablate"]:
        rate = f"rate {plan.entries[0].config['lr']:g}" + ", the default," * ("lr" not in asked["settings"])
        yield f"{rate} was used for all; --lrs a,b,c chooses one for each"
    if asked["seeds"] == 1:
        yield "one seed gives no interval over seeds, and no spread"
    if any(pair["pairs"] and not pair["over_text"] for pair in (line["against"] for line in lines) if pair):
        yield "the validation part has too few blocks of 1,000 characters, or is not one text: no interval over text"
    if (most := max((row.get("at_once") or asked["jobs"] for row in rows.values()), default=1)) > 1:
        yield f"{most} runs were made at once: their speeds are those of runs side by side"
    if len({line["engine"] for line in lines if line["engine"]}) > 1:
        yield "not all ran on the same engine: speed and memory compare engines as much as cells"
    for line in lines:
        if bad := [f"{line[status]} {status}" for status in ("diverged", "failed") if line[status]]:
            yield f"{line['label']}: {' and '.join(bad)} of {asked['seeds']} runs, not in its numbers"
    for row in rows.values():
        if row["message"]:
            yield f"{row['run']}: {row['message']}"
    yield from dict.fromkeys(note for row in rows.values() for note in row["notes"] or ())


def _answer(folder, plan, lines, data):
    """What --json prints."""
    return {
        "folder": str(folder), "rows": str(folder / "rows.jsonl"), "corpus": plan.title, "characters": plan.characters,
        "asked": plan.asked, "target": plan.target, "yardsticks": plan.yardsticks, "table": lines, "data": data,
    }  # fmt: skip


def _write_csv(path, lines):
    """The table as CSV, a line for each entry; what is a list there stands in columns of its own here."""
    flat = []
    for line in lines:
        pair = dict(line["against"] or {})
        varied = ", ".join(f"{k}={v}" for k, v in line["varied"].items())
        own = {k: v for k, v in line.items() if k != "against"} | {"varied": varied}
        flat.append(own | _flat(pair, "over_seeds", "over_text"))
    write_csv(path, flat)


def _flat(line, *intervals):
    """A line in which intervals have two columns, and lists are words."""
    flat = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in line.items() if k not in intervals}
    for name in intervals:
        flat[f"{name}_low"], flat[f"{name}_high"] = line.get(name) or (None, None)
    return flat


def _print_tables(plan, lines, data):
    """What came of it, how it compares with the first, what it cost and what more text is worth, in tables of 80
    columns."""
    from ..progress import in_bits

    print(f"{plan.title}, validation part; equal: {_equal(plan)}")
    for title, names, cells in (_results(plan, lines), _differences(lines), _costs(lines), _worth(data)):
        if cells:
            print()
            print_table(title, names, cells)
    print(f"\nyardsticks {in_bits(plan.yardsticks)}")


def _results(plan, lines):
    cells = []
    for line in lines:
        runs = f"{line['done']}" + f" of {plan.asked['seeds']}" * (line["done"] < plan.asked["seeds"])
        sizes = [line["label"], f"{line['hidden']:,}", f"{line['parameters']:,}", number(line["off"], "+.1%")]
        forms = {"lr": "g", "nats": ".4f", "bits": ".4f", "spread": ".4f", "perplexity": ".3f"}
        cells.append([*sizes, *(number(line[name], form) for name, form in forms.items()), runs])
    return "", ["hidden", "parameters", "off", "rate", "nats", "bits", "spread", "perplexity", "runs"], cells


def _differences(lines):
    cells = []
    for line in lines:
        pair = line["against"]
        if pair and pair["pairs"]:
            seeds, text = (_interval(pair[name]) for name in ("over_seeds", "over_text"))
            cells.append([line["label"], number(pair["difference"], "+.4f"), seeds, text, pair["verdict"] or "-"])
    first = next((line["against"]["reference"] for line in lines if line["against"]), "")
    return f"bits more than {first}", ["", "95 % over seeds", "95 % over text", "verdict"], cells


def _costs(lines):
    from ..progress import duration, short

    cells = [
        [
            line["label"], line["engine"] or "-", f"{short(line['memory'])}B" if line["memory"] is not None else "-",
            *(short(line[f"{name}_per_second"]) if line[f"{name}_per_second"] else "-" for name in SPEEDS),
            *(duration(line[name]) if line[name] is not None else "-" for name in ("elapsed", "seconds")),
        ]
        for line in lines
    ]  # fmt: skip
    return "", ["engine", "memory", "training/s", "scoring/s", "drawing/s", "trained", "in all"], cells


def _worth(data):
    """What more text is worth, where there are several sizes."""
    cells = [
        [line["label"], *(number(line[name], ".4g") for name in ("floor", "scale", "exponent", "residual")),
         number(line["slope"], "+.4f"), _interval(line["slope_interval"])]
        for line in data
    ]  # fmt: skip
    first = data[0]["label"] if data else ""
    gap = f"gap to {first}, a doubling"
    return "bits = E + A size^-a", ["E", "A", "a", "misses", gap, "95 % over seeds"], cells


def _interval(ends):
    return "-" if ends is None else f"{ends[0]:+.4f} to {ends[1]:+.4f}"
