"""Byte-level BPE inside of kernels: `cutting` text into words, `merging` the bytes of a word, words that are `kept`.

`pipeline.tokenizers.compiled` makes an encoder of them.
"""
