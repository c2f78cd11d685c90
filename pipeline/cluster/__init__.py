"""A Flink session cluster on this machine: a job manager, two task managers with a worker pool beside each, Beam's job
server. `make cluster-up` and `make cluster-down`, and `Cluster` for tests, which may kill any part of it.

Read `jars` first (what is fetched and why it is believed), then `flink` (how each part is set and started), `keeper`
(the process that owns the parts), `state` (what it leaves for others to see), `rest` (what Flink says of itself) and
`local` (what others use: `Cluster`, `running`). Linux only: a part ends with its keeper by a signal of the kernel, and
the second pool listens on 127.0.0.2, which other systems do not have as it is.
"""
