"""Teachers: policies that may be large and may know in training what no network will ever be told.

| name | what it is | module |
|---|---|---|
| privileged | is told in training what every action would have been worth | `distila.training.teachers.privileged` |
"""
