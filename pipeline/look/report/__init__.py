"""`corpusmill report`: a run, or two beside each other, as one HTML page that stands alone.

Read in this order: `facts` (what a report says of one run), with `chosen` (which documents it shows), `rules` and
`again` (texts of dropped documents, from the crawl); `single` (the page on one run, with `marks` in its texts and
`vocabulary` for its tokenizer); `compare` (two runs); `charts` (figures for Plotly) and `page` (HTML by the templates
in `page/`). All that is shown of documents comes from the crawl and is hostile: templates escape it, and the page's
own policy lets no script run but its two.
"""
