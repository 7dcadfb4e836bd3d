"""The documentation site: `make docs` builds it into build/site from docs/, the notebooks and the docstrings."""
