"""The decision engine: everything that would exist without HTTP.

Modules stand on floors; a module imports only from the floors below its own
(held by import-linter, see `pyproject.toml`):

    1  errors · jcs · merkle · money · verdict   words and mathematics
    2  schema · packs · database · stores        events · YAML · tables · running state
    3  expr · lists · vault                      conditions · named lists · personal data
    4  features · rules · policy                 windows · findings · verdicts
    5  rulebook                                  all packs, checked, compiled, named by hash
    6  decide                                    one event → one verdict
    7  ledger · cases                            write, prove, resolve
    8  assembly                                  settings and wiring
"""
