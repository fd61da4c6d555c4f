"""What dev.py does: the environment in .venv, the hosts in .host, the demo and the checks. Standard library only."""
