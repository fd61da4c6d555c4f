"""The commands of dev.py: environment in .venv, ComfyUI hosts in .host, demo, tests and benchmark."""
