"""The app: one page in a browser that draws with the library. A door: it holds no logic that the library lacks."""
