"""How well a language model turns prompts into layouts, by the way that Plan Scene Layout asks it."""
