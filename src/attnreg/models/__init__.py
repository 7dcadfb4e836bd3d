"""Names, directories and hub ids become pipelines; the bundled model and what it knows."""
