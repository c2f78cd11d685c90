"""Looking: into a run that is done or on its way, and ahead of one. Nothing here is needed to make a corpus.

Read in this order: `runfolder` (a run as its ledger names it), `overview` and `content` (inspect), `report` (a run as
an HTML page), `dropped`, `trace` with `find` and `reextract` (from a token to its record and back), `verify`,
`clean_folder`; `database` (a run as views of DuckDB), `sql`, `labels` and `browse` (a local page) on top of it;
`try_page` (one page through the stages) and `estimate` (a dry run). Files that end in `view` print what the others
found.
"""
