"""A dataset card in Hugging Face's form: YAML for machines, Markdown for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from pipeline.corpora.card import SIZES
from stages.registry import STAGES

MOST = 20
"""Lines of a table."""
PRIVATE = ("pii", "secrets")
HARM = ("toxicity", "toxicity_model", "url", "bias")


def markdown(facts: dict[str, Any], license_: str | None = None, contact: str | None = None) -> str:
    """The card. `license_` is Hugging Face's name of a licence, `contact` whom to ask for corrections."""
    parts = [
        "---\n" + _front(facts, license_) + "---\n",
        f"# {facts['name']}\n",
        f"A text corpus for pretraining language models: {_glance(facts)}.",
        "This card was written by `corpusmill card` from the books of the run; its figures are counted.\n",
        _loading(facts),
        _sources(facts),
        _languages(facts),
        _made(facts),
        _dedup(facts),
        _personal(facts),
        _licences(facts, license_),
        _shards(facts),
        _limits(facts),
        _removed(facts, contact),
        _reproduce(facts),
    ]
    return "\n".join(part for part in parts if part)


def _front(facts: dict[str, Any], license_: str | None) -> str:
    languages = [name for name in facts["languages"] if name and name != "unknown"]
    data = {
        "license": license_ or "unknown",
        "language": sorted(languages),
        "size_categories": [next((name for limit, name in SIZES if facts["documents"] < limit), "n>1T")],
        "task_categories": ["text-generation"],
        "pretty_name": facts["name"],
        "tags": ["pretraining", "corpusmill"],
        "configs": facts["configs"],
    }
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1_000))


def _glance(facts: dict[str, Any]) -> str:
    train = facts["splits"].get("train")
    say = [f"{facts['documents']:,} documents"]
    if facts["run"]:
        say.append(f"{facts['run']['characters']:,} characters")
    if train:
        say.append(f"{train['tokens']:,} tokens in the training split")
    return ", ".join([*say, f"{len(facts['sources'])} sources, {len([n for n in facts['languages'] if n])} languages"])


def _loading(facts: dict[str, Any]) -> str:
    names = [config["config_name"] for config in facts["configs"]]
    lines = ["## Loading\n", "```python", "from datasets import load_dataset\n"]
    if "default" in names:
        lines.append('documents = load_dataset("PATH", split="train")  # texts with everything known of them')
    source = next((name for name in names if name.startswith("source-")), None)
    if source:
        lines.append(f'one = load_dataset("PATH", "{source}", split="train")  # one source alone')
    if "shards" in names:
        lines.append('shards = load_dataset("PATH", "shards", split="train")  # what stands where in the token shards')
    lines.append("```\n")
    if facts["splits"]:
        lines.append(
            f"`shards/*.bin` are {facts['corpus']['dtype']} tokens without a header (`numpy.memmap` reads them), each "
            "with an index that Megatron-LM reads (`.idx`) and a table of its documents (`.docs.parquet`); "
            "`corpus.json` names tokenizer, boundary and the digest of every file. `corpusmill verify` checks them.\n"
        )
    return "\n".join(lines)


def _sources(facts: dict[str, Any]) -> str:
    corpus = facts["corpus"] or {"sources": {}, "mixture": {}}
    rows = []
    for name, documents in facts["sources"].items():
        sizes = corpus["sources"].get(name, {})
        rows.append([name, documents, sizes.get("characters"), sizes.get("tokens")])
    text = "## Sources\n\n" + _table(["source", "documents", "characters", "tokens"], rows)
    inputs = [one for recipe in facts["recipes"] for one in recipe["inputs"]]
    for one in inputs[:MOST]:
        path = one["path"] or one["list"]
        files = ", ".join(f"`{name}`" for name in ([path] if isinstance(path, str) else path))
        text += f"\n- {one['source']}: {one['format'] or 'by ending'}, {files}"
    return text + "\n"


def _languages(facts: dict[str, Any]) -> str:
    total = sum(facts["languages"].values())
    rows = [
        [name or "unknown", count, f"{count / total:.1%}"] for name, count in list(facts["languages"].items())[:MOST]
    ]
    more = len(facts["languages"]) - MOST
    tail = f"\nand {more} more.\n" if more > 0 else ""
    return "## Languages\n\n" + _table(["language", "documents", "share"], rows) + tail


def _made(facts: dict[str, Any]) -> str:
    text = "## How it was made\n\n"
    run = facts["run"]
    if run:
        kept = facts["documents"]
        text += (
            f"{run['framed']:,} records were read ({run['bytes']:,} bytes); every one was kept or dropped with one "
            f"reason, {kept:,} are left.\n\n"
        )
        rows = []
        for step in run["funnel"]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in list(step["reasons"].items())[:4])
            share = f"{step['dropped'] / step['entered']:.1%}" if step["entered"] else "-"
            rows.append([step["stage"], step["entered"], step["dropped"], share, reasons or "-"])
        text += _table(["step", "entered", "dropped", "share", "most frequent reasons"], rows) + "\n"
    for name, settings in _stages(facts):
        kind = STAGES.get(name)
        about = " ".join((kind.__doc__ or "").split("\n\n")[0].split()) if kind else "A stage of the user's own."
        given = ", ".join(f"{key}: {value}" for key, value in (settings or {}).items())
        text += f"- **{name}**{f' ({given})' if given else ''}: {about}\n"
    return text


def _stages(facts: dict[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    """Every stage of the recipes, once."""
    found: dict[str, tuple[str, dict[str, Any] | None]] = {}
    for recipe in facts["recipes"]:
        for item in recipe["stages"]:
            ((name, settings),) = item.items()
            found.setdefault(f"{name} {settings}", (name, settings))
    return list(found.values())


def _dedup(facts: dict[str, Any]) -> str:
    text = "## Deduplication\n\n"
    asked = [recipe["dedup"] for recipe in facts["recipes"] if recipe.get("dedup")]
    if not asked:
        return text + "Only records that are equal to the byte were collapsed.\n"
    for one in asked:
        say = [f"exact by {', '.join(one['exact'])}"] if one["exact"] else []
        if one["near"]:
            near = one["near"]
            say.append(
                f"near duplicates by MinHash over {near['ngram']}-grams of words, {near['permutations']} permutations, "
                f"from a similarity of {near['threshold']}"
            )
        if one.get("substrings"):
            say.append("repeated substrings")
        text += f"- {'; '.join(say)}\n"
    if facts["corpus"] and facts["corpus"].get("merged"):
        text += "- corpora were merged by the ids of documents; near duplicates across them were not looked for\n"
    return text


def _personal(facts: dict[str, Any]) -> str:
    names = [name for name, _ in _stages(facts)]
    private, harm = ([name for name in group if name in names] for group in (PRIVATE, HARM))
    text = "## Personal data and harmful text\n\n"
    text += (
        f"Personal data were looked for by: {', '.join(private)} (see above). What they miss is still there.\n"
        if private
        else "No stage looked for personal data: names, addresses and numbers stand as the sources have them.\n"
    )
    text += (
        f"Harmful text was looked for by: {', '.join(harm)} (see above). Word lists and classifiers err both ways.\n"
        if harm
        else "No stage looked for harmful text.\n"
    )
    return text


def _licences(facts: dict[str, Any], license_: str | None) -> str:
    text = "## Licence\n\n"
    text += (
        f"The compilation is released as `{license_}`. The texts stay under the terms of their authors.\n"
        if license_
        else "TODO: the licence of the compilation (`corpusmill card --license`). The texts stay under the terms of "
        "their authors.\n"
    )
    named = {name: count for name, count in facts["licences"].items() if name}
    if named:
        rows = [[name, count] for name, count in list(named.items())[:MOST]]
        text += "\nLicences that pages name themselves:\n\n" + _table(["licence", "documents"], rows)
    return text


def _shards(facts: dict[str, Any]) -> str:
    if not facts["splits"]:
        return ""
    corpus = facts["corpus"]
    text = "## Tokens, mixture, splits\n\n"
    tokenizer = corpus["tokenizer"]
    text += (
        f"Tokenizer: `{tokenizer['file']}`, {corpus['vocabulary']:,} tokens, digest `{tokenizer['digest'][:16]}`; "
        f"documents are bounded {corpus['boundary']}; layout {corpus['layout']}.\n\n"
    )
    rows = [[name, split["documents"], split["tokens"], split["shards"]] for name, split in facts["splits"].items()]
    text += _table(["split", "documents (with copies)", "tokens", "shards"], rows)
    text += "\nSplits other than `train` hold whole registered domains: no page of a site is on both sides.\n\n"
    keys = ("share_asked", "tokens_asked", "tokens_reached", "epochs")
    rows = [[name, *(one.get(key) for key in keys)] for name, one in (corpus.get("mixture") or {}).items()]
    return text + (_table(["group", "share asked", "tokens asked", "tokens reached", "epochs"], rows) if rows else "")


def _limits(facts: dict[str, Any]) -> str:
    names = {name for name, _ in _stages(facts)}
    lines = ["## Known limits\n", "- Rules and models that choose documents err; what they dropped is not in here."]
    if names & {"gopher_quality", "gopher_repetition", "c4", "fineweb_quality", "c4_paragraphs"}:
        lines.append("- The quality rules were found on English web pages; they judge other languages less well.")
    if "language" in names:
        lines.append("- Languages are guessed by a model; short texts, close languages and dialects are confused.")
    if "extract" in names:
        lines.append("- Texts were extracted from pages: some lack parts, some keep menus or comments.")
    if any((recipe.get("dedup") or {}).get("near") for recipe in facts["recipes"]):
        lines.append("- Near duplicates below the threshold remain, and a few above it by the chance of hashing.")
    lines.append("- Whoever writes on the web is not everybody: groups and places are represented unequally.")
    return "\n".join(lines) + "\n"


def _removed(facts: dict[str, Any], contact: str | None) -> str:
    text = "## Taking documents out\n\n"
    text += f"Write to {contact}" if contact else "TODO: whom to write to (`--contact`)"
    text += " to have documents taken out.\n"
    for one in facts["removed"]:
        asked = ", ".join(f"{count} by {kind}" for kind, count in one["asked"].items())
        when = f"{one['date']}: " if one["date"] else ""
        text += (
            f"\n- {when}{one['documents']:,} documents ({one['tokens']:,} tokens) were taken out on request ({asked})"
        )
    return text + ("\n" if facts["removed"] else "")


def _reproduce(facts: dict[str, Any]) -> str:
    text = "## Making it again\n\n"
    text += (
        f"With corpusmill {facts['version']}, the same inputs and this recipe, `corpusmill run recipe.yaml` gives the "
        "same bytes on any number of workers.\n"
        if len(facts["recipes"]) == 1
        else "It was merged (`corpusmill merge`) of corpora with these recipes.\n"
        if facts["recipes"]
        else ""
    )
    for recipe in facts["recipes"]:
        plain = {name: value for name, value in recipe.items() if value not in (None, {}, [])}
        body = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1_000)
        text += f"\n<details><summary>recipe {recipe['name']}</summary>\n\n```yaml\n{body}```\n\n</details>\n"
    if facts["run"]:
        packages = ", ".join(f"{name} {version}" for name, version in facts["run"]["packages"].items())
        stages = ", ".join(f"{name} {version}" for name, version in facts["run"]["stages"].items())
        text += f"\nPackages: {packages or 'none'}. Versions of stages: {stages or 'none'}.\n"
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(str(value).replace("|", "\\|").replace("<", "&lt;").split())
