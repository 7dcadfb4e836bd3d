"""The only room that draws: numbers and pictures in, pictures out; it knows no pipeline and loads no torch."""

from attnreg.plot.sheets import sheet as sheet
