"""What runs behind the nodes: loaded checkpoints, prompts, prediction, injection, guidance. There is no schema here."""
