"""`charrnn inspect`: what a checkpoint is."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..config import complete
from ..errors import CharrnnError
from . import app, pipeable
from .opening import CellOption, opened


@app.command(rich_help_panel="Models")
@pipeable
def inspect(
    ckpt: Annotated[Path, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    cell: CellOption = None,
):
    """Show what a checkpoint is: settings, parameters by part, vocabulary, history, provenance."""
    from .. import checkpoint
    from ..cells.trace import formula
    from ..model import Model
    from ..vocab import Vocabulary

    path = checkpoint.find(ckpt)
    _, record = opened(path, cell)
    model, vocabulary = Model.from_record(record["model"]), Vocabulary(record["vocabulary"])
    counts, members = model.count(), complete(record["config"])["members"]
    layers = [
        {
            "layer": layer, "cell": model.cell, "input": f"(T, B, {m})", "output": f"(T, B, {model.hidden})",
            "state": dict.fromkeys(cell.states, f"(B, {model.hidden})"),
            "parameters": counts[f"layer {layer}"], "formula": formula(cell, m != model.hidden),
            "m": m, "n": model.hidden,
        }
        for layer, (cell, m) in enumerate(zip(model.stack, model.widths(), strict=True))
    ]  # fmt: skip
    hidden = ("vocabulary", "model", "config", "counters", "good", "logs", "paths")
    shown = {
        "file": str(path), "bytes": path.stat().st_size, "parameters": members * sum(counts.values()),
        "members": members, "parts": counts, "model": record["model"], "layers": layers,
        "symbols": vocabulary.symbols, "config": record["config"],
        "history": _history(path), **{k: v for k, v in record.items() if k not in hidden},
    }  # fmt: skip
    if as_json:
        return print(json.dumps(shown, ensure_ascii=False))
    _print_inspection(shown, vocabulary)


def _history(path):
    """The evaluations that the metrics beside a checkpoint tell of."""
    metrics = path.parent / "metrics.jsonl"
    if not metrics.exists():
        return []
    try:
        rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise CharrnnError(f"{metrics}: cannot be read ({error})") from None
    return [{"step": row["step"], "bits": row["bits"]} for row in rows if row["event"] == "eval"]


def _file(own):
    """A row on the file that a person's own cell came from."""
    return {"cell": f"{own['class']} of {own['file']}, sha256 {own['sha256'][:16]}"} if own else {}


def _print_inspection(shown, vocabulary):
    from rich.console import Console
    from rich.table import Table

    model, result, training = shown["model"], shown["result"], shown["training"]
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    printable = (s if s.isprintable() else ascii(s)[1:-1] for s in shown["symbols"])
    symbols = "bytes" if vocabulary.of_bytes else "".join(printable)
    rows = {
        "file": f"{shown['file']}, {shown['bytes']:,} bytes, {shown['kind']} of a run",
        "corpus": f"{', '.join(shown['corpus']['names'])}, sha256 {shown['corpus']['digest'][:16]}",
        "symbols": f"{model['symbols']}: {symbols}",
        "trained": f"{training['step']:,} steps, {training['epoch']:.2f} epochs, engine {shown['engine']}",
        "result": f"{result['nats']:.4f} nats = {result['bits']:.4f} bits per character, perplexity "
        f"{result['perplexity']:.3f} (validation)" if result else "not scored",
        "yardsticks": ", ".join(f"{name} {bits:.3f}" for name, bits in shown["yardsticks"].items()),
        "history": " ".join(f"{row['step']:,}:{row['bits']:.3f}" for row in shown["history"]) or "none beside it",
        **_file(shown.get("cell_file")),
        "settings": ", ".join(f"{k} {v}" for k, v in shown["config"].items() if v not in (None, [])),
        "versions": ", ".join(f"{name} {version}" for name, version in shown["versions"].items()),
        "created": shown["created"],
    }  # fmt: skip
    for name, value in rows.items():
        facts.add_row(name, value)
    table = Table("part", "in", "out", "state", "parameters", "formula", box=None, padding=(0, 2, 0, 0))
    table.add_row("embedding", "(T, B)", f"(T, B, {model['embed']})", "", f"{shown['parts']['embedding']:,}", "V D")
    for layer in shown["layers"]:
        state = " ".join(layer["state"])
        part = f"layer {layer['layer']}: {layer['cell'].rpartition(':')[2]}"
        table.add_row(part, layer["input"], layer["output"], state, f"{layer['parameters']:,}", layer["formula"])
    if "norms" in shown["parts"]:
        width = f"(T, B, {model['hidden']})"
        table.add_row("norms", width, width, "", f"{shown['parts']['norms']:,}", "2 L n")
    if "attention" in shown["parts"]:
        width = f"(T, B, {model['hidden']})"
        table.add_row("attention", width, width, "memory", f"{shown['parts']['attention']:,}", "n² + 3n")
    top = "L n V + V" if model["skips"] else "n V + V"
    width = model["hidden"] * (model["layers"] if model["skips"] else 1)
    table.add_row("head", f"(T, B, {width})", f"(T, B, {model['symbols']})", "", f"{shown['parts']['head']:,}", top)
    if shown["members"] > 1:
        each = f"{shown['parameters'] // shown['members']:,}"
        table.add_row("one member", "", "", "", each, f"of {shown['members']}, all alike")
    table.add_row("all", "", "", "", f"{shown['parameters']:,}", "")
    console = Console()
    console.print(facts)
    console.print()
    console.print(table)
