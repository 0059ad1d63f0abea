"""Teachers: policies that may be large, and may use information in training that a network in service does not have.

| name | what it is | module |
|---|---|---|
| privileged | learns from the value of every action | `distila.training.teachers.privileged` |
"""
