"""Makes deploy/grafana/*.json from the schema: ``make dashboards``.

Helps become descriptions, families' units the panels', and what no panel was thought of for stands
in the board of all numbers: nothing that is exported is shown nowhere. The files are committed;
tests/unit/metrics/test_dashboards.py keeps them fresh.
"""
