"""Training beside real bases (OmniGen2, Qwen-Image): their weights, how they read prompts, and the two stages."""
