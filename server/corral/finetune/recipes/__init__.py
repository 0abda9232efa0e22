"""The same job for those who train elsewhere: rows in the other tool's format, and its configuration.

job.py          what every recipe needs to know       axolotl.py, llama_factory.py, unsloth.py  one each
deepspeed.py    ZeRO stage 2                          write.py  the folder
"""
