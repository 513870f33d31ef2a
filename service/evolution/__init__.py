"""/evolution: the schema's history and state, for people and for machines."""
