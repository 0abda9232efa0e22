"""Where training rows come from: a FOLIO system, a folder of documents, a teacher model.

All network traffic of `corral.datasets` is in two files here: `folio_source.py` and `teacher.py`.
The rest takes what they fetch as plain values, so that it runs and tests without a network.

    folio_source ─► folio (pages, names) ─► template ─► rows ─┐
    folder ─► documents ─► front_matter, chunks ─► rows ──────┼─► journal ─► OUT, OUT.journal
    prompts ─► generate, evolve ─► teacher ─► accept ─► rows ─┘
"""
