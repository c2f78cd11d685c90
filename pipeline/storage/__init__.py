"""Files that do not lie on this machine: any address that fsspec can open, read as if it were a local file.

Read in this order: `address` (what an address is, its options, which package it needs), `patience` (what is tried
again, and when to give up), `remote` (what a store says of a file, and its bytes by range). A local path never
comes through here: it is opened plainly.

What identifies a remote file, so that none is downloaded only to be named:

- a digest of its contents that the store gives (S3's and Google's MD5, Hugging Face's SHA): a copy elsewhere in
  such a store, or a rename, redoes nothing;
- else the validator of the address (ETag, else date of change) with size and address: a moved file is read again;
- else its contents, read once for this.

So a remote file travels once, in ranges, while it is worked on. It is cut into splits where that takes few reads
(Parquet) or where it is very large (`pipeline.phases.index.REMOTE_SPLIT_BYTES`): the members of a compressed
stream can be found only by reading all of it, which then costs a second journey.
"""
