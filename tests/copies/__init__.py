"""Small copies of the data sets' original files, as the sources read them."""
