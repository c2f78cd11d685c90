"""Living with a corpus that is finished: look into its shards, check, merge, take documents out, describe.

Works on run folders and on what is left where a corpus was published or copied: `corpus.json`, shards, tokenizer,
perhaps documents. Read `folder` (opening one) and `new` (writing one) first; then `checks` (`corpusmill verify`),
`showing` (`head`, `decode`), `merging`, `removal` and `card`.
"""
