"""Token substrings that recur across documents, found without comparing documents (Lee et al. 2022, Deduplicating
Training Data Makes Language Models Better, section 4.2, ExactSubstr).

A stretch is `tokens` words in a row; one that also stands earlier in the order of the documents is cut. Two steps of
grouping find all of them, each over small records that may be sorted anywhere:

1. `winnow.fingerprints`: of the stretches of a text a few runs of words are chosen by their contents alone, so that
   two equal stretches choose the same run at the same place in them. Runs that occur once are the end of it: most are.
2. `groups.decide` settles what is plain, as the copies of one notice; where occurrences of a run differ in what stands
   around it, `winnow.windows` gives the 128-bit digests of the very stretches, and `groups.decide` decides on those.

So nothing is compared twice, a run with a million occurrences costs a million steps, and every stretch is found: its
earliest occurrence is known, not that of a part of it. Read `located`, `winnow`, `groups`, `cut`; `repeated` runs all
of it in memory.
"""
