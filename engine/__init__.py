"""The decision engine: everything that would exist without HTTP.

Modules stand on floors and import only from floors below their own. The floors are the import-linter contract in
`pyproject.toml`; the README says in a line what stands on each. To follow one event, read `intake`, then `decide`.
"""
