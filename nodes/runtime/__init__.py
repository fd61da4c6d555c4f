"""What runs behind the nodes, inside the host: loaded checkpoints, prompts, injection, guidance. No schema is here."""
