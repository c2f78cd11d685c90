"""`corpusmill browse`: a local page to look at the documents of a run, and to judge them.

Read in this order: `filters` (what is asked for, as it stands in the address bar), `rows` (finding rows of many
Parquet files without loading them), `document` (what is known of one), `again` (its record, extracted once more),
`server` (addresses and what guards them). Pages are in `templates`, script and style in `static`.

Documents are hostile: nothing of them is ever markup here. Templates escape, the script sets text only, and the
Content-Security-Policy allows no other script, style, image or request than those of this server.
"""
