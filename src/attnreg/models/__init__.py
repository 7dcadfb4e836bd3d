"""Names, directories and hub ids become pipelines; the bundled models and what they know."""
