"""The bases that are trained beside: the Mini, OmniGen2 and Qwen-Image. Their networks, weights and prompts."""
