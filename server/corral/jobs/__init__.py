"""Everything slow: a queue in the database, workers that take jobs from it, stages as child processes.

kinds.py    what kinds of jobs there are: a spec and a plan of stages
runner.py   runs a plan in a folder; `run_now` does so in the foreground
keeper.py   the program between a worker and a stage that leaves no process behind
queue.py    submit, claim under a lease, heartbeat, finish, cancel; `tables.py` is its schema
worker.py   claims and runs until told to stop; `child.py` keeps workers beside `corral serve`
routes.py   /corral/v1/jobs
"""
