"""Pictures of ideas, drawn from the classes that train the nets (`bakeoff show`)."""
