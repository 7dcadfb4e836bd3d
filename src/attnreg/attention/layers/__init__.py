"""How the attention call of a layer is caught, changed and put back."""
