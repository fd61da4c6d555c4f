"""The commands of dev.py: environment in .venv, ComfyUI hosts in .host, demo, tests and benchmark.

What dev.py imports needs only the standard library.
"""
