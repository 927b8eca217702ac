"""How fast the tool is, as ratios against the bare page statement and against one upsert per lead."""
