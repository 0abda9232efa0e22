"""OpenAI's fine-tuning jobs, run on this machine. A job is a row of the queue (`corral.jobs`).

schemas.py   what may be asked for      names.py    ids and model names
service.py   create, list, cancel …     objects.py  rows as OpenAI's objects
routes.py    /v1/fine_tuning/jobs       stages.py   the stages of a job
full.py      what llama.cpp can do      spec.py, kind.py   a job in the queue
validate.py, beside.py, results.py      stages, and what runs stages beside serving
"""

from corral.jobs.kinds import Kinds

KIND = "finetune"
KINDS = Kinds({KIND: "corral.finetune.kind"})
