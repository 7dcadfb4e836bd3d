"""What a regulated picture costs and shows. Not part of the installed package."""
