"""FlexiGPT (arXiv 2501.14713): blocks of little influence replaced by others whose weights they share, with adapters of low rank.

`python -m mossc.flexi prune|extend|recover`; docs/flexi.md.
"""
