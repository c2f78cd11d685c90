"""HTML to the text of its main content.

`stage.py` is the stage that recipes name: limits, decoding, the engines, the verdicts. Our own engine, `blocks`, takes
a page through these files, in the order to read them:

1. `scan.py`: the page as a list of events, cut into blocks; nothing behind it sees HTML as a tree.
2. What is counted of a block: `characters.py` (classes of characters in any script), `tokens.py` (a text as hashes of
   its words), `attributes.py` (the words of classes and ids), `said.py` (the words by which the page describes
   itself), and `blocks.py`, which counts all of it in one pass.
3. What is judged by: `weights.py` (which words speak for content), `siblings.py` (blocks of one make), `features.py`
   (a row of figures for each block), `context.py` (what a first model thinks of a block's surroundings).
4. `model.py`: two forests, and the choice of blocks for the whole page; `whole.py`: code, tables and repeated texts,
   which are kept or left whole. `stages/data/extract-blocks.md` is the model's card, `pipeline.train_extractor` makes
   it, `folds.py` says which pages may score it.
5. `render.py`: the kept blocks as text or Markdown, with `markup.py` (small helpers over events), `layout.py` (what an
   element does to the text around it), `writing.py`, `code.py` and `formulas.py`.

Beside the engine: `effort.py` (what a page would cost a parser, before any sees it), `peers.py` (trafilatura and
resiliparse), and what a page says of itself: `metadata.py`, from `head.py` by `titles.py`, `published.py`, `dates.py`
and `months.py`.
"""

from stages.extract.stage import Extract

__all__ = ["Extract"]
