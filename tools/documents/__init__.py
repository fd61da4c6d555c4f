"""Everything in the repository's pages that is made from other files: `python -m tools.documents` writes it.

help_pages.py  web/docs/<node id>/en.md, the one source of what is said about a node, and its translations
nodes.py       lists and tables of nodes, templates and messages, from help pages and workflows
figures.py     tables from JSON files of figures
blocks.py      the marks in a page between which a generated part stands
writing.py     which files are made, and which of them are out of date

Standard library only.
"""
