"""What a recipe will take on a crawl and machines that are not here: `corpusmill plan-run`.

Read in this order: `asked` (the crawl and the machines), `measured` (what a finished run of the recipe cost, out of its
ledger), `laws` (what each of the 22 phases scales with, reads and holds), `lines` (what a plan is made of), `forecast`
(how it is made), `startup` (what a run takes beside its units), `problems` (what fails first), `view` (the tables).
Every formula, with the source of every constant, is in README.md beside this file, written to be checked by hand.
`share` says how much of a run's CPU time one process alone could spend.
"""
