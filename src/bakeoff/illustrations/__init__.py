"""`bakeoff show`: the ideas as pictures, drawn from the same classes that train the nets."""
