r"""Emoticons of plain text, and the emoji that each stands for. Chosen by us; under the licence of corpusmill.

Left out on purpose is what ordinary text and code hold as well: `8)`, `B)` and `x)` number lists, `:]` and `:[` are
slices, `:|` and `:-|` are in Markdown's tables, `:3` is a ratio, `D:` a drive, `XD` a product, `:*`
begins what is stressed, `:\` is LaTeX, `-.-` is Morse.
"""

from __future__ import annotations

_BY_EMOJI = {
    "🙂": ":) :-) =) =-) :^)",
    "😀": ":D :-D =D =-D",
    "😉": ";) ;-) ;^)",
    "🙁": ":( :-( =( =-( :^(",
    "😢": ":'( :'-( :’( =’( ='(",
    "🥲": ":') :'-) :’)",
    "😛": ":P :p :-P :-p =P =p",
    "😜": ";P ;p ;-P ;-p",
    "😮": ":O :o :-O :-o",
    "😗": ":-* =*",
    "😕": ":/ :-/ :-\\ =/ =\\",
    "😆": "xD x-D",
    "😎": "8-) B-)",
    "😑": "-_-",
    "😄": "^_^ ^-^ ^.^",
    "😭": "T_T T-T",
    "😣": ">_< >.<",
    "🤨": "o_O O_o o.O O.o",
    "😠": ">:( >:-(",
    "😈": ">:) >:-) }:) }:-)",
    "😇": "O:) O:-) 0:) 0:-)",
    "🙌": "\\o/",
    "🤷": "¯\\_(ツ)_/¯",
    "❤️": "<3",
    "💔": "</3",
}

EMOTICONS = {emoticon: symbol for symbol, all_of_it in _BY_EMOJI.items() for emoticon in all_of_it.split()}
