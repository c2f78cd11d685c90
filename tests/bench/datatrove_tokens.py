"""datatrove's tokenizer step, timed. Runs in an environment of its own: it imports nothing of ours.

`python datatrove_tokens.py FOLDER ROUNDS` reads FOLDER/texts.json, texts by language, and
FOLDER/tokenizer/tokenizer.json, and prints a JSON object of CPU seconds by language.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.tokens import DocumentTokenizer


def main(folder: str, rounds: str) -> None:
    texts = json.loads((Path(folder) / "texts.json").read_text("utf-8"))
    model = str(Path(folder) / "tokenizer" / "tokenizer.json")
    found = {}
    for language, some in texts.items():
        best = float("inf")
        for _ in range(int(rounds)):
            with tempfile.TemporaryDirectory() as out:
                step = DocumentTokenizer(out, tokenizer_name_or_path=model, eos_token="<|endoftext|>")
                step.tokenizer  # noqa: B018 - loads it, which is not timed
                documents = [Document(text=text, id=str(number)) for number, text in enumerate(some)]
                begun = time.process_time()
                step.run(iter(documents))
                best = min(best, time.process_time() - begun)
        found[language] = best
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:3])
