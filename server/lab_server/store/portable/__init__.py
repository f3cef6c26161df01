"""SQL that is written once and compiled for each database: texts, and values in JSON."""
