"""What a base model must offer to the method: prompt keys/values, a velocity, and where F enters."""
