"""How an edit of attention reaches a model: find the layers, catch their one attention call, put everything back."""
