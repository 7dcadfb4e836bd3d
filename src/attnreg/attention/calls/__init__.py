"""One call of a denoiser: whose rows are whose, what prompts became, and which edits act."""
