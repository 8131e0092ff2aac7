#!/usr/bin/env python3
"""Prints each expression of a Grafana dashboard as a recording rule, so that
promtool can say whether it is PromQL."""
import json, sys

dashboard = json.load(open(sys.argv[1], encoding="utf-8"))
rules = []
for panel in dashboard["panels"]:
    for target in panel.get("targets", []):
        expr = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        rules.append({"record": f"panel{panel['id']}:{target['refId']}", "expr": expr})
if not rules:
    sys.exit(f"{sys.argv[1]}: no expressions")
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
