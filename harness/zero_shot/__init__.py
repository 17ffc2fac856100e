"""Published zero-shot tasks: made of files, held to their published anchors, forecast and scored.

``tasks`` knows them without their data, ``recipes`` makes their series of files, ``cases`` cuts
the series, ``gate`` lets only those tasks pass whose seasonal naive has the published scores. Any
predictor of gluonts (``predictors``) is asked for forecasts (``forecasts``), which are checked
before ``scores`` measures them by the rule of their benchmark. Nothing here reaches torch.
"""
