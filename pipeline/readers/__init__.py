"""From files to records, with every byte accounted for."""
