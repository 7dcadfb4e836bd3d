"""What lies ahead of a pipeline's steps: latents that are moved or begun anew, and where they lead."""
