"""Rules on the quality of a text, as thresholds over one table of counts.

`fields` says what is counted, `count` counts it in one compiled pass, `statistics` keeps the table beside the text so
that the stages behind each other share it; `lines`, `phrases` and `stopwords` find what hangs on settings; `rules` is
the base of the stages: `gopher`, `repetition`, `c4`, `fineweb`, `refinedweb`.
"""
