"""`corpusmill worker`: the processes that do the work of a run on a cluster, on one host of it.

A runner such as Flink asks a host's pool for workers, over gRPC, as Beam's `worker_pool_main` has it, and asks anew for
each phase of a run; a fresh interpreter would take seconds of CPU time each time. Read in this order:

- `service`: the pool's own process. It has loaded what workers need, has neither threads nor gRPC, and forks the
  others: its server, and nurseries, of which workers are forks (see `pipeline.nursery`): one for each run, with the
  models of its stages, so that they lie in memory once however many workers there are. All of them end with it.
- `server`: the gRPC side, in a process that may be killed and is started again.
- `telling`: what runs tell pools, beside what runners ask of them.
- `logs`: a file for each worker, bounded.
- `start`: what the command line turns into.
"""
