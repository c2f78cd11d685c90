"""How likely a text is to an n-gram model of its language: CCNet's measure of quality (Wenzek et al. 2020).

`normal` writes lines as CCNet's models know them, `ngrams` reads KenLM's files, `score` asks them in one pass over a
batch, `model` adds SentencePiece, `stage` puts it together.
"""

from stages.perplexity.stage import LanguageModel as LanguageModel
from stages.perplexity.stage import Perplexity as Perplexity
