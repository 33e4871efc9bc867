"""The configuration of a run: its schema, its composition from conf/, and which targets a component may name."""
