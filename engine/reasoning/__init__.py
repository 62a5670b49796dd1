"""What can be said of rules and policies without an event: the typed tree given to an SMT solver (z3).

Officers' tools are made of it (`arbiter check`, `arbiter prove`). No server imports it.
"""
