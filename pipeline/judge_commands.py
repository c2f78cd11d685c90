"""The commands that ask a trained model: what it writes, what it knows, what it has learned by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.app import AsJson, command, console, needs_torch, write_out
from pipeline.errors import RecipeError

BY_CHOICE = ("acc", "pct_stereotype")
"""Metrics that random choice gives something for."""
Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A checkpoint, the folder of a run's checkpoints, or a GPT-2 or Llama of transformers.",
    ),
]
TokenizerFile = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", metavar="FILE|DIR", help="Where the corpus of the checkpoint is not here: its tokenizer."
    ),
]
Average = Annotated[
    bool, typer.Option("--average", help="The running mean of the weights, where the run kept one (`average`).")
]
Device = Annotated[str, typer.Option("--device", help="cpu, or a kind of accelerator; auto: the one that is there.")]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Texts that are read at once.")]


def _say(line: str) -> None:
    console(stderr=True).print(line, highlight=False, soft_wrap=True)


@command("generate")
def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", metavar="TEXT", help="What the text begins with (repeatable).")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", metavar="FILE", help='One prompt a line; of a .jsonl, the key "prompt" of each line.'
        ),
    ] = None,
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Texts for each prompt.")] = 1,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="Most tokens that are written.")] = 64,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="What logits are divided by; 0: the likeliest token always.")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option("--top-k", metavar="K", min=1, help="Draw from the K likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p", metavar="P", min=0, max=1, help="Draw from the fewest that have a share of P together."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other draws for another seed.")] = 0,
    tokenizer: TokenizerFile = None,
    average: Average = False,
    device: Device = "auto",
    batch: Batch = 16,
    as_json: AsJson = False,
) -> None:
    """Let a trained model write on from a prompt.

    Without a prompt it writes from the beginning of a document. A text ends with its document, or after --most tokens,
    and never in the middle of a character.

    Example: corpusmill generate runs/demo-model --prompt "The" --most 40 --top-p 0.95
    """
    needs_torch()
    from trainer.judge.subject import open_subject

    texts = [*(prompt or []), *(_lines(prompts) if prompts is not None else [])] or [""]
    subject = open_subject(checkpoint, device, _say, tokenizer, average)
    asked = [text for text in texts for _ in range(number)]
    for first in range(0, len(asked), batch):
        some = asked[first : first + batch]
        tokens = subject.prompts(some)
        made = subject.write(tokens, most, temperature, top_k, top_p, seed + first)
        for text, read, written in zip(some, tokens, made, strict=True):
            found = subject.text(read, written)
            if as_json:
                print(json.dumps({"prompt": text, "text": found, "tokens": len(written)}, ensure_ascii=False))
            else:
                print(text + found if subject.model.encoder is None else f"{text} -> {found}")
                if len(asked) > 1:
                    print("-" * 8)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        return [json.loads(line)["prompt"] for line in lines] if path.suffix == ".jsonl" else lines
    except OSError as error:
        raise RecipeError(f"--prompts: {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f'--prompts: a line of {path} is no JSON object with a text under "prompt"') from error


@command("eval")
def evaluate(
    checkpoint: Checkpoint,
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks", metavar="NAME,...", help="Names of tasks, or files of items (.jsonl, .csv), by commas."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The folder that the benchmarks' files are in.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option("--shots", metavar="N", min=0, help="Examples before each item; else the task's own.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N items.")] = None,
    include: Annotated[
        Path | None, typer.Option("--include", metavar="DIR", help="Task files (YAML) of lm-evaluation-harness.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Where the figures go.")] = None,
    items: Annotated[
        Path | None, typer.Option("--items", metavar="FILE.jsonl", help="Where each item's prompt and answer go.")
    ] = None,
    tokenizer: TokenizerFile = None,
    average: Average = False,
    device: Device = "auto",
    batch: Batch = 16,
    as_json: AsJson = False,
) -> None:
    """Judge a trained model by benchmarks on local files, with lm-evaluation-harness. Asks nothing of the network.

    Tasks: arc_easy, arc_challenge, hellaswag, hellaswag_text, piqa, boolq, winogrande, openbookqa, copa,
    lambada_openai, gsm8k, crows_pairs_english (and _gender, _age, ...), translation_SOURCE_TARGET. A file of one's own
    is a task by its columns: query, choices, gold; question, A, B, ..., answer; premise, hypothesis, label; context,
    continuation; context, answer; text.

    Example: corpusmill eval runs/demo-model --tasks arc_easy,piqa --data benchmarks --shots 1 --out results.json
    """
    needs_torch()
    if include is not None and not include.is_dir():
        raise RecipeError(f"--include: {include} is no folder")
    if data is not None and not data.is_dir():
        raise RecipeError(f"--data: {data} is no folder")
    from trainer.judge.judging import judge
    from trainer.judge.subject import open_subject

    subject = open_subject(checkpoint, device, _say, tokenizer, average)
    found = judge(subject, [name.strip() for name in tasks.split(",")], data, shots, limit, batch, include)
    rows = found.pop("items")
    if items is not None:
        lines = (
            json.dumps({"task": task} | row, ensure_ascii=False, default=str) for task in rows for row in rows[task]
        )
        write_out(items, "".join(f"{line}\n" for line in lines))
    if out is not None:
        write_out(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    table = Table(title=found["model"], title_justify="left")
    for name in ("task", "metric"):
        table.add_column(name)
    for name in ("value", "± standard error", "by chance", "items", "shots"):
        table.add_column(name, justify="right")
    for task, result in found["results"].items():
        for metric, one in result["metrics"].items():
            error = "" if one["stderr"] is None else f"{one['stderr']:.4f}"
            chance = "" if result["chance"] is None or not metric.startswith(BY_CHOICE) else f"{result['chance']:.4f}"
            table.add_row(
                task, metric, f"{one['value']:.4f}", error, chance, f"{result['items']:,}", str(result["shots"])
            )
    console().print(table)


@command("plant-canaries")
def plant_canaries(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to make: documents.jsonl, and secrets.json beside.")
    ],
    repeats: Annotated[
        str, typer.Option("--repeats", metavar="N,...", help="How often canaries are planted; 0: kept to compare with.")
    ] = "0,1,2,4,8,16,32",
    each: Annotated[int, typer.Option("--each", metavar="N", min=1, help="Canaries for each of these numbers.")] = 5,
    template: Annotated[
        str | None, typer.Option("--template", metavar="TEXT", help="A sentence with {name} and, behind it, {secret}.")
    ] = None,
    alphabet: Annotated[
        str, typer.Option("--alphabet", help="The characters that secrets are made of.")
    ] = "0123456789",
    length: Annotated[int, typer.Option("--length", metavar="N", min=1, help="Characters of a secret.")] = 9,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other secrets for another seed.")] = 0,
) -> None:
    """Make documents with random secrets, to be planted into a corpus: how many of them will its model say by heart?

    documents.jsonl is a source of a recipe like any other. Equal documents are what stages against duplicates take out,
    and short ones what stages on quality do: restrict those to the other sources (`sources: [...]`), or drop the copies
    knowingly, to see that they work. secrets.json is for `corpusmill memorisation`; keep it out of the corpus.

    Example: corpusmill plant-canaries runs/canaries --repeats 0,1,10,100 --template "员工{name}的口令是{secret}。"
    """
    from trainer.judge.canaries import TEMPLATE, documents, make

    try:
        numbers = sorted({int(one) for one in repeats.split(",")})
    except ValueError as error:
        raise RecipeError(f"--repeats: {repeats} is no list of numbers such as 0,1,10") from error
    if numbers[0] < 0:
        raise RecipeError(f"--repeats: {numbers[0]} is below 0")
    planted = make(numbers, each, template or TEMPLATE, alphabet, length, seed)
    texts = documents(planted, seed)
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    write_out(out / "documents.jsonl", "".join(f"{line}\n" for line in lines))
    write_out(out / "secrets.json", json.dumps(planted.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
    console().print(f"made: {out}/documents.jsonl, {len(texts)} documents of {len(planted.canaries)} canaries")
    console().print(f"made: {out}/secrets.json, of {planted.bits:.1f} bits each; keep it out of the corpus")


@command("memorisation")
def memorisation(
    checkpoint: Checkpoint,
    canaries: Annotated[
        Path | None, typer.Option("--canaries", metavar="secrets.json", help="What plant-canaries kept.")
    ] = None,
    candidates: Annotated[
        int, typer.Option("--candidates", metavar="N", min=1, help="Secrets that each canary is ranked among.")
    ] = 1000,
    documents: Annotated[
        int | None, typer.Option("--documents", metavar="N", min=1, help="Documents of each split that are tried.")
    ] = None,
    prefix: Annotated[
        int, typer.Option("--prefix", metavar="K", min=1, help="Tokens of a document that are given.")
    ] = 50,
    following: Annotated[int, typer.Option("--next", metavar="M", min=1, help="Tokens that must come out.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other draws for another seed.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Where the figures go.")] = None,
    tokenizer: TokenizerFile = None,
    average: Average = False,
    device: Device = "auto",
    batch: Batch = 64,
    as_json: AsJson = False,
) -> None:
    """Measure what a model has learned by heart: canaries that were planted, documents of its training.

    Exposure is in bits: about 1 where a secret is no likelier than others, at most log2 of their number. Extracted is
    what comes out, token by token, when the model goes on from what stands before it, always with the likeliest.

    Example: corpusmill memorisation runs/demo-model --documents 200 --prefix 16 --next 16
    """
    needs_torch()
    if canaries is None and documents is None:
        raise RecipeError("nothing to measure: give --canaries secrets.json, --documents N, or both")
    from trainer.judge.canaries import read
    from trainer.judge.memorisation import by_repeats, canary_rows, document_rows
    from trainer.judge.subject import open_subject

    planted = None if canaries is None else read(canaries)
    subject = open_subject(checkpoint, device, _say, tokenizer, average)
    found: dict[str, object] = {"model": subject.name}
    tables = []
    if planted is not None:
        rows = canary_rows(subject, planted, candidates, seed, batch)
        grouped = by_repeats(rows)
        found |= {"canaries": rows, "by_repeats": grouped}
        tables.append((f"canaries, of {planted.bits:.1f} bits, among {candidates:,} others", grouped))
    if documents is not None:
        splits = document_rows(subject, documents, prefix, following, seed, batch)
        found |= {"documents": splits, "prefix": prefix, "next": following}
        tables.append((f"documents: {prefix} tokens given, {following} to come out", splits))
    if out is not None:
        write_out(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for title, shown in tables:
        table = Table(title=title, title_justify="left")
        for name in shown[0]:
            table.add_column(name.replace("_", " "), justify="right")
        for row in shown:
            table.add_row(
                *(f"{one:.3f}" if isinstance(one, float) else str("" if one is None else one) for one in row.values())
            )
        console().print(table)
