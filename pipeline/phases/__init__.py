"""The phases of a run, each a function from a unit of work to committed parts."""
