"""What a model is like that is in no entry of FAMILIES: something is changed, and what moves is looked at."""
