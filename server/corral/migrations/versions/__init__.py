"""One file per revision, `NNNN_what.py`; its revision is `NNNN`. A revision that was released is not edited."""
