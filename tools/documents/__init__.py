"""Writes all generated parts of the repository's pages, and its blueprints: `python -m tools.documents`.

help_pages.py  the help pages of the nodes: web/docs/<node id>/en.md, and their translations
nodes.py       lists and tables of nodes, templates and messages, from help pages and workflows
blueprints.py  subgraphs/, from the templates
figures.py     tables from JSON files of figures
blocks.py      the marks around a generated part of a page
writing.py     which files are generated, and which of them are out of date

Standard library only.
"""
